"""The interface of a sink, and the event that is written to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration

from .alert_event import AlertEvent


class EventRefused(VljEdgeError):
    """The sink will never accept this event, so it is not retried."""


class AddressRefused(EventRefused):
    """The sink accepts nothing under this address or with this key, until a person mends that. Alerts wait for it."""


class TryLater(VljEdgeError):
    """The event may be accepted after that many seconds, which the server has asked for."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class Event:
    """One text of one source.

    Attributes:
        source: name of the source.
        clock: unix time at which the text was produced, seconds.
        number: counts up within the source, from 1 with each start of the program.
        end: seconds from the start of the source at which the next event begins, or the source ends; None while that
            is unknown.
    """

    source: str
    narration: Narration
    clock: float
    number: int
    end: float | None = None

    @property
    def id(self) -> str:
        """32 hexadecimal digits that no other event has, of any source or start of the program: a receiver can
        recognise an event that arrives twice."""
        about = f"{self.clock} {self.number} {self.source}"
        return blake2b(about.encode("utf-8", "replace"), digest_size=16).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types: id, source, number, clock, the fields of Narration, event_start and event_end.

        `start` and `end` are those of the window that the text describes. The event itself begins when the
        change was first seen, as in subtitles, and ends where the next one begins.
        """
        fields: dict[str, Any] = {
            "id": self.id,
            "source": self.source,
            "number": self.number,
            "clock": self.clock,
        } | self.narration.as_dict()
        del fields["since"]  # event_start tells it
        if not self.narration.stand_in:  # only where there are words from elsewhere
            del fields["stand_in"]
        if self.narration.data is None:
            del fields["data"]
        return fields | {"event_start": self.narration.begins, "event_end": self.end}


AnyEvent: TypeAlias = Event | AlertEvent


class Sink(Protocol):
    """Takes events one at a time. All calls but interrupt() come from one thread.

    A sink may also have `takes`, the class of the events that it is given, if not all; `pending`, the number of events
    that it accepted and that are not acknowledged yet; `missed`, the number of those that it accepted but did not
    deliver; `last_error`, one line; and a method interrupt(), callable from any thread, that makes a write() in
    progress, or a close() to come, end soon.
    """

    def write(self, event: Any) -> None:
        """Deliver an event of the class that it takes, or an AnyEvent; may block.

        Raises:
            VljEdgeError, OSError: it was not delivered, and may be retried.
            EventRefused: retrying is useless; AddressRefused: until a person has mended something.
        """

    def close(self) -> None:
        """Finish and release all resources. No event follows."""


class Outbox(Protocol):
    """Keeps alerts for one sink, also over a restart. What returns something raises VljEdgeError while it cannot be
    read."""

    def take(self, count: int) -> Sequence[AlertEvent]:
        """Return the next ones, the oldest first. Each is returned once."""

    def done(self, event: AlertEvent) -> None:
        """Forget one: it is delivered, or never will be."""

    def whole(self, event: AlertEvent) -> AlertEvent | None:
        """Return one that was taken, with its pictures; None: it is kept no longer."""

    def left(self) -> int:
        """Return how many are still to be taken."""
