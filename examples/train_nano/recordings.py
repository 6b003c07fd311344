"""The embeddings of every window of narration streams, computed by the runtime once and replayed many times."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from generate import generate
from rich.console import Console
from rich.progress import track
from texts import open_tokenizer

from vlj_edge import Model
from vlj_edge.export.weights.locations import DECODER_TOKENIZER
from vlj_edge.export.weights.sources import load_model
from vlj_edge.presets import preset as find_preset
from vlj_edge.runtime.calibration.events import AnnotatedEvent, read_events
from vlj_edge.runtime.evaluation.cider import Cider
from vlj_edge.runtime.evaluation.narration import Text, nearest_scores

console = Console(stderr=True)

Decode = Text  # dated at the centre of the window or windows that were decoded


@dataclass(frozen=True)
class Recording:
    """A stream: times (n,) in seconds, embeddings (n, 384) of unit length, and its annotated events.

    `live` holds the embeddings with the scene gate on: while the picture is unchanged, the last embedding is repeated.
    `at_rest` (n,) says whether the runtime found the picture to stand still.
    """

    name: str
    seconds: float
    centres: np.ndarray
    ends: np.ndarray  # time of a window's last frame
    embeddings: np.ndarray
    live: np.ndarray
    at_rest: np.ndarray
    encoder_runs: int  # with the scene gate on
    events: list[AnnotatedEvent]


def record_all(bundle: Path, streams: Path) -> list[Recording]:
    """Record every stream (video and JSON) of a folder, one stream per core.

    Raises:
        click.ClickException: the folder holds none.
    """
    videos = sorted(streams.glob("*.mp4"))
    if not videos:
        raise click.ClickException(f"{streams} holds no videos: make_stream.py renders them")
    with multiprocessing.get_context("spawn").Pool() as pool:
        recorded = pool.imap(partial(record, bundle), videos)
        shown = track(recorded, "streams", len(videos), console=console, disable=not console.is_terminal)
        return list(shown)


def record(bundle: Path, video: Path) -> Recording:
    """Run a bundle's encoder and predictor over a stream, without and with the scene gate."""
    model = Model(bundle, threads=1)
    annotation = json.loads(video.with_suffix(".json").read_text())
    every = list(model.embed(video, every_window=True))
    gated = list(model.embed(video))
    return Recording(
        f"{video.parent.name}/{video.stem}",
        annotation["seconds"],
        np.array([item.window.centre for item in every]),
        np.array([item.window.end for item in every]),
        np.stack([item.embedding for item in every]),
        np.stack([item.embedding for item in gated]),
        np.array([item.at_rest for item in gated]),
        sum(item.encoded for item in gated),
        read_events(video.with_suffix(".json")),
    )


class TextDecoder:
    """Decodes embeddings in batches in torch, each once. The engine gives the same texts (parity.json)."""

    def __init__(self, weights: Path) -> None:
        self._model = load_model(weights, find_preset("nano"))
        self._tokenizer = open_tokenizer(weights, DECODER_TOKENIZER)
        self._texts: dict[bytes, str] = {}

    def texts(self, embeddings: np.ndarray) -> list[str]:
        """Return the text of each embedding, float32 (n, 384)."""
        keys = [row.tobytes() for row in np.ascontiguousarray(embeddings, np.float32)]
        new = {key: row for key, row in zip(keys, embeddings, strict=True) if key not in self._texts}
        if new:
            rows = torch.from_numpy(np.stack(list(new.values())).astype(np.float32))
            self._texts |= dict(zip(new, generate(self._model, rows, self._tokenizer), strict=True))
        return [self._texts[key] for key in keys]


class Judge:
    """CIDEr of narrations: every event is compared with the text decoded nearest to its middle, as in the paper."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._cider = Cider([event.captions for recording in recordings for event in recording.events])
        first = np.cumsum([0, *(len(recording.events) for recording in recordings)])
        self._first = {recording.name: int(at) for recording, at in zip(recordings, first[:-1], strict=True)}

    def scores(self, recording: Recording, decodes: Sequence[Decode]) -> np.ndarray:
        """CIDEr of each event of a recording, (events,); zeros where nothing was decoded."""
        return np.array(nearest_scores(self._cider, self._first[recording.name], recording.events, decodes))


def middle(event: AnnotatedEvent) -> float:
    return (event.start + event.end) / 2
