"""Narration streams as the runtime sees them: every window's embedding, recorded once and replayed many times."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from cider import Cider
from generate import generate
from rich.console import Console
from rich.progress import track
from texts import open_tokenizer

from vlj_edge.export.weights.locations import DECODER_TOKENIZER
from vlj_edge.export.weights.sources import load_model
from vlj_edge.presets import preset as find_preset
from vlj_edge.runtime.model import Model

console = Console(stderr=True)

Decode = tuple[float, str]  # the centre of the window, or windows, that a text was made of, in seconds; and the text


@dataclass(frozen=True)
class Recording:
    """A stream: times (n,) in seconds, embeddings (n, 384) of unit length, and what happened.

    `live` is what comes out with the scene gate on: where it found the picture unchanged, the last embedding stands;
    `at_rest` (n,) is what the runtime saw of the picture itself.
    """

    name: str
    seconds: float
    centres: np.ndarray
    ends: np.ndarray  # when a window's last frame is there
    embeddings: np.ndarray
    live: np.ndarray
    at_rest: np.ndarray
    encoder_runs: int  # with the scene gate on
    events: list[dict[str, Any]]


def record_all(bundle: Path, streams: Path) -> list[Recording]:
    """Every stream (video and JSON) of a folder, one core to each.

    Raises:
        click.ClickException: the folder holds none.
    """
    videos = sorted(streams.glob("*.mp4"))
    if not videos:
        raise click.ClickException(f"{streams} holds no videos: make_stream.py renders them")
    with multiprocessing.get_context("spawn").Pool() as pool:
        found = pool.imap(partial(record, bundle), videos)
        shown = track(found, "streams", len(videos), console=console, disable=not console.is_terminal)
        return list(shown)


def record(bundle: Path, video: Path) -> Recording:
    """Runs a bundle's encoder and predictor over a stream, without and with the scene gate."""
    model = Model(bundle, threads=1)
    annotation = json.loads(video.with_suffix(".json").read_text())
    every = list(model.embed(video, every_window=True))
    gated = list(model.embed(video))
    return Recording(
        video.stem,
        annotation["seconds"],
        np.array([item.window.centre for item in every]),
        np.array([item.window.end for item in every]),
        np.stack([item.embedding for item in every]),
        np.stack([item.embedding for item in gated]),
        np.array([item.at_rest for item in gated]),
        sum(item.encoded for item in gated),
        annotation["events"],
    )


class Speaker:
    """Texts of embeddings, each made once. Decoding in batches in torch: the decoder engine equals it (parity.json)."""

    def __init__(self, weights: Path) -> None:
        self._model = load_model(weights, find_preset("nano"))
        self._tokenizer = open_tokenizer(weights, DECODER_TOKENIZER)
        self._known: dict[bytes, str] = {}

    def say(self, embeddings: np.ndarray) -> list[str]:
        """The text of each embedding, float32 (n, 384)."""
        keys = [row.tobytes() for row in np.ascontiguousarray(embeddings, np.float32)]
        new = {key: row for key, row in zip(keys, embeddings, strict=True) if key not in self._known}
        if new:
            rows = torch.from_numpy(np.stack(list(new.values())).astype(np.float32))
            self._known |= dict(zip(new, generate(self._model, rows, self._tokenizer), strict=True))
        return [self._known[key] for key in keys]


class Judge:
    """CIDEr of narrations: every event against the text that was decoded nearest to its middle, as in the paper."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._cider = Cider([event["captions"] for recording in recordings for event in recording.events])
        first = np.cumsum([0, *(len(recording.events) for recording in recordings)])
        self._first = {recording.name: int(at) for recording, at in zip(recordings, first[:-1], strict=True)}

    def scores(self, recording: Recording, decodes: Sequence[Decode]) -> np.ndarray:
        """CIDEr of each event of a recording, (events,); zeros where nothing was decoded."""
        if not decodes:
            return np.zeros(len(recording.events))
        times = np.array([time for time, _ in decodes])
        first, found = self._first[recording.name], []
        for number, event in enumerate(recording.events):
            nearest = int(np.abs(times - middle(event)).argmin())
            found.append(self._cider.score(first + number, decodes[nearest][1]))
        return np.array(found)


def middle(event: dict[str, Any]) -> float:
    return (event["start"] + event["end"]) / 2
