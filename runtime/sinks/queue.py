"""A bounded queue and a thread in front of a sink, so that a slow or failing sink delays neither the caller nor other
sinks."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from vlj_edge.errors import VljEdgeError, without_secrets

from .alert_event import AlertEvent, is_too_old
from .base import AddressRefused, AnyEvent, EventRefused, Outbox, Sink, TryLater
from .bounds import drop_oldest, is_alert, is_kept
from .refused import PAUSES, RefusedAlerts

_LOG = logging.getLogger(__name__)
CLOSING_SECONDS = 10.0  # for the sink's own close(), which may finish a file, after the time for its queue
_HANGING_SECONDS = 0.5  # for a sink that hangs in write(), once it is given up
_TAKEN = 4  # of kept alerts that are in memory
_PATIENCE, _LESS_PATIENCE = 10, 3  # failures of one event after which another is tried; less where some wait aside


class SinkQueue:
    """Hands events to a sink, in order, from a thread of its own.

    Args:
        name: name of the sink in state().
        capacity: maximum number of waiting events. When the queue is full, the oldest is dropped, alerts after all
            others, and counted as missed.
        retry: retry an event that failed, after pauses that double, with jitter; later events wait behind it. After
            ten failures the next is tried, too: if that arrives, the failure is the first one's own, and it waits
            aside. Without `retry`, a failed event is counted as missed.
        pauses: the first and the longest pause, seconds.
        refused_pauses: the same for events that wait aside, and for alerts that the sink refuses until a person mends
            its address or key. Others pass them, and with `retry` alerts wait up to a week.

    Attributes:
        name: as given.
        failed: number of errors of the sink; with `retry` an event may fail several times and still arrive.

    That the sink fails, works again, or has lost events is logged once each time.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        capacity: int = 256,
        retry: bool = False,
        pauses: tuple[float, float] = (0.5, 30.0),
        refused_pauses: tuple[float, float] = PAUSES,
    ) -> None:
        if capacity < 1:
            raise VljEdgeError(f"{name}: a queue of {capacity} events holds nothing: give 1 or more")
        self.name, self.failed = name, 0
        self._sink, self._capacity, self._retry, self._pauses = sink, capacity, retry, pauses
        self._changed = threading.Condition()  # guards what follows
        self._queue: deque[AnyEvent] = deque()
        self._refused = RefusedAlerts(refused_pauses)
        self._outbox: Outbox | None = None
        self._more_kept = False  # there may be more in the outbox than was taken
        self._unread, self._read_again = "", 0.0  # why it cannot be read, and the time.monotonic() of the next attempt
        self._left = 0  # in the outbox, when it could last be read
        self._current: AnyEvent | None = None  # being delivered, and no longer in the queue
        self._ahead = False  # it is tried before the first of the queue, which has failed
        self._tries = 0  # failures of the first of the queue
        self._delivered = self._missed = self._failures_in_a_row = 0
        self._error: str | None = None
        self._failing = False
        self._not_before = 0.0  # time.monotonic() of the next attempt
        self._deadline: float | None = None  # time.monotonic(), set by close()
        self._drained = threading.Event()  # every event was delivered or counted as missed
        self._thread = threading.Thread(target=self._work, name=f"sink {name}", daemon=True)
        self._thread.start()

    def put(self, event: AnyEvent) -> None:
        """Queue an event, if the sink takes such, without waiting for it. After close() it is counted as missed."""
        if not isinstance(event, getattr(self._sink, "takes", object)):
            return
        with self._changed:
            if self._outbox is not None and is_kept(event):
                self._more_kept = True
                self._changed.notify_all()
                return
            if self._deadline is not None:
                self._miss(1)
                return
            self._queue.append(event)
            self._drop_oldest()
            self._changed.notify_all()

    @property
    def takes_kept_alerts(self) -> bool:
        """Whether alerts that it cannot deliver are worth keeping for it."""
        return self._retry and issubclass(AlertEvent, getattr(self._sink, "takes", object))

    def use_outbox(self, outbox: Outbox) -> None:
        """Take alerts that are kept from there: those that are in it now, and then one for each that is put."""
        if hasattr(self._sink, "on_acknowledged"):
            self._sink.on_acknowledged = outbox.done
        with self._changed:
            self._outbox, self._more_kept = outbox, True
            self._changed.notify_all()

    def announce_sources(self, names: Iterable[str]) -> None:
        """Tell the sink, if it wants to know, of the sources whose events may come, in their order."""
        announce = getattr(self._sink, "announce_sources", None)
        if announce is not None:
            announce(names)

    def announce_alerts(self, watched: Sequence[tuple[str, str, bool]], gone: Sequence[tuple[str, str]] = ()) -> None:
        """Tell the sink, if it wants to know, of alerts that may come, given as (alert, source, whether it is firing),
        and of those that no longer do, as (alert, source)."""
        announce = getattr(self._sink, "announce_alerts", None)
        if announce is not None and (watched or gone):
            announce(watched, gone)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver the queue for at most `timeout` seconds, count the rest as missed, and close the sink.

        A hanging sink is left to its thread, which closes it if it ever returns. May be called repeatedly.
        """
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
                self._not_before = 0.0  # one attempt at once, even during a pause
            self._changed.notify_all()
        if not self._drained.wait(timeout):
            self._give_up()
        # Do not wait any longer for a sink that hangs in write(), but let a sink that is closing finish its file.
        closing = CLOSING_SECONDS if self._current is None else _HANGING_SECONDS
        self._thread.join(max(self._deadline + closing - time.monotonic(), 0.0))

    def state(self) -> dict[str, Any]:
        """Return plain JSON types: name, queued (with those in delivery), delivered, missed, last_error, and refused,
        those queued that wait aside: until a person mends the address or the key, or since they alone fail."""
        with self._changed:
            lost, pending = int(getattr(self._sink, "missed", 0)), int(getattr(self._sink, "pending", 0))
            kept = 0 if self._deadline is not None else self._count_kept()
            return {
                "name": self.name,
                "queued": len(self._queue)
                + (self._current is not None and not self._drained.is_set())
                + pending
                + kept
                + len(self._refused),
                "delivered": max(self._delivered - lost - pending, 0),
                "missed": self._missed + lost,
                "last_error": _safe_line(getattr(self._sink, "last_error", None)) or self._unread or self._error,
                "refused": len(self._refused),
            }

    @property
    def problem(self) -> str | None:
        """Why it delivers nothing at present, or what it refuses, one line; None if it delivers."""
        with self._changed:
            if self._unread:
                return self._unread
            if self._refused:
                what = "alerts" if all(map(is_alert, self._refused)) else "texts and alerts"
                return f"{what} wait ({len(self._refused)}): {self._refused.why}"
            return _safe_line(getattr(self._sink, "last_error", None)) or (self._error if self._failing else None)

    def _work(self) -> None:
        while (event := self._next()) is not None:
            error = self._deliver(event)
            if self._outbox is not None and isinstance(event, AlertEvent) and self._is_done(event, error):
                self._outbox.done(event)
            self._record(event, error)
        self._give_up()
        try:
            self._sink.close()
        except Exception as error:  # there may be no caller left
            self._record_failure(error)

    def _next(self) -> AnyEvent | None:
        """Wait for the next event and its retry time; None if the queue is closed and empty, or past its deadline."""
        with self._changed:
            while True:
                self._take_more()
                now = time.monotonic()
                if self._deadline is not None and (not self._queue or self._deadline <= max(now, self._not_before)):
                    return None
                if self._queue and now >= self._not_before:
                    self._ahead = self._is_stuck and len(self._queue) > 1 and not self._refused.trying
                    self._current = self._queue[self._ahead]
                    del self._queue[self._ahead]
                    return self._current
                until = None if not self._refused else max(self._refused.due, self._not_before)
                until = self._not_before if self._queue else until
                until = min(until or self._read_again, self._read_again) if self._unread else until
                self._changed.wait(None if until is None else until - now)

    def _take_more(self) -> None:
        """Put what is to be tried next into the queue: from the outbox, or of what waits aside."""
        if self._unread and time.monotonic() < self._read_again and self._deadline is None:
            return
        try:
            self._take_kept()
            self._take_refused()
        except VljEdgeError as error:
            if not self._unread:
                _LOG.warning("%s: %s", self.name, error, extra={"sink": self.name, "state": "fails"})
            self._unread, self._read_again = str(error), time.monotonic() + self._pauses[1]
        else:
            self._unread = ""

    def _count_kept(self) -> int:
        """Return how many are still to be taken from the outbox."""
        if self._outbox is not None:
            with suppress(VljEdgeError):
                self._left = self._outbox.left()
        return self._left

    @property
    def _is_stuck(self) -> bool:
        """Whether the first of the queue has failed so often that another is tried."""
        return self._tries >= (_LESS_PATIENCE if self._refused else _PATIENCE)

    def _take_refused(self) -> None:
        """Take the oldest that waits aside, if it is time to try it again and nothing else goes first."""
        if self._queue and (self._refused.others_first or self._refused.trying):
            return
        if self._is_stuck and len(self._queue) > 1:
            return
        if self._deadline is None and self._refused and time.monotonic() >= self._not_before:
            event = self._refused.take(lambda kept: None if self._outbox is None else self._outbox.whole(kept))
            if event is not None:
                self._queue.appendleft(event)

    def _take_kept(self) -> None:
        """Take from the outbox what comes next, once all that was taken before is delivered or one of it is stuck."""
        if self._outbox is None or not self._more_kept or self._drained.is_set():
            return
        if any(map(is_kept, self._queue)) and not (self._is_stuck and len(self._queue) == 1):
            return
        taken = self._outbox.take(_TAKEN)
        self._queue.extend(taken)
        self._more_kept = len(taken) == _TAKEN

    def _is_done(self, event: AlertEvent, error: Exception | None) -> bool:
        """Return whether an alert is kept and need not be any longer, after an attempt; some sinks tell that later."""
        if not event.kept:
            return False
        if error is None:
            return not hasattr(self._sink, "on_acknowledged")
        return not self._passes(error) and not self._waits_for_a_person(event, error)

    def _waits_for_a_person(self, event: AnyEvent, error: Exception) -> bool:
        return self._retry and isinstance(event, AlertEvent) and isinstance(error, AddressRefused)

    def _passes(self, error: Exception | None) -> bool:
        """Return whether an attempt failed and another may not."""
        passing = isinstance(error, (VljEdgeError, OSError, MemoryError)) and not isinstance(error, EventRefused)
        return self._retry and passing

    def _deliver(self, event: AnyEvent) -> Exception | None:
        if self._retry and isinstance(event, AlertEvent) and is_too_old(event, time.time()):
            return EventRefused("an alert of a week ago is not sent any more")
        try:
            self._sink.write(event)
        except Exception as error:  # any: the thread must go on
            return error
        return None

    def _record(self, event: AnyEvent, error: Exception | None) -> None:
        """Count the outcome of an attempt, and put the event back if it is retried."""
        again = self._passes(error)
        if error is not None:
            self._record_failure(error)
        with self._changed:
            self._current = None
            if self._drained.is_set():  # close() has counted it as missed
                return
            was_first = not self._ahead and not self._refused.trying
            if error is None:
                self._record_delivery(was_first)
            elif again:
                self._put_back(event, error, was_first)
            elif isinstance(event, AlertEvent) and self._waits_for_a_person(event, error):
                self._not_before = self._refused.add(event, self._error or "")
                self._drop_oldest()
            else:
                self._miss(1)
            if self._ahead or (was_first and not again):
                self._tries = 0
            self._ahead = self._refused.trying = False
            self._failures_in_a_row = self._failures_in_a_row + 1 if again else 0

    def _record_delivery(self, was_first: bool) -> None:
        self._delivered += 1
        if self._ahead and self._queue:  # the failures of the first are its own
            _LOG.warning("%s takes others: what fails waits aside, and is tried again (%s)", self.name, self._error)
            self._refused.add(self._queue.popleft(), self._error or "", oldest=True)
        self._refused.delivered(recovered=was_first and self._tries > 0)
        if self._failing and not self._refused:
            _LOG.info("%s works again", self.name, extra={"sink": self.name, "state": "works"})
            self._failing = False

    def _put_back(self, event: AnyEvent, error: Exception | None, was_first: bool) -> None:
        """Put an event back that is tried again, and set the time of the next attempt."""
        if was_first:
            self._queue.appendleft(event)
            self._tries += 1
        else:
            self._refused.add(event, self._error or "")
        self._drop_oldest()  # which may be this one by now
        asked = error.after if isinstance(error, TryLater) else 0.0
        self._not_before = time.monotonic() + max(self._pause(), asked)

    def _record_failure(self, error: Exception) -> None:
        expected = isinstance(error, (VljEdgeError, OSError))
        line = _safe_line(str(error) if expected else f"{type(error).__name__}: {error}") or type(error).__name__
        with self._changed:
            self.failed += 1
            self._error = line
            if not self._failing:
                about = {"sink": self.name, "state": "fails", "reason": line}
                _LOG.warning("%s fails: %s", self.name, line, extra=about)
            self._failing = True

    def _pause(self) -> float:
        """Return the seconds to wait before the next attempt."""
        first, longest = self._pauses
        # Jitter keeps many devices from returning to one server at the same moment.
        return float(min(first * 2 ** min(self._failures_in_a_row, 30), longest) * random.uniform(0.5, 1.0))

    def _drop_oldest(self) -> None:
        self._miss(drop_oldest(self._queue, self._refused, self._capacity))

    def _miss(self, count: int) -> None:
        if count and self._retry and len(str(self._missed + count)) > len(str(self._missed or "")):
            about = {"sink": self.name, "state": "loses", "reason": self._error}
            # and again at 10, 100, ...
            _LOG.warning("%s has lost %d of the texts", self.name, self._missed + count, extra=about)
        self._missed += count

    def _give_up(self) -> None:
        """Count the remaining events as missed, once."""
        with self._changed:
            if self._drained.is_set():
                return
            events = [*self._queue, *self._refused, *([] if self._current is None else [self._current])]
            left, kept = len(events), sum(map(is_kept, events)) if self._outbox is not None else 0
            self._missed += left - kept
            self._queue.clear()
            self._refused.clear()
            self._drained.set()
        interrupt = getattr(self._sink, "interrupt", None)
        if left and interrupt is not None:
            interrupt()


def close_all(queues: Sequence[SinkQueue]) -> None:
    """Close queues at the same time, so that one whose sink hangs takes no time from the others."""
    closing = [threading.Thread(target=queue.close, name="close sink", daemon=True) for queue in queues]
    try:
        for thread in closing:
            thread.start()
    except RuntimeError:  # the system has no thread left
        for queue in queues:
            queue.close()
    for thread in closing:
        if thread.ident is not None:
            thread.join()


def _safe_line(text: str | None) -> str | None:
    """Return the text on one line and without credentials."""
    return without_secrets(str(VljEdgeError(text))) if text else None
