"""Where embeddings go: JSON lines, a NumPy archive, a file of records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from vlj_edge.atomic_write import atomic_write
from vlj_edge.bundle import Manifest
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.errors import VljEdgeError

from .novelty import Noticed
from .quantize import Vector
from .record_file import Layout, RecordFile

Shorten = Callable[[Vector], Vector]  # vectors.prefix() of the width that is wanted


class EmbeddingWriter(Protocol):
    """Takes every window. close() may be called twice; what was taken before an interruption is kept."""

    def take(self, noticed: Noticed) -> None:
        """The next window."""

    def close(self) -> None:
        """Nothing comes any more."""


class JsonLinesWriter:
    """One object a line, as Noticed.as_dict(), with the shortened embedding; or events alone, without it."""

    def __init__(self, stream: IO[str], shorten: Shorten, events: bool) -> None:
        self._stream, self._shorten, self._events = stream, shorten, events

    def take(self, noticed: Noticed) -> None:
        """See VectorSink."""
        if self._events and noticed.event is None:
            return
        found = noticed.as_dict()
        if not self._events:
            found["embedding"] = [round(float(n), 6) for n in self._shorten(noticed.item.embedding)]
        self._stream.write(json.dumps(found, ensure_ascii=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """See VectorSink."""


class NumpyWriter:
    """One .npz: `time` float64 [windows] seconds (centres), `embedding` float32 [windows, width], `label` int32
    [windows], `space`. It is written when it is closed."""

    def __init__(self, path: Path, manifest: Manifest, width: int, shorten: Shorten) -> None:
        self._path, self._space, self._width, self._shorten = path, embedding_space(manifest), width, shorten
        self._times: list[float] = []
        self._rows: list[np.ndarray] = []
        self._labels: list[int] = []
        self._closed = False

    def take(self, noticed: Noticed) -> None:
        """See VectorSink."""
        self._times.append(noticed.item.window.centre)
        self._rows.append(self._shorten(noticed.item.embedding))
        self._labels.append(noticed.label)

    def close(self) -> None:
        """See VectorSink.

        Raises:
            VljEdgeError: it cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        rows = np.stack(self._rows) if self._rows else np.zeros((0, self._width), np.float32)
        try:
            with atomic_write(self._path) as stream:
                np.savez(
                    stream,
                    time=np.array(self._times),
                    embedding=rows,
                    label=np.array(self._labels, np.int32),
                    space=np.frombuffer(self._space.encode(), np.uint8),
                )
        except OSError as error:
            raise VljEdgeError(f"{self._path} cannot be written ({error.strerror or error}): free space") from error


class RecordWriter:
    """A file of records (runtime/embedding/record_file.py): a stream, or a ring of `slots`. Every record is on the disk
    before the next window is looked at."""

    def __init__(self, path: Path, manifest: Manifest, form: str, width: int, shorten: Shorten, slots: int = 0) -> None:
        self._shorten = shorten
        self._file = RecordFile(path, Layout(form, width, embedding_space(manifest), slots), sync=slots > 0)

    def take(self, noticed: Noticed) -> None:
        """See VectorSink."""
        self._file.write(noticed.item.window.centre, time.time(), self._shorten(noticed.item.embedding), noticed.label)

    def close(self) -> None:
        """See VectorSink."""
        self._file.close()
