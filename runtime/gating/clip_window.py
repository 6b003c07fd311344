"""A clip window on its way through the gates: its frames until it is encoded, its embedding from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlj_edge.results import Window

from ..video.preprocess import SampledFrame

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """The embedding of a window.

    Attributes:
        embedding: float32 [embedding], unit length.
        on_device: the same embedding in device memory (Engine.keep_output), so that a decoder can read it there;
            None where there is only the host's copy.
    """

    embedding: Embedding
    on_device: object | None = None


class ClipWindow:
    """One clip window, encoded when its embedding is first asked for, and only once.

    Args:
        times: when it begins and ends.
        frames: its sampled frames, oldest first. They are let go as soon as the window is encoded.
        at_rest: whether the picture stands still in the middle of the clip; None where that is not watched.
        encode: computes the embedding of `frames`.
    """

    def __init__(
        self,
        times: Window,
        frames: Sequence[SampledFrame],
        at_rest: bool | None,
        encode: Callable[[Sequence[SampledFrame]], Encoded],
    ) -> None:
        self.times, self.at_rest = times, at_rest
        self._todo: tuple[Sequence[SampledFrame], Callable[[Sequence[SampledFrame]], Encoded]] | None = (frames, encode)
        self._encoded: Encoded | None = None

    @property
    def time(self) -> float:
        """Seconds; the centre of the window, with which its embedding is stamped."""
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
