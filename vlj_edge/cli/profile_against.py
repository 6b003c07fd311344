"""vlj-edge profile --against: what is compared with, the comparison, and its limit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import VljEdgeError
from .interrupts import interrupts_deferred
from .options import EngineOptions, TokenChoice
from .profile_engines import measure_each, refuse_tokens
from .say import say, stdout_console, tell

if TYPE_CHECKING:
    from vlj_edge.runtime.profiling.compare import Comparison, Side
    from vlj_edge.runtime.video.source import Source

    from .profile import Subject
    from .profile_output import ProfileOutput

Saved = TypeVar("Saved")

AGAINST = (
    "Compare with: another BUNDLE (a folder), a FILE that profile --json wrote, or this bundle with other settings:"
    " openvino, tokens=0.5, threads=1, or openvino,threads=1. What runs here runs alternately."
)
_KINDS: dict[str, click.ParamType] = {  # type: ignore[type-arg]
    "backend": click.STRING,
    "tokens": TokenChoice(),
    "threads": click.IntRange(1, 1024),
}


def compare(subject: Subject, against: str, rounds: int, output: ProfileOutput) -> None:
    """Measure the subject beside another, or one that was saved, print ratios and what differs.

    Raises:
        click.UsageError: there is no such thing to compare with, or options were given that a comparison ignores.
        VljEdgeError: one of both cannot be measured, or `output.fail_over` is exceeded.
    """
    from vlj_edge.runtime.profiling.compare import SavedProfile, compare_saved, compare_sides, read_saved

    _check_output(output)
    if subject.limits.ends or subject.limits.repeat > 1:
        raise click.UsageError("--against takes --rounds and --duration: leave --seconds, --windows and --repeat out")
    theirs = _other(subject, against, read_saved)
    with _kept(rounds, against, output) as keep:
        if isinstance(theirs, SavedProfile):
            found = compare_saved(_side(subject), theirs, lambda: _open(subject), rounds, subject.gates, keep)
        else:
            found = compare_sides(_side(subject), _side(theirs), lambda: _open(subject), rounds, subject.gates, keep)
    _conclude(found, against, output)


def compare_engines_alone(subject: Subject, against: str, rounds: int, output: ProfileOutput) -> None:
    """The same with each engine by itself, for `--seconds` or `--windows` of it a round. Errors as for compare()."""
    from vlj_edge.runtime.profiling.compare_engines import SavedEngines, compare_engines, read_saved_engines

    from .progress import steps

    _check_output(output)
    if subject.limits.repeat > 1:
        raise click.UsageError("--against takes --rounds: leave --repeat out")
    theirs = _other(subject, against, read_saved_engines)
    for side in (subject, theirs):
        if not isinstance(side, SavedEngines):
            refuse_tokens(side.engine_options)
    with _kept(rounds, against, output) as keep, steps() as step:
        found = compare_engines(
            _side(subject),
            theirs if isinstance(theirs, SavedEngines) else _side(theirs),
            rounds,
            lambda alone: measure_each(alone, subject.limits, step),
            keep,
        )
    _conclude(found, against, output)


def _check_output(output: ProfileOutput) -> None:
    from ..errors import WrongCall

    if output.html or output.trace or output.form in ("md", "csv"):
        raise WrongCall("--against prints ratios: leave --html, --trace, --md and --csv out, or profile one bundle")


@contextmanager
def _kept(rounds: int, against: str, output: ProfileOutput) -> Iterator[Callable[[Comparison], None]]:
    """Yield what keeps the comparison after each round: after Ctrl-C or an error, the last one is printed."""
    kept: list[Comparison] = []
    try:
        yield kept.append
    except (KeyboardInterrupt, VljEdgeError):
        with interrupts_deferred():
            if kept:
                tell(f"only {len(kept) + 1} of {rounds} rounds were measured")
                _print(kept[-1], against, output.form == "json")
        raise


def _conclude(found: Comparison, against: str, output: ProfileOutput) -> None:
    """Print a comparison, and fail if it exceeds its limit."""
    _print(found, against, output.form == "json")
    slower = {} if output.fail_over is None else found.slower(output.fail_over)
    if slower:
        times = ", ".join(f"{name} {ratio:.3f} times" for name, ratio in slower.items())
        raise VljEdgeError(f"slower than {against}: {times}, over --fail-over {output.fail_over:g}")


def _other(subject: Subject, against: str, read_saved: Callable[[Path], Saved]) -> Subject | Saved:
    """Return what `against` names: what exists on disk is a bundle or a saved profile, anything else is settings."""
    if os.path.isdir(against):  # as pathlib's, but False for a name that is too long
        return replace(subject, directory=Path(against))
    if os.path.exists(against):
        return read_saved(Path(against))
    return replace(subject, engine_options=_changed(subject.engine_options, against))


def _changed(options: EngineOptions, against: str) -> EngineOptions:
    """Return the options with the settings that `against` names in place of theirs."""
    from vlj_edge.runtime.engines.base import BACKENDS, WITH_SETTINGS

    backends = (*BACKENDS, *WITH_SETTINGS)

    changes: dict[str, Any] = {}
    for word in against.split(","):
        name, sign, value = word.partition("=") if "=" in word else ("backend", "=", word)
        if name == "precision":
            raise click.UsageError(
                f"--against {against}: a bundle has the precision that it was exported with: vlj-edge export"
                f" --precision {value or 'PRECISION'} --out OTHER, then --against OTHER; openvino-bf16 and cuda-tf32"
                " multiply otherwise"
            )
        if name not in _KINDS or name in changes or (sign and word == value and value not in backends):
            raise click.UsageError(
                f"--against {against}: no folder or file has this name, and it is no setting: give a bundle, a file of"
                f" profile --json, a backend ({', '.join(backends)}), tokens=SHARE or threads=NUMBER"
            )
        try:
            changes[name] = _KINDS[name].convert(value, None, None)
        except click.BadParameter as error:
            raise click.UsageError(f"--against {against}: {name}: {error.message}") from None
    if changes.get("backend", "tensorrt") != "tensorrt":
        changes["engines"] = None  # of TensorRT alone
    return replace(options, **changes)


def _side(subject: Subject) -> Side:
    from vlj_edge.runtime.profiling.compare import Side

    options = subject.engine_options
    return Side(
        subject.directory,
        {
            "backend": options.backend,
            "engines": options.engines,
            "threads": options.threads,
            "tokens": options.tokens,
            "overlap": subject.overlap,
        },
    )


def _open(subject: Subject) -> Source:
    """Open the source, which must end."""
    from vlj_edge.runtime.video.part import check_ends

    found = subject.open()
    try:
        check_ends(found)
    except BaseException:
        found.close()
        raise
    return found


def _print(found: Comparison, against: str, as_json: bool) -> None:
    """Print the ratios and what differs, as tables or as one JSON object."""
    from ..json_text import json_text

    if as_json:
        say(json_text({**found.ratios, "differs": found.differs, "conditions": found.conditions}))
        return
    from rich.markup import escape
    from rich.table import Table

    console = stdout_console()
    table = Table("", "this", "against", "ratio", "95 % interval", title=escape(f"against {against}"))
    for name, row in found.ratios.items():
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(name, f"{row['ours']:.3f}", f"{row['theirs']:.3f}", f"{row['ratio']:.3f}", interval)
    console.print(table)
    for name, (ours, theirs) in found.differs.items():
        console.print(escape(f"{name.replace('_', ' ')} differs: {ours}; against: {theirs}"))
    if not found.differs:
        console.print("the same machine, versions, bundle, settings and source")
