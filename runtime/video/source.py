"""The interface of a source of frames.

A source that cannot be opened, or has no frame, raises an error in its constructor. One that breaks off later ends
normally with `incomplete` set, so that the frames before the break are still processed.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

Image: TypeAlias = npt.NDArray[np.uint8]


class Frame:
    """One frame.

    Args:
        time: seconds since the source's first frame.
        image: uint8 [height, width, 3], BGR, or a function that decodes it when it is first needed.
        until_next: seconds to the source's next frame, if that may be left out; None: the next yielded frame follows.

    Example:
        >>> import numpy as np
        >>> from vlj_edge import Frame
        >>> Frame(time=0.04, image=np.zeros((480, 640, 3), np.uint8)).image.shape
        (480, 640, 3)
    """

    def __init__(self, time: float, image: Image | Callable[[], Image], until_next: float | None = None) -> None:
        self.time, self._image, self.until_next = time, image, until_next
        self._decoding = threading.Lock()

    @property
    def image(self) -> Image:
        """uint8 [height, width, 3], BGR. Decoded once, also if several threads need it at the same time."""
        if not callable(self._image):
            return self._image
        with self._decoding:
            if callable(self._image):
                self._image = self._image()
            return self._image


class Source(ABC):
    """One pass over the frames of a video or camera, in order of time; also a context manager.

    Subclass it for a camera of your own: define `period` and `frames()`, and if a read can block or a resource must be
    released, `interrupt()` and `close()`. These two may be called from any thread, at any time and repeatedly, while
    another thread is in `frames()`; they return within a second. The user of a source calls interrupt(), waits for the
    thread that reads, and then calls close(), even if that thread does not end.

    Attributes:
        period: nominal seconds between two frames; the last frame has this duration.
        shown: its name in messages.
        name: of one among several; empty: messages need none.
        live: frames arrive in real time, and are skipped if they arrive too fast.
        rereadable: a recording that gives the same frames when it is opened again; a pipe does not.
        rotate: degrees clockwise by which every image is turned: 0, 90, 180 or 270.
        duration: seconds that will be read; None if unknown.
        seconds: number of seconds read so far.
        end: end of the last frame that was read, seconds from the start.
        incomplete: once iteration has ended: why it ended too early, in one line; None if everything was read.

    Example:
        >>> import numpy as np
        >>> import vlj_edge
        >>> class Grey(vlj_edge.Source):
        ...     period = 0.25
        ...
        ...     def frames(self):
        ...         for number in range(20):
        ...             yield vlj_edge.Frame(number * self.period, np.full((96, 96, 3), 128, np.uint8))
        >>> with vlj_edge.load() as model:
        ...     windows = sum(1 for _ in model.embed(Grey()))
        >>> windows
        7
    """

    period: float
    shown: str = "the source"
    name: str = ""
    live: bool = False
    rereadable: bool = False
    rotate: int = 0
    duration: float | None = None
    seconds: float = 0.0
    end: float = 0.0
    incomplete: str | None = None
    _begun: bool = False

    def __iter__(self) -> Iterator[Frame]:
        """Raises VljEdgeError: the source was read before; a second pass would silently give nothing."""
        if self._begun:
            raise VljEdgeError(f"{self.shown} was read already, and a source is one pass: open it again")
        self._begun = True
        return self._counted()

    def _counted(self) -> Iterator[Frame]:
        first: float | None = None
        for frame in self.frames():
            first = frame.time if first is None else first
            self.end = frame.time + self.period
            self.seconds = self.end - first
            if self.rotate:
                frame = Frame(frame.time, partial(_rotated, frame, self.rotate), frame.until_next)
            yield frame

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Yield the frames. Called once."""

    def interrupt(self) -> None:  # noqa: B027 (optional)
        """Make frames() end soon, also while it waits for a frame. It yields nothing more from then on."""

    def close(self) -> None:  # noqa: B027 (optional)
        """Release the device or file. Implies interrupt()."""


class WrappedSource(Source):
    """A source that passes on the frames of another one, possibly changed; subclasses define frames()."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.live, self.period, self.shown = source.live, source.period, source.shown

    def interrupt(self) -> None:
        """See Source."""
        self._source.interrupt()

    def close(self) -> None:
        """See Source."""
        self._source.close()


def _rotated(frame: Frame, degrees: int) -> Image:
    """Return a frame with its image rotated clockwise."""
    return np.ascontiguousarray(np.rot90(frame.image, -degrees // 90))
