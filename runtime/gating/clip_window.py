"""A clip window on its way through the gates: it holds frames until it is encoded, then an embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlj_edge.results import Window

from ..video.preprocess import SampledFrame
from .picture_noise import PictureNoise

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """The embedding of a window.

    Attributes:
        embedding: float32 [embedding], unit length.
        on_device: the same embedding in device memory (Engine.keep_output), so that a decoder can read it there;
            None if only the host has it.
    """

    embedding: Embedding
    on_device: object | None = None


@dataclass(frozen=True)
class RecordedWindow:
    """All that the gates decide on about one window, so that they can run again on it with other settings.

    Attributes:
        times: when it begins and ends.
        frames: its sampled frames, oldest first.
        at_rest, cut, turned_in_part: as for ClipWindow.
        noise: of the stream, as it was when the window came.
        embedding: float32 [embedding], unit length.
        of_kept: the same of the visual tokens that carry news alone, and their share, 0..1; None: not computed.
    """

    times: Window
    frames: Sequence[SampledFrame]
    at_rest: bool | None
    cut: bool
    turned_in_part: bool
    noise: PictureNoise
    embedding: Embedding
    of_kept: tuple[Embedding, float] | None = None


class ClipWindow:
    """One clip window, encoded once, when its embedding is first read.

    Args:
        times: when it begins and ends.
        frames: its sampled frames, oldest first. They are released as soon as the window is encoded.
        at_rest: whether the picture stands still in the middle of the clip; None if that is not detected.
        encode: computes the embedding of `frames`.
        cut: whether the picture, though at rest, changes once in the clip.
        turned_in_part: whether something begins or stops moving in its middle while something else goes on.
        pictures: what the frames show, uint8 [height, width, 3] BGR each, where a model elsewhere is to be shown them.
    """

    def __init__(
        self,
        times: Window,
        frames: Sequence[SampledFrame],
        at_rest: bool | None,
        encode: Callable[[Sequence[SampledFrame]], Encoded],
        cut: bool = False,
        turned_in_part: bool = False,
        pictures: Sequence[npt.NDArray[np.uint8]] = (),
    ) -> None:
        self.pictures = pictures
        self.times, self.at_rest, self.cut, self.turned_in_part = times, at_rest, cut, turned_in_part
        self._todo: tuple[Sequence[SampledFrame], Callable[[Sequence[SampledFrame]], Encoded]] | None = (frames, encode)
        self._encoded: Encoded | None = None

    @property
    def time(self) -> float:
        """The centre of the window in seconds, which is the time of its embedding."""
        return self.times.centre

    @property
    def is_encoded(self) -> bool:
        """Whether the embedding has been computed already."""
        return self._encoded is not None

    @property
    def encoded(self) -> Encoded:
        """The embedding, computed now if it has not been."""
        if self._encoded is None:
            assert self._todo is not None
            frames, encode = self._todo
            self._encoded = encode(frames)
            self._todo = None
        return self._encoded
