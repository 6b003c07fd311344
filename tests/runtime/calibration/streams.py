"""Streams of plain colours for the tiny bundle, whose texts and times are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.runtime.tiny_bundle import BLUE, CLIP, GREEN, RED
from vlj_edge.bundle import DECODER, read_manifest, write_manifest
from vlj_edge.runtime.calibration.events import AnnotatedEvent

TEXTS = {RED: "a red screen", GREEN: "green light glows", BLUE: "blue"}
SCENES = [(colour, 4.0 + index % 3) for index, colour in enumerate([RED, GREEN, BLUE, GREEN] * 4)]


def frames(scenes: list[tuple[tuple[int, int, int], float]] = SCENES, noise: float = 3.0) -> np.ndarray:
    """Pictures at the clip's own rate, uint8 [frames, 16, 16, 3], with noise of this standard deviation."""
    rng = np.random.default_rng(0)
    rate = CLIP.frames_per_second
    plain = np.concatenate([np.tile(np.array(colour), (round(rate * long), 16, 16, 1)) for colour, long in scenes])
    return np.clip(plain + rng.normal(0, noise, plain.shape), 0, 255).astype(np.uint8)


def events(scenes: list[tuple[tuple[int, int, int], float]] = SCENES) -> list[AnnotatedEvent]:
    ends = np.cumsum([long for _, long in scenes]).tolist()
    return [AnnotatedEvent(end - long, end, (TEXTS[colour],)) for (colour, long), end in zip(scenes, ends, strict=True)]


def without_decoder(bundle: Path, copy: Path) -> Path:
    """A copy of a bundle that makes embeddings and no texts."""
    manifest = read_manifest(bundle)
    decoder = manifest.engines[DECODER].file
    copy.mkdir()
    for name in manifest.files:
        if name != decoder:
            (copy / name).write_bytes((bundle / name).read_bytes())
    write_manifest(
        copy,
        replace(
            manifest,
            engines={name: engine for name, engine in manifest.engines.items() if name != DECODER},
            tokenizers={name: each for name, each in manifest.tokenizers.items() if name != DECODER},
            files={name: seal for name, seal in manifest.files.items() if name != decoder},
        ),
    )
    return copy


def write_events(path: Path) -> Path:
    listed = [{"start": e.start, "end": e.end, "captions": list(e.captions), "phase": "plain"} for e in events()]
    path.write_text(json.dumps({"seconds": listed[-1]["end"], "events": listed}))
    return path
