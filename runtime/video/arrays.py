"""Sources from Python objects: a source, a URI, or frames that a program already has."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from .source import Frame, Image, Source
from .uri import open_source

AnySource: TypeAlias = str | Path | int | Source | npt.NDArray[np.uint8] | Iterable[tuple[float, Any]]


def to_source(source: AnySource, frames_per_second: float) -> Source:
    """Return a source for an object that a caller passes.

    Args:
        source: a Source; what open_source() takes; frames, uint8 [frames, height, width, 3], BGR; or an iterable of
            (seconds, image), image uint8 [height, width, 3], BGR, seconds never decreasing. Arrays may be NumPy's,
            CuPy's, PyTorch tensors, or anything that NumPy converts.
        frames_per_second: rate at which the model samples; also the rate of an array's frames.

    Raises:
        VljEdgeError: it cannot be opened.
        TypeError: it is of another type.
    """
    if isinstance(source, Source):
        if getattr(source, "period", None) is None:
            raise VljEdgeError(f"{type(source).__name__} has no period: set it to the seconds between two frames")
        return source
    if isinstance(source, str | Path | int):
        return open_source(source, sampled_at=frames_per_second)
    if _is_array(source):
        array = _on_host(source)
        if array.ndim != 4:
            raise TypeError(f"an array {list(array.shape)} is no video: give [frames, height, width, 3], uint8, BGR")
        pairs = ((index / frames_per_second, image) for index, image in enumerate(array))
        return _PairSource(pairs, frames_per_second, len(array) / frames_per_second)
    if isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | dict | set):
        return _PairSource(source, frames_per_second)
    raise TypeError(
        f"a {type(source).__name__} is no source: give a path, an address, a camera's number, a Source, an array of"
        " frames or an iterable of (seconds, image)"
    )


class _PairSource(Source):
    """Pairs of time and image. The next pair is read when it is needed; a generator is closed at the end.

    Raises, while the frames are read:
        TypeError: an item is no such pair.
    """

    def __init__(self, pairs: Iterable[Any], frames_per_second: float, duration: float | None = None) -> None:
        self._pairs, self._stop = pairs, threading.Event()
        self.period, self.duration = 1 / frames_per_second, duration

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        latest = -math.inf
        iterator = iter(self._pairs)
        try:
            for item in iterator:
                if self._stop.is_set():
                    return
                time, image = _checked(item)
                if time < latest:
                    raise TypeError(f"a frame of {time:g} s follows one of {latest:g} s: give them in order of time")
                latest = time
                yield Frame(time, image)
        finally:
            with suppress(AttributeError):
                iterator.close()  # type: ignore[attr-defined]

    def interrupt(self) -> None:
        """See Source. It does not end a wait for the next pair."""
        self._stop.set()

    def close(self) -> None:
        """See Source."""
        self._stop.set()


def _checked(item: Any) -> tuple[float, Image]:
    try:
        time, image = item
        time = float(time)
        if not math.isfinite(time) or not _is_array(image):
            raise ValueError
    except (TypeError, ValueError):
        raise TypeError(
            f"{_short(item)} is no frame: give (seconds, image), the image uint8 [height, width, 3]"
        ) from None
    array = _on_host(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise TypeError(f"an image is {array.dtype}{list(array.shape)}: give uint8 [height, width, 3], BGR")
    return time, array


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "__cuda_array_interface__") or hasattr(value, "__array__")


def _on_host(array: Any) -> Any:
    """Return a NumPy array. CuPy arrays have get(), PyTorch tensors cpu()."""
    for move in ("get", "cpu"):
        if hasattr(array, "__cuda_array_interface__") and hasattr(array, move):
            array = getattr(array, move)()
    return np.asarray(array)


def _short(value: Any) -> str:
    name = type(value).__name__
    return f"({', '.join(type(item).__name__ for item in value)})" if isinstance(value, tuple) else f"a {name}"
