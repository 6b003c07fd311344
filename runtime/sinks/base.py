"""A sink in a thread of its own, behind a bounded queue: one that is slow or fails stops neither the narration nor the
other sinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from vlj_edge.errors import VljEdgeError, without_credentials
from vlj_edge.results import Narration


class Refused(VljEdgeError):
    """The sink will never take this event, however often it is tried."""


@dataclass(frozen=True)
class Event:
    """One text of one source.

    Attributes:
        source: name of the source.
        clock: unix time at which it was said, seconds.
        number: runs on within the source; whoever receives an event twice knows it by this.
    """

    source: str
    narration: Narration
    clock: float
    number: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: source, number and clock, then the fields of Narration."""
        return {"source": self.source, "number": self.number, "clock": self.clock} | self.narration.as_dict()


class Sink(Protocol):
    """Takes events, one at a time, and is closed by the thread that they came from.

    Three attributes are looked at where a sink has them: `missed`, how many of the events that it took it could not
    hand on after all; `last_error`, one line; and the method interrupt(), which makes a take()
    that still runs end soon.
    """

    def take(self, event: Event) -> None:
        """The next event. Raises VljEdgeError or OSError if it could not be handed on, Refused if it never can be."""

    def close(self) -> None:
        """Nothing comes any more."""


def split_address(url: str) -> tuple[SplitResult, str | None, int | None]:
    """A sink's address in its parts, with its host and port.

    Raises:
        VljEdgeError: it is none. The message has no credentials in it.
    """
    try:
        parts = urlsplit(url)
        return parts, parts.hostname, parts.port
    except ValueError:  # its message quotes what may be a password
        shown = without_credentials(url)
        raise VljEdgeError(f"no address ({shown}): check host and port, and write %40 for @ in a password") from None


def _printable(text: str | None) -> str | None:
    """On one line, without credentials."""
    return without_credentials(str(VljEdgeError(text))) if text else None
