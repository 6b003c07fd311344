"""The command line: one file a command, `group.py` joins them. Model code and heavy imports do not belong here.

This module is the entry point and imports next to nothing, so that Ctrl-C is handled while the rest is being imported.
Inside commands, numpy and everything that takes long to import is imported in the functions, so that --help is instant.
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
    exit_at_once()  # what Python does at the end cannot be interrupted without a traceback
    sys.exit(code)


def _open_closed_streams() -> None:
    """Let stdout and stderr that the caller has closed (>&-) lead nowhere, and not into the next file opened."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 (as long as the process)
