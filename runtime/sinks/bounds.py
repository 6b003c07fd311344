"""How much may wait in memory for one sink."""

from __future__ import annotations

from collections import deque

from .alert_event import AlertEvent
from .base import AnyEvent
from .refused import RefusedAlerts

_MOST_CLIPS = 32_000_000  # bytes of clips


def drop_oldest(queue: deque[AnyEvent], aside: RefusedAlerts, capacity: int) -> int:
    """Drop what is too much, the oldest first and texts before alerts, and return how many that were.

    The queue and what waits aside may hold `capacity` events each; alerts that are kept elsewhere do not count.
    """
    ours = sorted((event for event in aside if not is_kept(event)), key=is_alert)
    dropped = ours[: max(len(ours) - capacity, 0)]
    for event in dropped:
        aside.remove(event)
    return len(dropped) + _drop_clips(queue, aside) + _drop_from_queue(queue, capacity)


def is_alert(event: AnyEvent) -> bool:
    """Return whether an event is an alert, and no text."""
    return isinstance(event, AlertEvent)


def is_kept(event: AnyEvent) -> bool:
    """Return whether it is an alert that is kept on the disk."""
    return isinstance(event, AlertEvent) and event.kept


def _drop_clips(queue: deque[AnyEvent], aside: RefusedAlerts) -> int:
    waiting = [event for event in (*aside, *queue) if isinstance(event, AlertEvent) and event.clip and not event.kept]
    size, count = sum(len(event.clip or b"") for event in waiting), 0
    for event in waiting:
        if size <= _MOST_CLIPS:
            break
        (aside if event in aside else queue).remove(event)
        size, count = size - len(event.clip or b""), count + 1
    return count


def _drop_from_queue(queue: deque[AnyEvent], capacity: int) -> int:
    count = 0
    while len(queue) > capacity:
        texts = (place for place, event in enumerate(queue) if not is_alert(event))
        alerts = (place for place, event in enumerate(queue) if not is_kept(event))
        place = next(texts, next(alerts, None))  # alerts stay longest
        if place is None:
            break
        del queue[place]
        count += 1
    return count
