"""Compare the engines of two ways to run a model, each by itself, or those of one with times that were saved."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model import Model
from .compare import (
    Comparison,
    Milliseconds,
    OnRound,
    Side,
    check_rounds,
    compare_rounds,
    read_measured,
)
from .conditions import Conditions, conditions
from .engines_alone import EnginesAlone

INPUTS = "inputs made for each engine"


@dataclass(frozen=True)
class SavedEngine:
    """The row of an engine, of which only these are compared."""

    engine: str
    p50: Milliseconds
    tokens: int | None = None


@dataclass(frozen=True)
class SavedEngines:
    """What `vlj-edge profile --engines-only --json` prints, as far as a comparison reads it."""

    engines: tuple[SavedEngine, ...]
    conditions: dict[str, Any]

    @property
    def quantities(self) -> dict[str, float]:
        """The median of each engine, and of each number of tokens that it was given."""
        return {_name(row): row.p50 for row in self.engines}

    @property
    def judged(self) -> set[str]:
        """All of them."""
        return set(self.quantities)

    @property
    def settings(self) -> Conditions:
        """The conditions."""
        return self.conditions


def read_saved_engines(path: Path) -> SavedEngines:
    """Read what `vlj-edge profile --engines-only --json` printed.

    Raises:
        VljEdgeError: it cannot be read, or is something else.
    """
    return read_measured(path, SavedEngines, "give what vlj-edge profile --engines-only --json printed")


def compare_engines(
    ours: Side,
    theirs: Side | SavedEngines,
    rounds: int,
    measure: Callable[[EnginesAlone], None],
    on_round: OnRound = lambda found: None,
) -> Comparison:
    """Time each engine of both sides, alternately and in both orders, and compare their medians.

    Args:
        measure: fills an EnginesAlone with the times of one round.
        on_round: called with what was found so far, after each round from the second on.

    Raises:
        VljEdgeError: fewer than two rounds, an engine cannot be loaded, or the backend failed.
    """
    check_rounds(rounds)
    sides = [ours, theirs] if isinstance(theirs, Side) else [ours]
    with ExitStack() as opened:
        models = [opened.enter_context(Model(side.directory, **side.options)) for side in sides]

        def measured(which: int) -> SavedEngines:
            alone = EnginesAlone(models[which])
            measure(alone)
            rows = tuple(SavedEngine(row.engine, row.milliseconds["p50"], row.tokens) for row in alone.rows)
            return SavedEngines(rows, conditions(models[which], INPUTS))

        return compare_rounds(measured, theirs if isinstance(theirs, SavedEngines) else None, rounds, on_round)


def _name(row: SavedEngine) -> str:
    return f"{row.engine}, p50" if row.tokens is None else f"{row.engine}, {row.tokens} tokens, p50"
