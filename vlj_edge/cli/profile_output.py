"""What vlj-edge profile writes: its table, or JSON or Markdown, and the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..json_text import json_text
from .outputs import write_whole
from .say import say, stdout_console

if TYPE_CHECKING:
    from vlj_edge.runtime.profiling.probe import Probe
    from vlj_edge.runtime.profiling.result import Profile


@dataclass(frozen=True)
class ProfileOutput:
    """Where a profile goes: stdout in one form, and files."""

    form: str  # "table", "json", "md" or "csv"
    html: Path | None
    trace: Path | None
    fail_over: float | None = None  # ratio above which a comparison fails

    def write(self, found: Profile, probe: Probe, threshold: float) -> None:
        """Write a profile.

        Args:
            threshold: cosine below which the meaning gate lets a text through.
        """
        from vlj_edge.runtime.profiling import report

        if self.html is not None:
            write_whole(self.html, report.page(found, probe, threshold))
        if self.trace is not None:
            write_whole(self.trace, report.trace(found, probe))
        if self.form == "json":
            say(json_text(found.as_dict()))
        elif self.form in ("md", "csv"):
            text = report.markdown(found) if self.form == "md" else report.csv_text(found)
            for line in text.splitlines():
                say(line)
        else:
            _print(found)


def _print(found: Profile) -> None:
    from rich.table import Table

    from vlj_edge.runtime.profiling.report import summary_lines

    console = stdout_console(160)
    console.print(found.headline)
    columns = ("min", "mean", "sd", "p50", "p90", "p95", "p99", "max")
    table = Table("stage, ms", "calls", *columns, "enqueue p50", "device p50", "share", title_justify="left")
    for row in found.rows:
        times = [f"{getattr(row, name):.2f}" for name in columns]
        device = [f"{x:.2f}" if x is not None else "" for x in (row.enqueue_p50, row.device_p50)]
        table.add_row(row.stage, str(row.calls), *times, *device, f"{100 * row.share:.1f} %" if row.share else "")
    console.print(table)
    for line in summary_lines(found):
        console.print(line)
    for line in found.warnings:
        console.print(f"warning: {line}")
