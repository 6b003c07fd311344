"""Whether the picture is at rest in a clip: events usually begin where it moves and end where it comes to rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, hypot

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.decisions import Decision

from ..video.preprocess import THUMBNAIL, SampledFrame
from .checks import Checks
from .parts import Mask, turned_in_part
from .picture_noise import Cells, Difference, PictureNoise, difference, smoothed

_FARTHEST = 1.5  # cells that the picture may wander within a clip, before its shifts are a movement of the camera
_CUT = 0.1  # share of the picture that a cut changes, at least
_STEPS = 4  # between pictures, after which it shows whether they differ by noise
_NOWHERE = np.zeros((THUMBNAIL, THUMBNAIL), np.bool_)
_RESTLESS = 0.4  # share of the picture that may always move; more of it is no background


@dataclass
class _Judged:
    """A frame of the latest clip, and how it differs from the frame before it."""

    frame: SampledFrame
    cells: Cells
    where: Mask
    size: float = 0.0
    moved: bool = False
    cut: bool = False
    shift: tuple[float, float] = (0.0, 0.0)


class RestDetector:
    """Decides whether the picture stands still in the middle of a clip, apart from the noise of its own stream.

    It is still if the middle lies in an interval of at least `settings.seconds` (or the clip's length, if that is
    shorter) in which no two neighbouring frames differ. A single isolated change is a cut to another still picture. A
    source that is slower than the clip has fewer frames than samples; while each frame differs from the one before, it
    is not at rest.

    Args:
        frames_per_second: of the clip's samples.
        noise: of the stream, which it goes on learning; None: learned anew.
    """

    def __init__(
        self, settings: bundle.RestSettings, frames_per_second: float, noise: PictureNoise | None = None
    ) -> None:
        self._settings, self._rate = settings, frames_per_second
        self.noise = noise or PictureNoise(THUMBNAIL)
        self._latest: list[_Judged] = []
        self._check, self._verdict = Checks(), "unknown"

    @property
    def cut(self) -> bool:
        """Whether any two neighbouring frames of the latest clip differ. Of a picture at rest that is a cut."""
        return any(judged.moved for judged in self._latest[1:])

    @property
    def turned_in_part(self) -> bool:
        """Whether something begins or stops moving in the middle of the latest clip while something else goes on."""
        return turned_in_part([judged.where for judged in self._latest], cells_of(self._settings))

    def decision(self, window: int) -> Decision:
        """Return what was decided about the latest clip; `window` is its index."""
        cause = None if self._settings.enabled else "off"
        return Decision("rest", self._verdict, tuple(self._check.made), cause, window)

    def at_rest(self, frames: Sequence[SampledFrame]) -> bool | None:
        """Return whether the picture is at rest; None if that is not detected. Clips come in the order of time.

        Args:
            frames: one a sample; a frame that is sampled repeatedly is the same object.
        """
        self._check.reset()
        found = self._at_rest(frames)
        self._verdict = "unknown" if found is None else "resting" if found else "moving"
        return found

    def _at_rest(self, frames: Sequence[SampledFrame]) -> bool | None:
        if not self._settings.enabled or len(frames) < 2:
            return None
        number = np.cumsum([0, *(later is not earlier for earlier, later in pairwise(frames))])
        self._latest = self._judge([frames[index] for index in np.unique(number, return_index=True)[1]])
        check = self._check
        if number[-1] == 0:
            return check("pictures", 1, "<", 2)
        moved = self._moved(number)
        middle = len(moved) // 2
        before, after = _until_first(moved[middle::-1]), _until_first(moved[middle:])
        least = min(ceil(self._settings.seconds * self._rate), len(moved))
        still = before + after - 1 if min(before, after) > 0 else 0
        # one frame alone shows neither rest nor movement
        pictures = 1 + int(number[middle + after] - number[middle - before + 1]) if still else 1
        return (
            check("seconds", still / self._rate, ">=", least / self._rate, self._settings.seconds)
            and check("pictures", pictures, ">=", 2)
            and check("wander", self._wandered(), "<=", _FARTHEST)
            and check("restless", self.noise.restless(), "<=", _RESTLESS)
            and check("crept", self._crept(*self._still(number, middle, before, after)), "<", cells_of(self._settings))
        )

    def _judge(self, distinct: Sequence[SampledFrame]) -> list[_Judged]:
        """Compare every frame with the one before it, unless it was in the clip before as well."""
        known = {id(judged.frame): judged for judged in self._latest}
        found: list[_Judged] = []
        for frame in distinct:
            if id(frame) in known:
                found.append(known[id(frame)])
                continue
            found.append(_Judged(frame, smoothed(frame.luminance), _NOWHERE))
            if len(found) > 1:
                self._compare(found[-1], found[-2])
            if len(found) > _STEPS:
                self._learn_bursts(found[-_STEPS - 1 :])
        return found

    def _compare(self, judged: _Judged, before: _Judged) -> None:
        settings, cells = self._settings, cells_of(self._settings)
        found, least = self._difference(judged, before), self.noise.beyond_bursts(settings.changed)
        judged.where = self.noise.moved(found, least, settings.times_noise)
        moved = self.noise.changed(found, least, settings.times_noise)
        judged.size = self.noise.size(found, cells, settings.times_noise)
        judged.moved = self._check("cells", moved, ">=", cells)
        judged.cut = moved >= _CUT * found.cells.size
        judged.shift = found.shift
        self.noise.learn(found)

    def _learn_bursts(self, pictures: Sequence[_Judged]) -> None:
        found = self._difference(pictures[-1], pictures[0])
        overall = self.noise.size(found, cells_of(self._settings), self._settings.times_noise)
        self.noise.learn_bursts([judged.size for judged in pictures[1:]], overall)

    def _difference(self, later: _Judged, earlier: _Judged) -> Difference:
        shaking = self._settings.shaking if self.noise.may_shake else None
        return difference(later.cells, earlier.cells, self._settings.changed, shaking)

    def _moved(self, number: npt.NDArray[np.int_]) -> npt.NDArray[np.bool_]:
        """Return for every two neighbouring samples whether the picture moves between them."""
        moved = np.array([judged.moved for judged in self._latest[1:]])
        moved[1:-1] &= moved[:-2] | moved[2:]
        found = np.zeros(len(number) - 1, np.bool_)
        found[np.flatnonzero(np.diff(number))] = moved
        return found

    def _still(self, number: npt.NDArray[np.int_], middle: int, before: int, after: int) -> tuple[int, int]:
        """Return the first and last of the distinct frames around the middle between which there is no cut."""
        alone = sum(judged.moved for judged in self._latest) == 1  # the only change is a cut, however small
        cut = [judged.cut or (judged.moved and alone) for judged in self._latest]
        first, last = int(number[middle]), int(number[middle + 1])
        if first != last and cut[last]:  # in the very middle
            return last, last
        while first > number[middle - before + 1] and not cut[first]:
            first -= 1
        while last < number[middle + after] and not cut[last + 1]:
            last += 1
        return first, last

    def _crept(self, first: int, last: int) -> int:
        """Return the cells that differ between two frames of the latest clip: a slow movement shows in none of its
        steps."""
        found = self._difference(self._latest[last], self._latest[first])
        least = self.noise.beyond_bursts(self._settings.changed)
        return self.noise.changed(found, least, self._settings.times_noise, but_restless=True)

    def _wandered(self) -> float:
        """Return the cells that the picture moved by within the clip."""
        shifts = np.cumsum([judged.shift for judged in self._latest[1:]], axis=0)
        return hypot(*np.ptp(shifts, axis=0).tolist())


def cells_of(settings: bundle.RestSettings | bundle.SceneGateSettings) -> int:
    """Return the number of cells from which on a difference counts."""
    return ceil(settings.cells * THUMBNAIL * THUMBNAIL)


def _until_first(flags: npt.NDArray[np.bool_]) -> int:
    return int(flags.argmax()) if flags.any() else len(flags)
