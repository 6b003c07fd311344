"""The command line: one file a command, `group.py` joins them. Model code and heavy imports do not belong here.

This module is the entry point and imports next to nothing, so that Ctrl-C is handled during the other imports.
Inside commands, numpy and other slow modules are imported in the functions, so that --help is instant.
"""

from __future__ import annotations

import os
import sys

from .interrupts import exit_at_once, install_handlers


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 it failed, 2 the call was wrong, 130 interrupted.

    Args:
        arguments: without the program's name; None: those of the process.
    """
    exit_at_once()
    from .group import run

    install_handlers()
    _open_closed_streams()
    code = run(arguments)
    exit_at_once()  # Ctrl-C during Python's shutdown would print a traceback
    sys.exit(code)


def _open_closed_streams() -> None:
    """Redirect closed stdout and stderr (>&-) to /dev/null: the next file opened would otherwise take their place."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 (as long as the process)
