"""Lines in the log about something that is asked again and again."""

from __future__ import annotations

import logging
import re
import threading


class Failures:
    """Logs that something fails, with each new reason, and that it works again: once each, not at every call. Reasons
    that differ in numbers and the names of requests alone are the same."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._lock = log, threading.Lock()
        self._failed, self._reason = 0, ""

    def add(self, line: str, camera: str = "") -> None:
        """Count a failure, and log its line unless it is that of the last one, of whatever camera."""
        with self._lock:
            reason = re.sub(r"(?<!HTTP )(?<!\S)\S*\d\S*", "#", line)
            if reason != self._reason:
                about = {"words": "fails", "reason": line} | ({"source": camera} if camera else {})
                self._log.warning("%s%s", f"{camera}: " if camera else "", line, extra=about)
            self._failed, self._reason = self._failed + 1, reason

    def end(self, shown: str) -> None:
        """Log that it works again, if it did not."""
        with self._lock:
            if self._failed:
                calls = "a call" if self._failed == 1 else f"{self._failed} calls"
                self._log.info("%s answers again, after %s without an answer", shown, calls)
            self._failed, self._reason = 0, ""
