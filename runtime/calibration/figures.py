"""What gates do on a stretch of a recording: agreement with a reference and cost. Stretches can be added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .reference import Reference
from .replay import Replay

QUANTILES = (0.025, 0.975)  # of bootstrap intervals


@dataclass(frozen=True)
class Figures:
    """Sums over a stretch.

    Attributes:
        seconds: its length.
        judged: seconds in which it is known what should stand as the latest text.
        agreed: of these, seconds in which the latest text is right.
        texts: that are reported; of a bundle without a decoder, events of novelty.
        encoder_runs, decoder_runs: calls of these.
    """

    seconds: float = 0.0
    judged: float = 0.0
    agreed: float = 0.0
    texts: float = 0.0
    encoder_runs: float = 0.0
    decoder_runs: float = 0.0

    @property
    def sums(self) -> tuple[float, float, float, float, float, float]:
        """The attributes, in their order."""
        return self.seconds, self.judged, self.agreed, self.texts, self.encoder_runs, self.decoder_runs

    @property
    def quality(self) -> float:
        """Share of the judged time, 0..1, in which the latest text is right; 0 if nothing is judged."""
        return self.agreed / self.judged if self.judged else 0.0

    @property
    def texts_per_hour(self) -> float:
        """Texts an hour of video."""
        return 3600 * self.texts / self.seconds if self.seconds else 0.0

    @property
    def encodes_per_minute(self) -> float:
        """Encoder runs a minute of video."""
        return 60 * self.encoder_runs / self.seconds if self.seconds else 0.0

    @property
    def cost_per_minute(self) -> float:
        """Encoder runs, decoder runs and texts a minute of video: what is computed and what somebody reads."""
        return 60 * (self.encoder_runs + self.decoder_runs + self.texts) / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the ratios in plain JSON types."""
        return {
            "quality": round(self.quality, 4),
            "texts_per_hour": round(self.texts_per_hour, 2),
            "encodes_per_minute": round(self.encodes_per_minute, 2),
            "decodes_per_minute": round(60 * self.decoder_runs / self.seconds if self.seconds else 0.0, 2),
        }


def resampled(stretches: Sequence[Figures], draws: int = 2000) -> npt.NDArray[np.float64]:
    """Return the sums of as many stretches drawn with replacement, float64 [draws, 6], each above 0: for bootstrap
    intervals. The draws are the same for every list of this length."""
    chosen = np.random.default_rng(0).integers(0, len(stretches), (draws, len(stretches)))
    sums: npt.NDArray[np.float64] = np.array([each.sums for each in stretches])[chosen].sum(1)
    return np.maximum(sums, 1e-9)


def total(stretches: Iterable[Figures]) -> Figures:
    """Add up stretches."""
    rows = [each.sums for each in stretches]
    return Figures(*map(sum, zip(*rows, strict=True))) if rows else Figures()


@dataclass(frozen=True)
class Blocks:
    """A recording cut in blocks of equal time.

    Attributes:
        number: int [windows], the block of each window.
        seconds: float64 [windows], for how long each window stands for what is seen.
        count: of blocks.
    """

    number: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    count: int


def cut(centres: npt.NDArray[np.float64], count: int, longest: float) -> Blocks:
    """Cut a recording in blocks.

    Args:
        centres: times of its windows, float64 [windows], increasing.
        longest: seconds for which a window can stand, where a live source has left out windows.
    """
    steps = np.diff(centres)
    usual = float(np.median(steps)) if len(steps) else longest
    seconds = np.minimum(np.append(steps, usual), longest)
    past = np.cumsum(seconds) - seconds / 2
    number = np.minimum((past / max(seconds.sum(), 1e-9) * count).astype(np.int64), count - 1)
    return Blocks(number, seconds, count)


def figures(replay: Replay, reference: Reference, blocks: Blocks) -> tuple[Figures, ...]:
    """Return the figures of each block."""
    windows = range(len(replay.standing))
    judged = np.array([reference.judged(index) for index in windows], np.float64)
    agreed = np.array([judged[n] > 0 and reference.agrees(n, replay.standing[n]) for n in windows], np.float64)
    rows = (blocks.seconds, judged * blocks.seconds, agreed * blocks.seconds)
    counts = (replay.texts, replay.encoder_runs, replay.decoder_runs)
    sums = [by_block(each, blocks) for each in (*rows, *counts)]
    return tuple(Figures(*map(float, each)) for each in zip(*sums, strict=True))


def by_block(values: npt.NDArray[Any], blocks: Blocks) -> npt.NDArray[np.float64]:
    """Return the sum of a value of each window over each block, float64 [blocks]."""
    return np.bincount(blocks.number, np.asarray(values, np.float64), blocks.count).astype(np.float64)
