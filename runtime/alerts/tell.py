"""What becomes of the beginning and the end of an event: confirmed if that is asked for, kept, told, with a clip."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from ..sinks.alert_event import AlertEvent
from ..video.recordings.image import encode_jpeg
from ..words.words import Words
from .clips import ClipKeeper
from .confirm import Questions
from .journal import AlertJournal
from .settings import Alert

_LOG = logging.getLogger(__name__)
_WIDTH, _QUALITY = 640, 80  # of the picture
_LONGEST_HOLD = 60.0  # seconds of `for` that a clip shows
_LONGEST_ANSWER = 60.0  # seconds that a clip waits for a confirmation
_SPARE = 5.0  # seconds that are kept more than asked for, since what is certain is known a little later
_Image = npt.NDArray[np.uint8]
Picture = Callable[[], "_Image | None"]


@dataclass(frozen=True)
class Around:
    """What is known of the sources of alerts, besides their windows.

    Attributes:
        latest: returns the newest frame of a source, uint8 [height, width, 3] BGR, or None.
        words_of: returns what can be asked about a source, or None.
    """

    latest: Callable[[str], _Image | None] = lambda source: None
    words_of: Callable[[str], Words | None] = lambda source: None


class Teller:
    """Tells of events, in order: an end never before its beginning. Callable from any thread.

    Args:
        on_event: called with what is told.
        state_of: returns what is known of the alert of an event, as it is kept.
        on_answer: called with an event that was to be confirmed, before it is told, and False if the answer was no.
        clock: unix time.
    """

    def __init__(
        self,
        on_event: Callable[[AlertEvent], None],
        journal: AlertJournal,
        around: Around,
        state_of: Callable[[AlertEvent], str],
        on_answer: Callable[[AlertEvent, bool], None],
        clock: Callable[[], float],
    ) -> None:
        self.journal = journal
        self._on_event, self._state_of, self._on_answer, self._clock = on_event, state_of, on_answer, clock
        self._clips, self._questions = ClipKeeper(around.latest), Questions(around.words_of)
        self._lock = threading.Lock()
        self._held: dict[str, list[AlertEvent]] = {}  # ends of events that wait for an answer, by event

    def keep(self, alerts: Iterable[Alert], sources: Sequence[str]) -> None:
        """Keep the pictures that clips of these alerts need. Starts a thread if there are any."""
        seconds: dict[str, float] = {}
        for alert in alerts:
            if alert.keep > 0:
                needed = 2 * alert.keep + min(alert.rule.hold, _LONGEST_HOLD) + _SPARE
                needed += _LONGEST_ANSWER if alert.confirm else 0.0
                seconds |= {name: max(needed, seconds.get(name, 0.0)) for name in sources if alert.watches(name)}
        self._clips.keep(seconds)

    def tell(self, event: AlertEvent, alert: Alert | None, picture: Picture) -> None:
        """Tell of the beginning or end of an event of an alert, or ask first.

        Args:
            picture: returns the newest frame.
        """
        if event.kind == "end":
            with self._lock:
                if event.event in self._held:
                    self._held[event.event].append(event)
                    return
            self._deliver(event)
            return
        image, now = _image(picture), time.monotonic()
        event = replace(event, picture=None if image is None else encode_jpeg(image, _WIDTH, _QUALITY))
        begin = now - (event.clock - event.since)
        clip = None if alert is None or not alert.keep else (begin - alert.keep, now + alert.keep)
        if alert is None or alert.confirm is None:
            self._begin(event, clip)
            return
        with self._lock:
            self._held[event.event] = []
        shown = partial(self._shown, event.source, image, begin - 1.0, now)
        self._questions.put(event.source, alert.confirm, shown, partial(self._answered, event, clip))

    def close(self) -> None:
        """End what goes on: what waits for an answer is told without, and clips are made of what there is."""
        self._questions.close()
        self._clips.close()

    def _shown(self, source: str, image: _Image | None, begin: float, end: float) -> list[_Image]:
        return self._clips.pictures(source, begin, end) + ([] if image is None else [image])

    def _answered(self, event: AlertEvent, clip: tuple[float, float] | None, answer: bool | None) -> None:
        _LOG.info("alert: %s: %s", event.sentence, {True: "confirmed", False: "not so", None: "no answer"}[answer])
        self._on_answer(event, answer is not False)
        if answer is not False:
            event = replace(event, confirmed=answer is True, clock=self._clock())
            self._begin(event, clip)
        with self._lock:
            ends = self._held.pop(event.event)
        for end in ends if answer is not False else ():
            self._deliver(end)

    def _begin(self, event: AlertEvent, clip: tuple[float, float] | None) -> None:
        self._deliver(event)
        if clip is not None:
            self._clips.cut(event.source, *clip, partial(self._deliver_clip, event))

    def _deliver_clip(self, event: AlertEvent, clip: bytes) -> None:
        self._deliver(replace(event, kind="clip", clock=self._clock(), picture=None, clip=clip))

    def _deliver(self, event: AlertEvent) -> None:
        kept = self.journal.add(event, self._state_of(event))
        about = {"source": event.source, "state": event.kind}
        _LOG.info("alert: %s (%.2f)", event.sentence, event.score, extra=about)
        self._on_event(replace(event, kept=kept and self.journal.lasts))


def _image(picture: Picture) -> _Image | None:
    try:
        return picture()
    except VljEdgeError:  # a damaged picture
        return None
