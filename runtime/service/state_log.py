"""A line in the log for each change of a source's state, with the source and the reason."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

from ..video.cameras.camera import CameraState

# "waiting": for a file that is not there yet.
ChannelState: TypeAlias = CameraState | Literal["waiting"]

NO_KEY_FRAME = "it sends no key frame yet, with which pictures begin"
_LOG = logging.getLogger(__name__)
_WITHOUT_PICTURES = ("lost", "waiting", "waiting for a key frame")


class StateLog:
    """Logs the changes of one source's state. While it gives no pictures, each reason is logged once, however often it
    is tried again. Records have the attributes `source`, `state` and `reason`, for a log in JSON.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._state: ChannelState = "connecting"
        self._told: set[str] = set()  # reasons, since it last gave pictures

    def change(self, state: ChannelState, reason: str | None) -> None:
        """Log the new state, and a new reason."""
        before, self._state = self._state, state
        about = {"source": self._name, "state": state, "reason": reason}
        if state in _WITHOUT_PICTURES:
            reason = reason or "no picture"
            if reason not in self._told:
                level = logging.INFO if state == "waiting for a key frame" else logging.WARNING
                _LOG.log(level, "%s: %s", self._name, reason, extra=about)
            self._told.add(reason)
        elif state == "live" and before != "live":
            _LOG.info("%s gives pictures%s", self._name, " again" if self._told else "", extra=about)
            self._told.clear()

    def end(self) -> None:
        """Log that it was read to its end."""
        self._state = "ended"
        _LOG.info("%s has ended", self._name, extra={"source": self._name, "state": "ended", "reason": None})


def log_error(name: str, error: str) -> None:
    """Log why a source has ended, or what of it was damaged: for Station(on_error=...)."""
    _LOG.error("%s: %s", name, error, extra={"source": name, "reason": error})
