"""Writers of embeddings: JSON lines, a NumPy archive, a record file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

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
    """Writes one JSON object a line: Observation.as_dict(), `clock` (unix time of writing, seconds) and the shortened
    embedding; or only events, without embeddings."""

    def __init__(self, stream: IO[str], shorten: Shorten, events: bool) -> None:
        self._stream, self._shorten, self._events = stream, shorten, events

    def write(self, observation: Observation) -> None:
        """See EmbeddingWriter."""
        if self._events and observation.event is None:
            return
        found = observation.as_dict() | {"clock": time.time()}
        if not self._events:
            found["embedding"] = [round(float(n), 6) for n in self._shorten(observation.item.embedding)]
        self._stream.write(json_text(found) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """See EmbeddingWriter."""


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
