"""Ctrl-C and SIGTERM (with which systemd stops a service): exit code 130, no traceback, and no half-written line.

During imports and after the command has ended, a signal ends the process at once. While the command runs, the first
signal raises KeyboardInterrupt, so that totals are still written; the next one ends the process at once. Python raises
KeyboardInterrupt between any two instructions, also in the middle of writing a line, which loses the line:
`interrupts_deferred` delays it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from ..errors import SourceBrokeOff, VljEdgeError

Item = TypeVar("Item")

_MOST_DEFERRED = 2  # signals that a deferring block may delay, in case it never ends
_received = 0
_deferring = 0  # nested blocks in progress
_pending = False


def exit_at_once() -> None:
    """From now on, both signals end the process without any clean-up."""
    _handle(lambda number, frame: os._exit(130))


def install_handlers() -> None:
    """From now on, the first signal raises KeyboardInterrupt in the main thread and the next ends the process."""
    global _received, _pending
    _received, _pending = 0, False
    sys.unraisablehook = _retry_ignored
    _handle(_interrupt)


def was_interrupted() -> bool:
    """Return whether a signal has come: an error after it may only be a consequence."""
    return _received > 0


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Delay KeyboardInterrupt to the end of the block."""
    global _deferring, _pending
    _deferring += 1
    try:
        yield
    finally:
        _deferring -= 1
        if _pending and not _deferring:
            _pending = False
            raise KeyboardInterrupt


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items until they end or a signal comes, so that results so far can be printed."""
    with suppress(KeyboardInterrupt):
        yield from items


@contextmanager
def finishing(finish: Callable[[], None]) -> Iterator[None]:
    """Call finish() after the block, also after Ctrl-C or an error that ends a source too early: what was found until
    then is printed before the command fails."""
    try:
        yield
    except (KeyboardInterrupt, VljEdgeError):
        with interrupts_deferred():
            finish()
        raise
    finish()


def until_broken(find: Callable[[], Iterable[Item]]) -> Iterator[Item]:
    """Yield the result of find(). If the source broke off, yield the results so far before the error is raised."""
    try:
        yield from find()
    except SourceBrokeOff as error:
        yield from error.found
        raise


def _handle(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received, _pending
    _received += 1
    if _received > (_MOST_DEFERRED if _deferring else 1):
        os._exit(130)
    if not _deferring:
        raise KeyboardInterrupt
    _pending = True


def _retry_ignored(unraisable: sys.UnraisableHookArgs) -> None:
    """Interrupt again a little later if Python had to ignore it, in a destructor or an import's callback."""
    global _received
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    _received -= 1
    again = threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    again.daemon = True
    again.start()
