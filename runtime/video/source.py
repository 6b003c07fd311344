"""What frames come from: the interface of a source, video files, folders of images. uris.py opens them.

Timestamps are seconds from the first frame. What cannot be opened, or has no picture in it, is an error at once. What
breaks off later ends normally with `incomplete` set, so that everything before the break is still narrated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]


class Frame:
    """One frame: seconds since the source's first frame, and its picture, or what makes it when it is asked for."""

    def __init__(self, time: float, image: Image | Callable[[], Image]) -> None:
        self.time, self._image = time, image

    @property
    def image(self) -> Image:
        """uint8 [height, width, 3], BGR."""
        image = self._image  # once: another thread may ask for it at the same time
        if callable(image):
            image = self._image = image()
        return image


class Source(ABC):
    """One pass over frames in order of time; also a context manager. Subclass it for a camera of your own.

    Attributes:
        period: seconds between two frames, nominally; the last frame is taken to last as long.
        live: frames come when they come; what there is no time for is passed over.
        seconds: end of the last frame that was given.
        incomplete: once iteration has ended, why it ended too early, one line; None if all was read.
    """

    period: float
    live: bool = False
    seconds: float = 0.0
    incomplete: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames():
            self.seconds = frame.time + self.period
            yield frame

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """The frames; called once."""

    def interrupt(self) -> None:  # noqa: B027 (most sources never wait)
        """Make a read that is in progress end soon. Any thread, any number of times; close() follows."""

    def close(self) -> None:  # noqa: B027 (most sources have nothing to close)
        """Let go of the device or file. May be called twice."""
