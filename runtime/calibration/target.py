"""What is wanted of the gates, and which of several settings come nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .figures import Figures

ENOUGH = 0.01  # of quality: settings that miss the best by less are chosen by their cost
_MARGIN = 0.01  # of quality, by which the chosen settings exceed what is wanted, so that other days reach it too
_RATE_MARGIN = 0.05  # of a rate, by which they stay below


@dataclass(frozen=True)
class Target:
    """Limits that hold together; None: no such limit.

    With a wanted quality, the cheapest settings that reach it are the best, otherwise those of the highest quality.

    Attributes:
        texts_per_hour, encodes_per_minute: at most.
        quality: at least, 0..1.
    """

    texts_per_hour: float | None = None
    encodes_per_minute: float | None = None
    quality: float | None = None

    def missed_by(self, found: Figures) -> float:
        """Return by how much figures miss the limits, in units of the limits; 0 if they keep them."""
        missed = 0.0
        if self.texts_per_hour is not None:
            missed += max(0.0, found.texts_per_hour / self.texts_per_hour - 1)
        if self.encodes_per_minute is not None:
            missed += max(0.0, found.encodes_per_minute / self.encodes_per_minute - 1)
        if self.quality is not None:
            missed += max(0.0, self.quality - found.quality)
        return round(missed, 9)

    def rank(self, found: Figures) -> tuple[float, float, float]:
        """Return what sorts figures, the best first."""
        quality = 0.0 if self.quality is not None else -round(found.quality, 9)
        return (self.missed_by(found), quality, found.cost_per_minute)

    def stricter(self) -> Target:
        """Return the target that settings are chosen by."""
        texts, encodes = self.texts_per_hour, self.encodes_per_minute
        return Target(
            None if texts is None else texts * (1 - _RATE_MARGIN),
            None if encodes is None else encodes * (1 - _RATE_MARGIN),
            None if self.quality is None else min(1.0, self.quality + _MARGIN),
        )


def choose(found: Sequence[Figures], target: Target) -> int:
    """Return the index of the best figures. The first are those of the settings that are in use.

    Of those that keep the limits, and differ in quality by less than ENOUGH from the best but are not below that of
    the settings in use, the cheapest is chosen.
    """
    strict = target.stricter()
    least = min(strict.missed_by(each) for each in found)
    kept = [index for index, each in enumerate(found) if strict.missed_by(each) <= least]
    if target.quality is None:
        floor = max(found[index].quality for index in kept) - ENOUGH
        if 0 in kept:
            floor = max(floor, found[0].quality)
        kept = [index for index in kept if found[index].quality >= floor]
    return min(kept, key=lambda index: (found[index].cost_per_minute, -found[index].quality, index))
