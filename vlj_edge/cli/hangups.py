"""SIGHUP asks a service to read its configuration again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any


class Hangups:
    """Takes SIGHUPs from its beginning on, and answers them in order once answer() was called. A context manager, for
    the main thread.

    Each is answered by work that begins after it has come; several that come in the meantime are answered together.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[bool] = SimpleQueue()  # its put() may interrupt itself, as a signal handler does
        self._thread: threading.Thread | None = None
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Hangups:
        self._before = signal.signal(signal.SIGHUP, lambda *_: self._asked.put(True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGHUP, self._before or signal.SIG_DFL)
        self._asked.put(False)
        if self._thread is not None:
            self._thread.join(1)

    def answer(self, work: Callable[[], None]) -> None:
        """Call `work` in a thread for SIGHUPs: for those that have come already, and for later ones."""

        def answer() -> None:
            while self._asked.get():
                while not self._asked.empty():
                    if not self._asked.get():
                        return
                work()

        self._thread = threading.Thread(target=answer, name="hangups", daemon=True)
        self._thread.start()
