"""Writers of embeddings: JSON lines, a NumPy archive, a record file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from vlj_edge.bundle import Manifest
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.json_text import json_text

from .novelty import Observation
from .quantize import Vector
from .record_file import Layout, RecordFile

Shorten = Callable[[Vector], Vector]  # quantize.shorten() with a width and a basis


class EmbeddingWriter(Protocol):
    """Writes the observation of every window."""

    def write(self, observation: Observation) -> None:
        """Write the next window."""

    def close(self) -> None:
        """Finish the file. May be called twice, and after an interruption."""


class JsonLinesWriter:
    """Writes one JSON object a line: Observation.as_dict(), `clock` (unix seconds) and the shortened embedding."""

    def __init__(self, stream: IO[str], shorten: Shorten) -> None:
        self._stream, self._shorten = stream, shorten

    def write(self, observation: Observation) -> None:
        """See EmbeddingWriter."""
        found = observation.as_dict() | {"clock": time.time()}
        found["embedding"] = [round(float(n), 6) for n in self._shorten(observation.item.embedding)]
        _write_line(self._stream, found)

    def close(self) -> None:
        """See EmbeddingWriter."""


class JsonEventsWriter:
    """Writes one JSON object a line for each event: Observation.as_dict(), `event_end` and `clock` (unix seconds).

    A label's event ends where the next one begins, or with the source; a new window is an event without duration. The
    events of a live source are written at once, with null as the end of a label's; those of a recording in the same
    order, once their ends are known.

    Args:
        video_end: returns the end of what was read of a recording, seconds; None: the source is live.
    """

    def __init__(self, stream: IO[str], video_end: Callable[[], float] | None) -> None:
        self._stream, self._video_end = stream, video_end
        self._waiting: list[dict[str, Any]] = []  # the first is a label's event, whose end is not known yet

    def write(self, observation: Observation) -> None:
        """See EmbeddingWriter."""
        if observation.event is None:
            return
        start = observation.event_start
        if observation.event == "label" and self._waiting:
            self._waiting[0]["event_end"] = start
            self._write_waiting()
        end = None if observation.event == "label" else start
        self._waiting.append(observation.as_dict() | {"event_end": end, "clock": time.time()})
        if self._video_end is None or (end is not None and len(self._waiting) == 1):
            self._write_waiting()

    def close(self) -> None:
        """See EmbeddingWriter."""
        if self._waiting and self._video_end is not None:
            self._waiting[0]["event_end"] = self._video_end()
            self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            _write_line(self._stream, self._waiting.pop(0))


def _write_line(stream: IO[str], found: dict[str, Any]) -> None:
    stream.write(json_text(found) + "\n")
    stream.flush()


class NumpyWriter:
    """Writes one .npz on close(): `time` float64 [windows] in seconds (window centres), `embedding` float32 [windows,
    width], `label` int32 [windows] (index in the bank or -1), `space`."""

    def __init__(self, stream: IO[bytes], manifest: Manifest, width: int, shorten: Shorten) -> None:
        self._stream, self._space, self._width, self._shorten = stream, embedding_space(manifest), width, shorten
        self._times: list[float] = []
        self._rows: list[np.ndarray] = []
        self._labels: list[int] = []
        self._closed = False

    def write(self, observation: Observation) -> None:
        """See EmbeddingWriter."""
        self._times.append(observation.item.window.centre)
        self._rows.append(self._shorten(observation.item.embedding))
        self._labels.append(observation.label_index)

    def close(self) -> None:
        """See EmbeddingWriter.

        Raises:
            OSError: the file cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        rows = np.stack(self._rows) if self._rows else np.zeros((0, self._width), np.float32)
        np.savez(
            self._stream,
            time=np.array(self._times),
            embedding=rows,
            label=np.array(self._labels, np.int32),
            space=np.frombuffer(self._space.encode(), np.uint8),
        )


class RecordWriter:
    """Writes a record file (record_file.py): a stream, or a ring of `slots`. A ring's record is on the disk before the
    next window is encoded."""

    def __init__(self, path: Path, manifest: Manifest, form: str, width: int, shorten: Shorten, slots: int = 0) -> None:
        self._shorten = shorten
        self._file = RecordFile(path, Layout(form, width, embedding_space(manifest), slots), sync=slots > 0)

    def write(self, observation: Observation) -> None:
        """See EmbeddingWriter."""
        self._file.write(
            observation.item.window.centre,
            time.time(),
            self._shorten(observation.item.embedding),
            observation.label_index,
        )

    def close(self) -> None:
        """See EmbeddingWriter."""
        self._file.close()
