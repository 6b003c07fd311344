"""The one way of commands to write to a terminal: nothing that they quote is obeyed by it.

Names of files, labels, texts of a model and manifests of a bundle may hold escape sequences, line breaks, and
characters that reverse what follows. JSON from json_text() holds none, and stays exact.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from ..errors import printable, without_secrets
from ..json_text import json_text

if TYPE_CHECKING:
    from rich.console import Console


def say(line: str) -> None:
    """Write a line of results to stdout."""
    click.echo(printable(line))


def tell(line: str) -> None:
    """Write a line about what is going on to stderr, without secrets."""
    click.echo(without_secrets(printable(line)), err=True)


def tell_once(line: str) -> None:
    """The same, once in a command however often it is called; an empty line is not printed."""
    told = click.get_current_context().meta.setdefault(__name__, {""})
    if line not in told:
        told.add(line)
        tell(line)


def stdout_console(width: int | None = 120) -> Console:
    """Return a console for tables of results.

    Args:
        width: in a pipe, where rich would cut tables at 80 columns; None: 80.
    """
    return _console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else width)


def stderr_console() -> Console:
    """Return a console on stderr. Bars are drawn only where that is a terminal, whatever FORCE_COLOR asks for."""
    return _console(stderr=True, force_terminal=sys.stderr.isatty())


def _console(**options: Any) -> Console:
    from rich.console import Console
    from rich.text import Text

    class Printable(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return Printable(**options)


class LogLines(logging.Formatter):
    """Formats each record of a log as one line, and a traceback below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        record.message = without_secrets(printable(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """See logging.Formatter."""
        return "\n".join(without_secrets(printable(line)) for line in super().formatException(ei).splitlines())


class JsonLogLines(logging.Formatter):
    """Formats each record of a log as one JSON object on a line. What a line is about has fields of its own."""

    _ABOUT = ("source", "sink", "state", "reason")

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        message = without_secrets(record.getMessage())
        about = {name: getattr(record, name) for name in self._ABOUT if getattr(record, name, None) is not None}
        about = {name: without_secrets(str(value)) for name, value in about.items()}
        return json_text({"time": record.created, "level": record.levelname, "message": message} | about)
