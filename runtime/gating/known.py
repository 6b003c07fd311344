"""Whether a stream resembles the data that a model knows. If not, whatever the model says of it means nothing.

Embeddings of known data lie close to the span of a few axes. What sticks out of it averages out over some pictures of
known data, since they stick out in different directions; of other data it does not.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import Manifest, verify_file
from vlj_edge.bundle.axes import read_axes

_LOG = logging.getLogger("vlj_edge")
PICTURES = 16  # the newest, of which the mean is judged
_ENOUGH = 8  # from so many on it is judged while the run goes on
_FEW = 4  # with fewer pictures, nothing averages out: the stricter limit holds
_WINDOWS = 60  # after so many windows, a stream that hardly moves is judged by the pictures that there were


class KnownData:
    """Says, once of a source, that the model has seen nothing like it. Bundles without `known` never say it."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.manifest, self._directory = manifest, directory
        self._axes: npt.NDArray[np.float32] | None = None
        self._saying = threading.Lock()
        self._said_of: set[str] = set()  # names of sources

    @property
    def said(self) -> bool:
        """Whether it was said of a source without a name."""
        return self.said_of("")

    def said_of(self, source: str) -> bool:
        """Whether it was said of a source of that name."""
        return source in self._said_of

    def load(self) -> None:
        """Read the axes, if there are any.

        Raises:
            VljEdgeError: the file does not match the manifest, or is not an array of axes.
        """
        if self.manifest.known is not None and self._axes is None:
            self._axes = read_axes(verify_file(self._directory, self.manifest.known.file, self.manifest), self.manifest)

    def outside(self, embedding: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Return the part of an embedding that sticks out of the axes' span, float32 [embedding]."""
        assert self._axes is not None, "load() comes first"
        vector = np.asarray(embedding, np.float32)
        return np.asarray(vector - self._axes @ (vector @ self._axes), np.float32)

    def resemblance(self, query: str | None, source: str = "") -> Resemblance | None:
        """Return what judges a run over a source of that name; None where nothing is known of the answers to this
        query."""
        is_default = query is None or query == self.manifest.default_query
        return Resemblance(self, source) if self._axes is not None and is_default else None

    def say(self, source: str = "") -> None:
        """Log a warning about a source of that name, the first time."""
        with self._saying:
            first = source not in self._said_of
            self._said_of.add(source)
        if first and self.manifest.known is not None:
            of, preset = f"{source}: " if source else "", self.manifest.preset
            _LOG.warning("%s%s has seen nothing like this: %s", of, preset, self.manifest.known.says)


class Resemblance:
    """Judges the embeddings of one run, as they come.

    Attributes:
        said: whether the model has seen nothing like them, or like this source in an earlier run.
    """

    def __init__(self, known: KnownData, source: str = "") -> None:
        assert known.manifest.known is not None
        self._known, self._limits, self._source = known, known.manifest.known, source
        self._outside: deque[npt.NDArray[np.float32]] = deque(maxlen=PICTURES)
        self._windows = 0
        self._done = self.said = known.said_of(source)

    @property
    def manifest(self) -> Manifest:
        """That of the model."""
        return self._known.manifest

    def add_picture(self, embedding: npt.NDArray[np.floating[Any]]) -> None:
        """Take the embedding of a picture for which the encoder ran, [embedding], unit length."""
        if not self._done:
            self._outside.append(self._known.outside(embedding))
            if len(self._outside) >= _ENOUGH:
                self._judge()

    def add_window(self) -> None:
        """Count a window, encoded or not."""
        self._windows += 1
        if self._windows == _WINDOWS:
            self._judge()

    def finish(self) -> None:
        """Judge by what there was: the run has ended."""
        self._judge()

    def _judge(self) -> None:
        if self._done or not self._outside:
            return
        limit = self._limits.most_of_few if len(self._outside) < _FEW else self._limits.most
        if float(np.square(np.mean(self._outside, axis=0)).sum()) > limit:
            self._done = self.said = True
            self._known.say(self._source)
