"""Compare two ways to run a model on one source, or one with a profile that was saved: medians, their ratios, and which
conditions differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from vlj_edge.bundle import GateSettings
from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.regular_file import MOST_TEXT, check_regular_file
from vlj_edge.schema import Count, Positive, Range, SchemaError, parse

from ..model import Model
from ..video.arrays import AnySource
from ..video.source import Source
from .conditions import Conditions, condition_texts
from .probe import Probe
from .profile import profile
from .stages import Values

WINDOW, CPU = "milliseconds a window", "CPU milliseconds a window"
_JUDGED_SHARE = 0.05  # of the time of all stages, below which a stage's noise is larger than what it costs
_NEVER_COMPARED = ("date", "command")  # they differ between two runs of the same

Milliseconds = Annotated[float, Range(at_least=0)]
Saved = TypeVar("Saved")


@dataclass(frozen=True)
class Side:
    """One of the two: a bundle, and arguments of Model such as backend, threads or tokens."""

    directory: Path
    options: dict[str, Any] = field(default_factory=dict)


class Measured(Protocol):
    """One measurement, as far as a comparison reads it."""

    @property
    def quantities(self) -> dict[str, float]:
        """What is compared, in milliseconds."""

    @property
    def judged(self) -> set[str]:
        """The quantities that are large enough for a limit to be put on them."""

    @property
    def settings(self) -> Conditions:
        """What it was measured with."""

    @property
    def conditions(self) -> Conditions:
        """Those that conditions() returns."""


@dataclass(frozen=True)
class SavedStage:
    """The row of a stage, of which only these are compared."""

    stage: str
    p50: Milliseconds
    share: Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class SavedTotals:
    """Of all windows that were measured."""

    windows: Count
    wall_seconds: Positive
    video_seconds: Annotated[float, Range(at_least=0)]


@dataclass(frozen=True)
class SavedSummary:
    """`frame_age_p50` is that of a camera, None of a recording."""

    cpu_seconds_a_minute: Milliseconds | None
    frame_age_p50: Milliseconds | None = None


@dataclass(frozen=True)
class SavedProfile:
    """What `vlj-edge profile --json` prints, as far as a comparison reads it."""

    totals: SavedTotals
    stages: tuple[SavedStage, ...]
    summary: SavedSummary
    conditions: dict[str, Any]
    how: dict[str, Any]

    @property
    def quantities(self) -> dict[str, float]:
        """What is compared, in milliseconds. The windows of a camera come when they come: their rate says nothing."""
        windows, minutes = self.totals.windows, self.totals.video_seconds / 60
        found = {} if self.summary.frame_age_p50 is not None else {WINDOW: 1e3 * self.totals.wall_seconds / windows}
        if self.summary.cpu_seconds_a_minute is not None:
            found[CPU] = 1e3 * self.summary.cpu_seconds_a_minute * minutes / windows
        return found | {f"{row.stage}, p50": row.p50 for row in self.stages}

    @property
    def judged(self) -> set[str]:
        """The quantities that are large enough for a limit to be put on them."""
        return {WINDOW, CPU} | {f"{row.stage}, p50" for row in self.stages if row.share >= _JUDGED_SHARE}

    @property
    def settings(self) -> Conditions:
        """The conditions, the settings of the run, and of a recording how much of it was read in a pass."""
        how: dict[str, Any] = {name: self.how[name] for name in ("overlap", "gates", "cuda_graph") if name in self.how}
        if self.summary.frame_age_p50 is None:
            how["video_seconds"] = round(self.totals.video_seconds / (self.how.get("passes") or 1), 1)
        return {**self.conditions, **how}


@dataclass(frozen=True)
class Comparison:
    """Ours and theirs.

    Attributes:
        ratios: quantity in milliseconds -> ours, theirs, ratio (ours / theirs), low and high of its 95 % bootstrap
            interval.
        differs: condition -> (ours, theirs), of those that are not the same.
        conditions: of ours and of theirs.
        judged: the quantities on which a limit may be put.
    """

    ratios: dict[str, dict[str, float]]
    differs: dict[str, tuple[str, str]]
    conditions: dict[str, Conditions]
    judged: set[str]

    def slower(self, limit: float) -> dict[str, float]:
        """Return the ratios above a limit that are no chance, since their whole interval is above 1 (or a limit below
        it), the largest first."""
        judged = [(name, self.ratios[name]) for name in self.ratios if name in self.judged]
        over = {name: row["ratio"] for name, row in judged if row["ratio"] > limit and row["low"] > min(limit, 1)}
        return dict(sorted(over.items(), key=lambda item: -item[1]))


OnRound: TypeAlias = Callable[[Comparison], None]


def read_saved(path: Path) -> SavedProfile:
    """Read what `vlj-edge profile --json` printed.

    Raises:
        VljEdgeError: it cannot be read, or is something else.
    """
    return read_measured(path, SavedProfile, "give what vlj-edge profile --json printed")


def read_measured(path: Path, kind: type[Saved], remedy: str) -> Saved:
    """Read one of the forms that vlj-edge profile --json prints. Errors as for read_saved()."""
    check_regular_file(path, remedy, MOST_TEXT)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(raw, dict) and ("engines" in raw) != (kind is not SavedProfile):
            of = "--engines-only, which has no windows" if "engines" in raw else "whole windows"
            raise VljEdgeError(f"{path} is of {of}: {remedy}")
        return parse(kind, raw, ignore_unknown=True)
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from error
    except SchemaError as error:
        raise VljEdgeError(f"{path} is no profile: {error}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} is no JSON: {remedy}") from error


def compare_sides(
    ours: Side,
    theirs: Side,
    source: AnySource | Callable[[], Source],
    rounds: int,
    gates: GateSettings | None = None,
    on_round: OnRound = lambda found: None,
) -> Comparison:
    """Profile two sides on the same source, alternately and in both orders, and compare their medians.

    Args:
        source: one that can be read repeatedly, or a function that returns a new Source.
        gates: settings in place of each bundle's.
        on_round: called with what was found so far, after each round from the second on.

    Raises:
        VljEdgeError: fewer than two rounds, or as profile().
    """
    return _compare([ours, theirs], None, source, rounds, gates, on_round)


def compare_saved(
    ours: Side,
    saved: SavedProfile,
    source: AnySource | Callable[[], Source],
    rounds: int,
    gates: GateSettings | None = None,
    on_round: OnRound = lambda found: None,
) -> Comparison:
    """Profile one side and compare its medians with a saved profile, whose own spread is not known: the intervals are
    those of ours alone. Arguments and errors as for compare_sides().
    """
    return _compare([ours], saved, source, rounds, gates, on_round)


def _compare(
    sides: list[Side],
    saved: SavedProfile | None,
    source: AnySource | Callable[[], Source],
    rounds: int,
    gates: GateSettings | None,
    on_round: OnRound,
) -> Comparison:
    check_rounds(rounds)
    probes = [Probe() for _ in sides]
    with ExitStack() as opened_models:
        models = [
            opened_models.enter_context(Model(side.directory, probe=probe, **side.options))
            for side, probe in zip(sides, probes, strict=True)
        ]

        def measure(which: int) -> SavedProfile:
            opened = source() if callable(source) else source
            measured = profile(models[which], opened, probes[which], gates=gates)
            return parse(SavedProfile, measured.as_dict(), ignore_unknown=True)

        return compare_rounds(measure, saved, rounds, on_round)


def check_rounds(rounds: int) -> None:
    """Refuse fewer rounds than an interval needs."""
    if rounds < 2:
        raise WrongCall(f"{rounds} rounds give no interval: use --rounds 2 or more")


def compare_rounds(
    measure: Callable[[int], Measured], saved: Measured | None, rounds: int, on_round: OnRound
) -> Comparison:
    """Measure each side once a round, in one order and then in the other, and compare the medians.

    Args:
        measure: measures ours (0) or theirs (1) once; theirs only if there is no saved measurement of it.
        on_round: called with what was found so far, after each round from the second on.

    Raises:
        VljEdgeError: fewer than two rounds, or as measure().
    """
    check_rounds(rounds)
    found: tuple[list[Measured], list[Measured]] = ([], [] if saved is None else [saved])
    order = [0, 1] if saved is None else [0]
    for number in range(rounds):
        for which in order if number % 2 == 0 else order[::-1]:
            found[which].append(measure(which))
        if number > 0:
            comparison = compared(*found)
            on_round(comparison)
    return comparison


def compared(ours: Sequence[Measured], theirs: Sequence[Measured]) -> Comparison:
    """Compare the medians of two sides, each measured once or more."""
    values = [_by_quantity(measured) for measured in (ours, theirs)]
    ratios = {name: _ratio(values[0][name], values[1][name]) for name in values[0] if name in values[1]}
    sides = ours[-1], theirs[-1]
    return Comparison(
        ratios=ratios,
        differs=_differences(*(condition_texts(side.settings) for side in sides)),
        conditions={"ours": sides[0].conditions, "theirs": sides[1].conditions},
        judged=sides[0].judged | sides[1].judged,
    )


def _by_quantity(measured: Sequence[Measured]) -> dict[str, Values]:
    """Return the value of each quantity in each measurement that has it."""
    found: dict[str, list[float]] = {}
    for one in measured:
        for name, value in one.quantities.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def _differences(one: Mapping[str, str | None], other: Mapping[str, str | None]) -> dict[str, tuple[str, str]]:
    names = [name for name in {**one, **other} if name not in _NEVER_COMPARED]
    pairs = {name: (one.get(name) or "unknown", other.get(name) or "unknown") for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _ratio(ours: Values, theirs: Values) -> dict[str, float]:
    rng = np.random.default_rng(0)
    drawn = [rng.choice(values, (2000, len(values))) for values in (ours, theirs)]
    with np.errstate(divide="ignore", invalid="ignore"):  # a stage too short for the clock
        ratios = np.median(drawn[0], axis=1) / np.median(drawn[1], axis=1)
        middle = [np.median(values) for values in (ours, theirs)]
        ratio = float(middle[0] / middle[1])
    low, high = (float(x) for x in np.percentile(ratios, (2.5, 97.5)))
    return {"ours": float(middle[0]), "theirs": float(middle[1]), "ratio": ratio, "low": low, "high": high}
