"""Events for the tests of sinks, a sink with a wrong key, and a full disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.alert_event import AlertEvent
from vlj_edge.runtime.sinks.base import AddressRefused, Event


def event(number: int, text: str | None = None, centre: float | None = None, source: str = "door") -> Event:
    text = f"text {number}" if text is None else text
    centre = float(number) if centre is None else centre
    return Event(source, Narration(centre - 1, centre + 1, text, "decoder"), 1.7e9, number)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: the last write is cut short, the next fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Refuses:
    """A sink whose key is wrong."""

    takes = AlertEvent

    def write(self, event: AlertEvent) -> None:
        raise AddressRefused("HTTP 401 from http://home: check the address of --webhook and its key")

    def close(self) -> None:
        pass
