"""The state of alerts, as the API and the metrics give it."""

from __future__ import annotations

from .redact import safe_names
from .schemas import AlertState
from .state import ServerState


def alert_states(server: ServerState) -> list[AlertState]:
    """Return every alert on every source that it watches."""
    watch = server.station.alerts
    above = {alert.name: alert.rule.above for alert in watch.alerts}
    shown = safe_names(server.station.channels)
    return [
        AlertState(
            alert=each.alert,
            source=shown.get(each.source, each.source),
            state="asking" if each.asking else each.state.phase,
            score=None if each.state.score is None else round(each.state.score, 4),
            above=above.get(each.alert, 0.0),
            events=each.events,
            event=each.event,
            since=each.since,
        )
        for each in watch.statuses()
    ]
