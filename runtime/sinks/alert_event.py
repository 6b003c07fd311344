"""What is told of an alert: that an event begins, and that it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

SENT_FOR = 7 * 86_400.0  # seconds after which a message is not sent any more
CLOCK_IS_SET = 1_577_836_800.0  # 2020: a device without a battery tells earlier times until it has found a server
_WHAT = {"start": "", "end": " is over", "clip": ", the clip"}


@dataclass(frozen=True)
class AlertEvent:
    """The beginning or the end of an event that an alert tells of, or the clip of it, which comes after the beginning.

    Attributes:
        source: name of the source.
        event: identifies the event: the same for its beginning, its end and its clip.
        clock: unix time at which it was certain, or the clip was ready, seconds.
        since: unix time at which it began, or, of its end, ceased.
        score: probability, 0..1; at the end the highest that was seen.
        picture: a JPEG of the moment; None if there was none.
        clip: an MP4; None if there is none.
        confirmed: of a beginning and its clip, whether a model that was asked has said yes; False: it gave no
            answer. None: none was asked.
        kept: it is in an AlertJournal, from which sinks take it.
    """

    alert: str
    source: str
    kind: Literal["start", "end", "clip"]
    event: str
    clock: float
    since: float
    score: float
    picture: bytes | None = field(default=None, repr=False)
    clip: bytes | None = field(default=None, repr=False)
    confirmed: bool | None = None
    kept: bool = field(default=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """Differs between all messages: a receiver can recognise one that arrives twice."""
        return f"{self.event}-{self.kind}"

    @property
    def sentence(self) -> str:
        """A line for people."""
        unsure = ", not confirmed" if self.confirmed is False and self.kind == "start" else ""
        return f"{self.source}: {self.alert}{_WHAT[self.kind]}{unsure}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without the picture and the clip."""
        found = {
            "id": self.id,
            "alert": self.alert,
            "source": self.source,
            "kind": self.kind,
            "event": self.event,
            "clock": self.clock,
            "since": self.since,
            "score": round(self.score, 4),
        }
        return found if self.confirmed is None else found | {"confirmed": self.confirmed}


def is_too_old(event: AlertEvent, clock: float) -> bool:
    """Return whether a message is not sent any more; `clock` is the unix time."""
    return CLOCK_IS_SET <= event.clock <= clock - SENT_FOR


def from_dict(data: dict[str, Any], picture: bytes | None = None, clip: bytes | None = None) -> AlertEvent:
    """Return the event of as_dict(), one that is kept."""
    fields = {name: data[name] for name in ("alert", "source", "kind", "event", "clock", "since", "score")}
    return AlertEvent(**fields, picture=picture, clip=clip, confirmed=data.get("confirmed"), kept=True)


def event_id(alert: str, source: str, clock: float) -> str:
    """Return 32 hexadecimal digits for an event that begins at that unix time."""
    about = f"{clock!r}\n{alert}\n{source}"
    return blake2b(about.encode("utf-8", "replace"), digest_size=16).hexdigest()
