"""Metrics for Prometheus, read from the station at each request."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .alert_routes import alert_states
from .readings import memory_megabytes
from .state import ServerState

# Name in Channel.counts() -> name and description of the metric.
_COUNTED = {
    "windows": ("windows", "Clip windows processed."),
    "windows_dropped": ("windows_dropped", "Windows replaced by a newer one before they were encoded."),
    "encoder_runs": ("encoder_runs", "Runs of the vision encoder."),
    "predictor_runs": ("predictor_runs", "Runs of the predictor."),
    "decoder_runs": ("decoder_runs", "Texts that the decoder made."),
    "memory_hits": ("memory_hits", "Texts taken from the caption memory."),
    "calls": ("calls", "Requests for words from an endpoint."),
    "calls_failed": ("calls_failed", "Requests for words without an answer that could be used."),
    "calls_cut_off": ("calls_cut_off", "Requests for words that the end of a run cut off."),
    "calls_passed_over": ("calls_passed_over", "Changes that a newer one replaced while a request was made."),
    "calls_left_out": ("calls_left_out", "Changes without a request: a limit, or a pause while none is answered."),
    "call_tokens": ("call_tokens", "Tokens of requests for words."),
    "call_seconds": ("call_seconds", "Duration of requests for words."),
    "changes_left_out": ("changes_left_out", "Changes without a text because of texts_per_hour."),
    "looks_left_out": ("looks_left_out", "Looks put off because of encodes_per_minute."),
    "frames_dropped": ("frames_dropped", "Frames replaced by newer ones before they were read."),
    "restarts": ("source_restarts", "Times a source was reopened."),
    "bad_frames": ("bad_frames", "Frames that could not be decoded."),
    "events": ("events", "Narrations."),
    "video_seconds": ("video_seconds", "Seconds of video processed."),
}
_LEFT = {
    "calls_saved_up": ("calls_saved_up", "Requests for words that calls_per_hour allows now."),
    "questions_saved_up": ("questions_saved_up", "Questions of alerts that calls_per_hour allows now."),
    "tokens_left": ("tokens_left", "Tokens that are left of those of 24 hours."),
}
_SINKS = {"delivered": "Narrations that a sink delivered.", "missed": "Narrations that a sink lost."}
_WAITING = {
    "queued": "Narrations that wait for a sink.",
    "refused": "Set aside: alerts until a sink's address or key is mended, and what fails while others are delivered.",
}
_STATES = ("connecting", "waiting for a key frame", "live", "lost", "waiting", "ended")


def make_registry(server: ServerState) -> CollectorRegistry:
    """Return a registry for one server; the global one would be shared by two servers in a process."""
    registry = CollectorRegistry()
    registry.register(_StationCollector(server))
    return registry


class _StationCollector(Collector):
    def __init__(self, server: ServerState) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_sources()
        yield from self._collect_alerts()
        yield from self._collect_sinks()
        yield from self._collect_process()

    def _collect_sources(self) -> Iterator[Metric]:
        counts = {name: channel.counts() for name, channel in self._server.channels.items()}
        for key, (name, what) in _COUNTED.items():
            counter = CounterMetricFamily(f"vlj_edge_{name}", what, labels=["source"])
            for source, found in counts.items():
                counter.add_metric([source], found.get(key, 0))
            yield counter
        yield from self._collect_words()
        delay = GaugeMetricFamily(
            "vlj_edge_delay_seconds",
            "Age of a window's newest frame once it is processed, over the last 512 windows.",
            labels=["source", "quantile"],
        )
        for source, found in counts.items():
            for share in (50, 95, 99):
                if found[f"delay_p{share}"] is not None:
                    delay.add_metric([source, f"{share / 100:g}"], found[f"delay_p{share}"])
        yield delay
        yield self._collect_states()

    def _collect_words(self) -> Iterator[Metric]:
        """Yield what is left of the limits of words from an endpoint, where there are any."""
        states = {name: each.words.state() for name, each in self._server.channels.items() if each.words is not None}
        for key, (name, what) in _LEFT.items():
            gauge = GaugeMetricFamily(f"vlj_edge_{name}", what, labels=["source"])
            for source, state in states.items():
                if state[key] is not None:
                    gauge.add_metric([source], state[key])
            yield gauge

    def _collect_states(self) -> Metric:
        states = GaugeMetricFamily("vlj_edge_source_state", "1 for the present state.", labels=["source", "state"])
        for source, channel in self._server.channels.items():
            for state in _STATES:
                states.add_metric([source, state], float(channel.state == state))
        return states

    def _collect_alerts(self) -> Iterator[Metric]:
        labels = ["alert", "source"]
        events = CounterMetricFamily("vlj_edge_alert_events", "Events that an alert told of.", labels=labels)
        firing = GaugeMetricFamily("vlj_edge_alert_firing", "1 while such an event goes on.", labels=labels)
        score = GaugeMetricFamily("vlj_edge_alert_score", "Probability in the last window.", labels=labels)
        for each in alert_states(self._server):
            names = [each.alert, each.source]
            events.add_metric(names, each.events)
            firing.add_metric(names, float(each.state == "firing"))
            if each.score is not None:
                score.add_metric(names, each.score)
        yield from (events, firing, score)

    def _collect_sinks(self) -> Iterator[Metric]:
        states = _with_unique_names([sink.state() for sink in self._server.station.sinks])
        for key, what in _SINKS.items():
            counter = CounterMetricFamily(f"vlj_edge_sink_{key}", what, labels=["sink"])
            for state in states:
                counter.add_metric([state["name"]], state[key])
            yield counter
        for key, what in _WAITING.items():
            gauge = GaugeMetricFamily(f"vlj_edge_sink_{key}", what, labels=["sink"])
            for state in states:
                gauge.add_metric([state["name"]], state[key])
            yield gauge

    def _collect_process(self) -> Iterator[Metric]:
        server = self._server
        yield GaugeMetricFamily("vlj_edge_clients", "Pages that listen to events.", value=server.broadcaster.clients)
        yield GaugeMetricFamily("vlj_edge_viewers", "Open video streams.", value=server.viewers.taken)
        yield CounterMetricFamily(
            "vlj_edge_client_messages_dropped",
            "Messages dropped because a page was too slow.",
            value=server.broadcaster.dropped,
        )
        yield GaugeMetricFamily("vlj_edge_memory_bytes", "Resident memory.", value=memory_megabytes() * 1e6)
        yield GaugeMetricFamily(
            "vlj_edge_uptime_seconds", "Time since the start of the server.", value=monotonic() - server.started
        )
        if server.power_meter.power.watts is not None:
            yield GaugeMetricFamily("vlj_edge_power_watts", "Mean power.", value=server.power_meter.power.watts)


def _with_unique_names(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number the second of two sinks with the same name: Prometheus refuses the same metric twice."""
    seen: dict[str, int] = {}
    found = []
    for state in states:
        seen[state["name"]] = number = seen.get(state["name"], 0) + 1
        found.append(state if number == 1 else state | {"name": f"{state['name']} {number}"})
    return found
