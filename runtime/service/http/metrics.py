"""Numbers as Prometheus asks for them: read when it asks, and kept nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .options import ServerState
from .readings import counts_of, memory_megabytes

# Name in Channel.counts() -> name of the metric, and what it counts.
_COUNTED = {
    "windows": ("windows", "Clip windows seen."),
    "windows_dropped": ("windows_dropped", "Windows that a newer one replaced before there was time for them."),
    "encoder_runs": ("encoder_runs", "Runs of the vision encoder."),
    "predictor_runs": ("predictor_runs", "Runs of the predictor."),
    "decoder_runs": ("decoder_runs", "Runs of the decoder, one a text."),
    "memory_hits": ("memory_hits", "Texts that came from the caption memory."),
    "frames_dropped": ("frames_dropped", "Frames that were replaced by newer ones."),
    "restarts": ("source_restarts", "Times that a source was opened again."),
    "bad_frames": ("bad_frames", "Frames that could not be decoded."),
    "events": ("events", "Texts said."),
    "video_seconds": ("video_seconds", "Seconds of video seen."),
}
_OUTLETS = {"delivered": "Events that an outlet handed on.", "missed": "Events that an outlet lost."}
_STATES = ("connecting", "live", "lost", "ended")


def registry_of(desk: ServerState) -> CollectorRegistry:
    """Of one server; not the global one, which two servers in a process would share."""
    registry = CollectorRegistry()
    registry.register(_Numbers(desk))
    return registry


class _Numbers(Collector):
    def __init__(self, desk: ServerState) -> None:
        self._desk = desk

    def collect(self) -> Iterator[Metric]:
        yield from self._of_sources()
        yield from self._of_outlets()
        yield from self._of_process()

    def _of_sources(self) -> Iterator[Metric]:
        counts = {name: counts_of(channel) for name, channel in self._desk.channels.items()}
        for key, (name, what) in _COUNTED.items():
            counter = CounterMetricFamily(f"vlj_edge_{name}", what, labels=["source"])
            for source, found in counts.items():
                counter.add_metric([source], found.get(key, 0))
            yield counter
        delay = GaugeMetricFamily(
            "vlj_edge_delay_seconds",
            "Age of a window once it has been dealt with, of the last 512.",
            labels=["source", "quantile"],
        )
        for source, found in counts.items():
            for share in (50, 95, 99):
                if found[f"delay_p{share}"] is not None:
                    delay.add_metric([source, f"{share / 100:g}"], found[f"delay_p{share}"])
        yield delay
        yield self._states()

    def _states(self) -> Metric:
        states = GaugeMetricFamily("vlj_edge_source_state", "1 for the state it is in.", labels=["source", "state"])
        for source, channel in self._desk.channels.items():
            for state in _STATES:
                states.add_metric([source, state], float(channel.state == state))
        return states

    def _of_outlets(self) -> Iterator[Metric]:
        states = [outlet.state() for outlet in self._desk.station.outlets]
        for key, what in _OUTLETS.items():
            counter = CounterMetricFamily(f"vlj_edge_outlet_{key}", what, labels=["outlet"])
            for state in _one_each(states):
                counter.add_metric([state["name"]], state[key])
            yield counter
        queued = GaugeMetricFamily("vlj_edge_outlet_queued", "Events that wait for an outlet.", labels=["outlet"])
        for state in _one_each(states):
            queued.add_metric([state["name"]], state["queued"])
        yield queued

    def _of_process(self) -> Iterator[Metric]:
        desk = self._desk
        yield GaugeMetricFamily("vlj_edge_clients", "Pages that listen.", value=desk.hub.clients)
        yield GaugeMetricFamily("vlj_edge_viewers", "Moving pictures that are looked at.", value=desk.viewers.taken)
        yield CounterMetricFamily(
            "vlj_edge_client_messages_dropped", "Messages that pages were too slow for.", value=desk.hub.dropped
        )
        yield GaugeMetricFamily("vlj_edge_memory_bytes", "Resident memory.", value=memory_megabytes() * 1e6)
        yield GaugeMetricFamily("vlj_edge_uptime_seconds", "Since the server began.", value=monotonic() - desk.started)
        if desk.gauge.power.watts is not None:
            yield GaugeMetricFamily("vlj_edge_power_watts", "Mean power.", value=desk.gauge.power.watts)


def _one_each(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two outlets of one name would be one metric twice, which Prometheus refuses: the second is numbered."""
    seen: dict[str, int] = {}
    found = []
    for state in states:
        seen[state["name"]] = number = seen.get(state["name"], 0) + 1
        found.append(state if number == 1 else state | {"name": f"{state['name']} {number}"})
    return found
