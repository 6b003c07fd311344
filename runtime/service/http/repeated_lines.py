"""Log lines that anybody can cause as often as they like, such as a malformed request, once a minute."""

from __future__ import annotations

import logging
import threading
import time


class _OnceAMinute(logging.Filter):
    """Passes a message that repeats once a minute, on one line, with how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        line = record.getMessage().partition("\n")[0]
        if line.startswith("socket.accept() out of system resource"):
            error = record.exc_info[1] if record.exc_info else None
            record.exc_info, record.exc_text = None, None
            why = getattr(error, "strerror", None) or error
            record.msg, record.args = f"no connection can be accepted ({why}): raise the limit with ulimit -n", ()
        with self._lock:
            now, (last, left_out) = time.monotonic(), self._seen.get(line, (float("-inf"), 0))
            if now - last < 60:
                self._seen[line] = last, left_out + 1
                return False
            if len(self._seen) > 100:
                self._seen.clear()
            self._seen[line] = now, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} times more in the last minutes)", ()
        return True


once_a_minute = _OnceAMinute()
