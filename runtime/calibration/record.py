"""One pass over a source, in which every window is encoded and what the gates decide on is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..gating.clip_window import Embedding, RecordedWindow
from ..video.preprocess import SampledFrame

MOST_BYTES = 1 << 30  # of a recording in memory: about ten hours of nano's windows


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """What the gates use of a sampled frame; `luminance` is that of SampledFrame. Compared by identity."""

    luminance: npt.NDArray[np.float32]


@dataclass
class Recording:
    """The windows of a source, all encoded, with thumbnails in place of their frames.

    Attributes:
        windows: in the order of time.
        full: whether the memory for them was used up before the source ended.
    """

    windows: list[RecordedWindow] = field(default_factory=list)
    full: bool = False

    @property
    def seconds(self) -> float:
        """From the start of the first window to the end of the last."""
        return self.windows[-1].times.end - self.windows[0].times.start if self.windows else 0.0

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The time of each window's embedding, float64 [windows]."""
        return np.array([window.times.centre for window in self.windows], np.float64)


def record(
    seen: Iterable[RecordedWindow],
    into: Recording,
    most_bytes: int = MOST_BYTES,
    encode_kept: Callable[[RecordedWindow], tuple[Embedding, float]] | None = None,
) -> Recording:
    """Store windows, those of Model.see(), until they end or memory is used up.

    Args:
        into: is filled as windows come, so that an interrupted recording holds what was seen.
        most_bytes: of thumbnails, noise and embeddings together.
        encode_kept: encodes a window once more, with the tokens that carry news; None: that is not compared.

    Returns:
        `into`.
    """
    known: dict[int, tuple[SampledFrame, Thumbnail]] = {}  # by identity: neighbouring windows share frames
    used = 0
    for window in seen:
        shared, known = known, {}
        for frame in window.frames:
            if id(frame) not in known:
                found = shared.get(id(frame))
                if found is None:
                    found = (frame, Thumbnail(np.array(frame.luminance, np.float32)))
                    used += found[1].luminance.nbytes
                known[id(frame)] = found
        of_kept = None if encode_kept is None else encode_kept(window)
        into.windows.append(replace(window, frames=[known[id(frame)][1] for frame in window.frames], of_kept=of_kept))
        used += window.embedding.nbytes * (1 if of_kept is None else 2) + window.noise.median.nbytes
        if used > most_bytes:
            into.full = True
            break
    return into
