"""A seeded search over settings, judged by cross-validation on blocks of time.

Neighbouring blocks, which resemble each other, are held out together: they are judged with settings that were found on
all other blocks, by a search of its own. The proposed settings are found on all blocks. So what is reported as held
out was never fitted, and the proposal is dropped unless it is better there than the settings in use, beyond chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from .figures import Figures, total
from .target import Target, choose

S = TypeVar("S")
FOLDS = 5  # of neighbouring blocks that are held out together
_DRAWS, _SURE = 400, 0.9  # recordings drawn from the blocks; the share of them in which a proposal must be better
ByBlock = tuple[Figures, ...]


class Candidates(Protocol[S]):
    """Where settings come from."""

    def draw(self, rng: np.random.Generator) -> S:
        """Return settings, whatever the recording."""

    def vary(self, rng: np.random.Generator, settings: S) -> S:
        """Return settings near some."""


@dataclass(frozen=True)
class Effort:
    """How many settings are tried: `drawn` once, then `rounds` times `varied` of each of the `best`, for each fold."""

    drawn: int = 120
    rounds: int = 3
    best: int = 3
    varied: int = 3

    def trials(self, blocks: int) -> int:
        """Return how many that are."""
        return 1 + self.drawn + (min(blocks, FOLDS) + 1) * self.rounds * self.best * self.varied


EFFORT = Effort()


@dataclass(frozen=True)
class Found(Generic[S]):
    """What a search gives.

    Attributes:
        settings: proposed, or those in use if nothing better was found.
        improved: whether they are others than those in use.
        fitted: by block, of the proposed settings, which were chosen on all blocks.
        held_out: by block, each with settings chosen on other blocks; those of the settings in use if not improved.
        own: by block, of the settings in use.
        rejected: held-out figures of a proposal that was not better; None if improved, or nothing else was chosen.
        pools: for each fold, and last for all blocks, the figures that the choice was made from.
    """

    settings: S
    improved: bool
    fitted: ByBlock
    held_out: ByBlock
    own: ByBlock
    rejected: ByBlock | None
    pools: tuple[tuple[ByBlock, ...], ...]


def search(
    measure: Callable[[S], ByBlock],
    own: S,
    candidates: Candidates[S],
    target: Target,
    seed: int = 0,
    effort: Effort = EFFORT,
    on_trial: Callable[[int], None] = lambda done: None,
) -> Found[S]:
    """Find settings that come nearer to a target than those in use.

    Args:
        measure: returns the figures of each block; called once for each setting.
        own: the settings in use.
        on_trial: called with the number of settings that were tried.
    """
    known: dict[S, ByBlock] = {}

    def measured(settings: S) -> ByBlock:
        if settings not in known:
            known[settings] = measure(settings)
            on_trial(len(known))
        return known[settings]

    ours = measured(own)
    count = len(ours)
    rng = np.random.default_rng(seed)
    drawn = [own, *(candidates.draw(rng) for _ in range(effort.drawn))]
    pools: list[tuple[ByBlock, ...]] = []
    held_out: list[Figures] = []
    chosen = own
    for number, left_out in enumerate([*folds(count), []]):  # the last leaves out none
        blocks = [block for block in range(count) if block not in left_out]
        pool = _refined(drawn, measured, blocks, candidates, target, np.random.default_rng((seed, number)), effort)
        pools.append(tuple(measured(settings) for settings in pool))
        chosen = pool[choose([_sum(measured(settings), blocks) for settings in pool], target)]
        held_out += [measured(chosen)[block] for block in left_out]
    if chosen == own or not _surely_better(held_out, ours, target):
        rejected = None if chosen == own else tuple(held_out)
        return Found(own, False, ours, ours, ours, rejected, tuple(pools))
    return Found(chosen, True, measured(chosen), tuple(held_out), ours, None, tuple(pools))


def held_out_choice(found: Found[S], target: Target) -> ByBlock:
    """Return the held-out figures of another target, from the settings that a search tried."""
    count = len(found.own)
    judged: list[Figures] = []
    for left_out, pool in zip(folds(count), found.pools[:-1], strict=True):
        blocks = [block for block in range(count) if block not in left_out]
        chosen = pool[choose([_sum(each, blocks) for each in pool], target)]
        judged += [chosen[block] for block in left_out]
    return tuple(judged)


def folds(count: int) -> list[list[int]]:
    """Return the blocks that are held out together, in order."""
    return [part.tolist() for part in np.array_split(np.arange(count), min(FOLDS, count))]


def _surely_better(found: Sequence[Figures], than: Sequence[Figures], target: Target) -> bool:
    """Return whether figures are better on all blocks together, and on most of the recordings that blocks drawn from
    this one make up (bootstrap)."""

    def better(blocks: Sequence[int]) -> bool:
        return target.rank(_sum(found, blocks)) < target.rank(_sum(than, blocks))

    draws = np.random.default_rng(0).integers(0, len(found), (_DRAWS, len(found))).tolist()
    return better(range(len(found))) and sum(map(better, draws)) >= _SURE * _DRAWS


def _refined(
    drawn: Sequence[S],
    measured: Callable[[S], ByBlock],
    blocks: Sequence[int],
    candidates: Candidates[S],
    target: Target,
    rng: np.random.Generator,
    effort: Effort,
) -> list[S]:
    """Return the drawn settings and variations of those that are best on some blocks."""
    pool = list(dict.fromkeys(drawn))
    strict = target.stricter()
    for _ in range(effort.rounds):
        ranked = sorted(pool, key=lambda settings: strict.rank(_sum(measured(settings), blocks)))
        new = [candidates.vary(rng, settings) for settings in ranked[: effort.best] for _ in range(effort.varied)]
        pool = list(dict.fromkeys([*pool, *new]))
    return pool


def _sum(found: Sequence[Figures], blocks: Sequence[int]) -> Figures:
    return total(found[block] for block in blocks)
