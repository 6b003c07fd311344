"""The alerts of all sources of a service: windows come in, events go out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from ..model import Model
from ..sinks.alert_event import AlertEvent, event_id
from .decision import Rule, Turn, finish, look
from .journal import AlertJournal, JournalUnreadable
from .score import Scorer, make_scorer
from .settings import Alert
from .status import AlertStatus, as_kept, restored
from .tell import Around, Picture, Teller

_LOG = logging.getLogger(__name__)
LOOK_EVERY = 0.5  # seconds of a moving picture after which alerts need another embedding
AWAY = 60.0  # seconds without a window after which an event is over: its camera is away
_LOOK_FOR_AWAY = 5.0  # seconds between two looks for such
ASK_AGAIN = 60.0  # seconds after the answer no before which nothing is asked again


class AlertWatch:
    """Decides for every window of every source which alerts begin and end. Callable from any thread.

    Args:
        on_event: called with each event, by the thread that brought the window.
        journal: keeps what is told and known; None: one in memory, until close().
        around: what clips and confirmations need of the sources.
        now, clock: the time that durations are measured by, and unix time.
    """

    def __init__(
        self,
        model: Model,
        on_event: Callable[[AlertEvent], None],
        journal: AlertJournal | None = None,
        around: Around | None = None,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model, self._now, self._clock = model, now, clock
        self.journal, self._own_journal = journal or AlertJournal(), journal is None
        self._teller = Teller(on_event, self.journal, around or Around(), self._state_of, self._answered, clock)
        self.alerts: tuple[Alert, ...] = ()
        self._scorers: Mapping[tuple[str, str | None], Scorer] = {}
        self._known: dict[tuple[str, str], AlertStatus] = {}
        self._before: dict[tuple[str, str], tuple[str | None, float | None]] = {}  # event and since of the one before
        self._asking: set[str] = set()  # alerts that are confirmed first
        self._sources: tuple[str, ...] = ()
        self._looked: dict[str, float] = {}  # by source: the time in it of the last window with an embedding
        self._told: set[tuple[str, str | None]] = set()
        self._lock, self._restored, self._closed = threading.RLock(), False, threading.Event()
        self._away = threading.Thread(target=self._look_for_away, name="alerts", daemon=True)

    def apply(self, alerts: Sequence[Alert], queries: Mapping[str, str | None]) -> list[tuple[str, str]]:
        """Watch for these alerts from now on. What is known of one of the same name stays; events of those that are no
        longer watched for are over. Returns these, as (alert, source).

        Args:
            queries: of the sources, by name; None: the bundle's default.

        Raises:
            VljEdgeError: the model cannot watch for one of them, or it names a source that is not there; nothing
                changes.
        """
        scorers = make_scorers(self._model, alerts, queries)
        with self._lock:
            self.alerts, self._scorers = tuple(alerts), scorers
            self._asking = {alert.name for alert in alerts if alert.confirm is not None}
            wanted = {(alert.name, name) for alert in alerts for name in queries if alert.watches(name)}
            events, gone = [], sorted(self._known.keys() - wanted)
            for key in gone:
                events += self._turned(*_finished(self._known[key], Rule()))
            self._known = {key: self._known.get(key) or AlertStatus(*key) for key in sorted(wanted)}
            self._told.clear()
            if self._restored:
                self._look_for_away_if_needed()
        self._tell(events)
        self._sources = tuple(queries)
        if self._restored:
            self._keep_all()
        return gone

    def restore(self) -> list[tuple[str, str]]:
        """Take up what the journal knows of an earlier run of the program. To be called once, before the first window.

        Returns alerts that were watched for then and no longer are, as (alert, source). Their events are over.
        """
        rules, events, gone = {alert.name: alert.rule for alert in self.alerts}, [], []
        with self._lock:
            for key, text in self._kept_states().items():
                try:
                    status = restored(*key, text, rules.get(key[0], Rule()), self._now(), self._clock())
                except ValueError as error:
                    _LOG.warning("what was kept of the alert '%s' is damaged (%s): it begins anew", key[0], error)
                    continue
                if key in self._known:
                    self._known[key] = status
                else:
                    gone.append(key)
                    events += self._turned(*_finished(status, Rule()))
                    self._known.pop(key, None)
            self._restored = True  # from now on there are threads, and what is known is kept
            self._look_for_away_if_needed()
        self._tell(events)
        self._keep_all()
        return gone

    def _kept_states(self) -> dict[tuple[str, str], str]:
        try:
            return self.journal.states()
        except JournalUnreadable as error:
            _LOG.warning("what was known of alerts begins anew: %s", error)
            return {}

    def _keep_all(self) -> None:
        self._teller.keep(self.alerts, self._sources)
        with self._lock:
            clock = self._clock()
            self.journal.watch({key: as_kept(status, clock) for key, status in self._known.items()})

    def statuses(self) -> list[AlertStatus]:
        """Return every alert on every source that it watches."""
        with self._lock:
            return list(self._known.values())

    def wants(self, source: str, at: float) -> bool:
        """Return whether the alerts need the embedding of a window that no gate needs; `at` in the source's seconds."""
        with self._lock:
            if not any(alert.watches(source) for alert in self.alerts):
                return False
            passed = at - self._looked.get(source, -np.inf)
        return passed >= LOOK_EVERY - 1e-6 or passed < 0

    def add(
        self,
        source: str,
        query: str | None,
        at: float,
        embedding: npt.NDArray[np.float32] | None,
        picture: Picture = lambda: None,
    ) -> None:
        """Take the next window of a source.

        Args:
            query: that it was encoded with.
            at: its time in the source.
            embedding: float32 [embedding], unit length; None: it was not encoded.
            picture: returns the newest frame.
        """
        with self._lock:
            alerts = [alert for alert in self.alerts if (alert.name, source) in self._known]
            if embedding is not None:
                self._looked[source] = at
            scores = {
                alert.name: None if embedding is None else self._score(alert, query, embedding) for alert in alerts
            }
            events = []
            local = datetime.fromtimestamp(self._clock())
            for alert in alerts:
                known = self._known[alert.name, source]
                quiet = alert.quiet is not None and alert.quiet.include(local)
                state, turn = look(known.state, alert.rule, self._now(), at, scores[alert.name], quiet)
                events += self._turned(replace(known, state=state), turn)
        self._tell(events, picture)

    def end(self, source: str) -> None:
        """Take the end of a source, with which its events are over."""
        with self._lock:
            events = []
            for alert in self.alerts:
                known = self._known.get((alert.name, source))
                if known is not None:
                    events += self._turned(*_finished(known, alert.rule))
        self._tell(events)

    def end_of_away(self) -> None:
        """End the events of sources that have given no window for AWAY seconds; they ended with the last one."""
        with self._lock:
            events, now = [], self._now()
            for known in list(self._known.values()):
                at = known.state.at
                if known.state.phase == "firing" and at is not None and now - at >= AWAY:
                    known, turn = _finished(known, self._rule_of(known.alert))
                    events += self._turned(known, turn and replace(turn, at=now))
        self._tell(events)

    def _look_for_away_if_needed(self) -> None:
        if self.alerts and self._away.ident is None and not self._closed.is_set():
            self._away.start()

    def _look_for_away(self) -> None:
        while not self._closed.wait(_LOOK_FOR_AWAY):
            self.end_of_away()

    def close(self) -> None:
        """End what goes on: see Teller.close()."""
        self._closed.set()
        if self._away.ident is not None:
            self._away.join()
        self._teller.close()
        if self._own_journal:
            self.journal.close()

    def _score(self, alert: Alert, query: str | None, embedding: npt.NDArray[np.float32]) -> float | None:
        scorer = self._scorers.get((alert.name, query if alert.like else None))
        if scorer is None:
            if (alert.name, query) not in self._told:
                _LOG.warning("alert '%s' waits: its examples were encoded with another query; reload", alert.name)
            self._told.add((alert.name, query))
            return None
        return scorer(embedding)

    def _turned(self, known: AlertStatus, turn: Turn | None) -> list[AlertEvent]:
        """Keep what is known now, and return what is to be told."""
        if turn is None:
            self._known[known.alert, known.source] = known
            return []
        clock = self._clock()
        since = clock - (turn.at - turn.since)
        if turn.kind == "start":
            event, asking = event_id(known.alert, known.source, clock), known.alert in self._asking
            self._before[known.alert, known.source] = known.event, known.since
            known = replace(known, event=event, since=since, events=known.events + 1, asking=asking)
        self._known[known.alert, known.source] = known
        return [AlertEvent(known.alert, known.source, turn.kind, known.event or "", clock, since, turn.score)]

    def _tell(self, events: Sequence[AlertEvent], picture: Picture = lambda: None) -> None:
        by_name = {alert.name: alert for alert in self.alerts}
        for event in events:
            self._teller.tell(event, by_name.get(event.alert), picture)

    def _answered(self, event: AlertEvent, is_so: bool) -> None:
        """Take an answer about an event that was to be confirmed. If it is not so, there was no event."""
        with self._lock:
            key = event.alert, event.source
            known = self._known.get(key)
            if known is None or known.event != event.event:
                return
            known = replace(known, asking=False)
            if not is_so:
                rest = max(self._rule_of(event.alert).again_after, ASK_AGAIN)
                state = replace(known.state, phase="cooling", rest=max(rest, known.state.rest), best=0.0)
                before = self._before.get(key, (None, None))
                known = replace(known, state=state, event=before[0], since=before[1], events=known.events - 1)
            self._known[key] = known

    def _rule_of(self, alert: str) -> Rule:
        return next((each.rule for each in self.alerts if each.name == alert), Rule())

    def _state_of(self, event: AlertEvent) -> str:
        with self._lock:
            key = event.alert, event.source
            return as_kept(self._known.get(key) or AlertStatus(*key), self._clock())


def make_scorers(
    model: Model, alerts: Sequence[Alert], queries: Mapping[str, str | None]
) -> dict[tuple[str, str | None], Scorer]:
    """Return what scores windows, by an alert's name and, of one with examples, the query of the windows.

    Raises:
        VljEdgeError: see AlertWatch.apply().
    """
    found: dict[tuple[str, str | None], Scorer] = {}
    for alert in alerts:
        if unknown := [name for name in alert.cameras if name not in queries]:
            raise VljEdgeError(f"alert '{alert.name}' names the source '{unknown[0]}', which is not there: name one")
        asked = {queries[name] for name in queries if alert.watches(name)} if alert.like else {None}
        for query in asked:
            found[alert.name, query] = make_scorer(model, alert, query)
    return found


def _finished(known: AlertStatus, rule: Rule) -> tuple[AlertStatus, Turn | None]:
    state, turn = finish(known.state, rule)
    return replace(known, state=state), turn
