"""vlj-edge profile --engines-only: each engine by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..json_text import json_text
from .interrupts import finishing
from .options import EngineOptions, command_line, load_model
from .progress import steps
from .say import say, stdout_console

if TYPE_CHECKING:
    from vlj_edge.runtime.profiling.conditions import Conditions
    from vlj_edge.runtime.profiling.engines_alone import EnginesAlone

    from .profile import Limits

_SECONDS = 3.0  # for each engine, where --seconds does not say


def measure_engines(bundle: Path, engine_options: EngineOptions, limits: Limits, form: str) -> None:
    """Time each engine of a bundle and print the times, also after Ctrl-C those so far.

    Args:
        form: "table", "json", "md" or "csv".

    Raises:
        click.UsageError: --tokens was given: every share is measured.
        VljEdgeError: an engine cannot be loaded, or the backend failed.
    """
    from vlj_edge.runtime.profiling.compare_engines import INPUTS
    from vlj_edge.runtime.profiling.conditions import conditions
    from vlj_edge.runtime.profiling.engines_alone import EnginesAlone

    refuse_tokens(engine_options)
    with load_model(bundle, engine_options) as model:
        alone = EnginesAlone(model)
        about = conditions(model, INPUTS, command_line())

        def write() -> None:
            if alone.rows:
                _print(alone, about, form)

        with finishing(write), steps() as step:
            for _ in range(limits.repeat):
                measure_each(alone, limits, step)


def refuse_tokens(engine_options: EngineOptions) -> None:
    """Refuse --tokens."""
    if engine_options.tokens is not None:
        raise click.UsageError("--engines-only measures every share of tokens: leave --tokens out")


def measure_each(alone: EnginesAlone, limits: Limits, step: Callable[[str], None]) -> None:
    """Time every engine once, as long as the limits say."""
    alone.run(limits.seconds or _SECONDS, limits.windows, limits.warmup, step)


def _print(alone: EnginesAlone, about: Conditions, form: str) -> None:
    from rich.table import Table

    from vlj_edge.runtime.profiling.conditions import condition_texts
    from vlj_edge.runtime.profiling.report import csv_lines, markdown_table, value_lines

    rows, texts = [row.as_dict() for row in alone.rows], condition_texts(about)
    if form == "json":
        say(json_text({"headline": alone.headline, "engines": rows, "conditions": about}))
        return
    if form == "csv":
        for line in csv_lines([{**row, **texts, **row} for row in rows]).splitlines():  # its own precision and tokens
            say(line)
        return
    shown = [{name.replace("_", " "): _cell(value) for name, value in row.items()} for row in rows]
    lines = value_lines(texts)
    if form == "md":
        for line in [alone.headline, "", *markdown_table(shown), "", *(f"- {line}" for line in lines)]:
            say(line)
        return
    console = stdout_console(160)
    console.print(alone.headline)
    table = Table(*shown[0])
    for row in shown:
        table.add_row(*row.values())
    console.print(table)
    for line in lines:
        console.print(line)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
