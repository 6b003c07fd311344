"""Ctrl-C and SIGTERM: raised as KeyboardInterrupt, but never in the middle of a line that is being written.

Python raises it between any two instructions, and a text stream that is struck while it writes loses what it held.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_held_back = 0
_struck = False


def catch() -> None:
    """From now on, both signals interrupt (systemd stops a service with the second: totals are still written)."""
    signal.signal(signal.SIGINT, _strike)
    signal.signal(signal.SIGTERM, _strike)


@contextmanager
def held_back() -> Iterator[None]:
    """What is done in the block is done whole; an interruption comes at its end."""
    global _held_back, _struck
    _held_back += 1
    try:
        yield
    finally:
        _held_back -= 1
        if _struck and not _held_back:
            _struck = False
            raise KeyboardInterrupt


def _strike(number: int, frame: object) -> None:
    global _struck
    if _held_back:
        _struck = True
    else:
        raise KeyboardInterrupt
