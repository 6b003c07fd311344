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
        of_kept: for each window, the embedding of the tokens that carry news, and their share; empty if not asked for.
    """

    windows: list[RecordedWindow] = field(default_factory=list)
    full: bool = False
    of_kept: list[tuple[Embedding, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the start of the first window to the end of the last."""
        return self.windows[-1].times.end - self.windows[0].times.start if self.windows else 0.0

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The time of each window's embedding, float64 [windows]."""
        return np.array([window.times.centre for window in self.windows], np.float64)

    def with_kept_tokens(self) -> Recording:
        """Return the recording with the embeddings of the tokens that carry news."""
        pairs = zip(self.windows, self.of_kept, strict=True)
        return Recording([replace(window, embedding=embedding) for window, (embedding, _) in pairs], self.full)


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
        if encode_kept is not None:
            again = encode_kept(window)  # may be interrupted, and then the window is not there at all
            into.of_kept.append(again)
            used += again[0].nbytes
        into.windows.append(replace(window, frames=[known[id(frame)][1] for frame in window.frames]))
        used += window.embedding.nbytes + window.noise.median.nbytes
        if used > most_bytes:
            into.full = True
            break
    return into
