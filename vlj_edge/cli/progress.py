"""Progress of a command, on stderr, if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import printable
from .say import stderr_console

if TYPE_CHECKING:
    from vlj_edge.runtime.stream.run import Run
    from vlj_edge.runtime.video.source import Source


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the step that is being done, on stderr, where that is a terminal."""
    from rich.markup import escape

    with stderr_console().status("starting") as status:
        yield lambda step: status.update(escape(printable(step)))


@contextmanager
def progress(run: Run[Any], source: Source) -> Iterator[None]:
    """Show a bar with the time that is left while the run is iterated over. What is printed appears above it.

    Nothing is shown of a source whose length is not known.
    """
    if source.live or not source.duration or not sys.stderr.isatty():
        yield
        return
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    duration, started = source.duration, time.monotonic()

    def bar() -> Table:
        done = min(1.0, run.totals.video_seconds / duration)
        spent = time.monotonic() - started
        left = _clock(spent * (1 - done) / done) if done > 0.01 else "--:--"
        line = Table.grid(padding=(0, 1))
        line.add_row(
            f"{_clock(done * duration)} of {_clock(duration)}", ProgressBar(1.0, done, width=30), f"{left} left"
        )
        return line

    # Only output to the same terminal may be moved above the bar.
    moved = sys.stdout.isatty()
    with Live(get_renderable=bar, console=stderr_console(), transient=True, redirect_stdout=moved):
        yield


@contextmanager
def counting(run: Run[Any]) -> Iterator[None]:
    """Show how many windows the run has passed, and how fast, while it is iterated over, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        totals = run.totals
        rate = totals.windows / totals.wall_seconds if totals.wall_seconds else 0.0
        dropped = f", {totals.windows_dropped} dropped" if run.live else ""
        return Text(
            f"{totals.windows} windows, {rate:.3g} a second{dropped}, {_clock(totals.wall_seconds)}; Ctrl-C ends"
        )

    with Live(get_renderable=line, console=stderr_console(), transient=True, redirect_stdout=sys.stdout.isatty()):
        yield


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
