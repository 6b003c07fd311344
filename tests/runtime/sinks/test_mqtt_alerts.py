"""Alerts on a real broker: what Home Assistant finds, what is removed again, and what arrives after a restart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.sinks.broker import MOSQUITTO, Broker
from tests.waiting import wait_for
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.sinks import mqtt
from vlj_edge.runtime.sinks.alert_event import AlertEvent, event_id
from vlj_edge.runtime.sinks.mqtt import Mqtt
from vlj_edge.runtime.sinks.queue import SinkQueue

paho = pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'vlj-edge[mqtt]'")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt install mosquitto")

JPEG = b"\xff\xd8picture\xff\xd9"
EVENT = AlertEvent("door open", "hall", "start", event_id("door open", "hall", 1.0), time.time(), 1.0, 0.9, JPEG)
STATE, PICTURE, TOLD = (f"home/hall/alert/door-open/{name}" for name in ("state", "picture", "event"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path)
    yield found
    found.kill()


class Listener:
    """Keeps what is published, by topic; the empty message that ends a retained one counts, too."""

    def __init__(self, broker: Broker, name: str = "listener") -> None:
        self.received: list[tuple[str, bytes, bool]] = []
        subscribed: list[Any] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.append(1)
        self._client.on_message = lambda c, u, m: self.received.append((m.topic, m.payload, m.retain))
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        wait_for(lambda: subscribed)

    def last(self, topic: str) -> bytes | None:
        return next((data for heard, data, _ in reversed(self.received) if heard == topic), None)

    def configs(self) -> dict[str, Any]:
        """What Home Assistant has found and not removed, by kind."""
        latest = {topic: data for topic, data, _ in self.received if topic.startswith("homeassistant/")}
        return {topic.split("/")[1]: json.loads(data) for topic, data in latest.items() if data}

    def ids(self) -> list[str]:
        return [json.loads(data)["id"] for topic, data, _ in self.received if topic == TOLD]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    found = Listener(broker)
    yield found
    found.stop()


def opened(broker: Broker) -> SinkQueue:
    return SinkQueue("mqtt", Mqtt(f"mqtt://127.0.0.1:{broker.port}/home"), retry=True)


def test_home_assistant_finds_an_alert_and_loses_one_that_is_removed(broker: Broker, listener: Listener) -> None:
    queue = opened(broker)
    queue.announce_alerts([("door open", "hall", False)])  # while it connects
    wait_for(lambda: listener.last(STATE) == b"OFF" and len(listener.configs()) == 2)
    found = listener.configs()
    assert found["binary_sensor"]["state_topic"] == STATE and found["image"]["image_topic"] == PICTURE
    assert found["binary_sensor"]["availability_topic"] == "home/status"
    queue.put(EVENT)
    wait_for(lambda: listener.last(STATE) == b"ON" and listener.last(PICTURE) == JPEG and listener.ids() == [EVENT.id])
    queue.put(replace(EVENT, kind="end", picture=None))
    wait_for(lambda: listener.last(STATE) == b"OFF")
    queue.announce_alerts([("gate", "hall", False)], gone=[("door open", "hall")])
    queue.put(replace(EVENT, event="later"))  # the end of an event that still was on its way
    wait_for(lambda: len(listener.ids()) == 3)
    queue.close()
    late = Listener(broker, "late")
    wait_for(lambda: late.last("home/hall/alert/gate/state") == b"OFF" and len(late.configs()) == 2)
    assert all("door-open" not in topic for topic, _, _ in late.received)
    assert late.configs()["binary_sensor"]["state_topic"] == "home/hall/alert/gate/state"
    late.stop()


def test_what_fires_while_the_program_starts_is_on_from_the_beginning(broker: Broker, listener: Listener) -> None:
    queue = opened(broker)
    queue.announce_alerts([("door open", "hall", True)], gone=[("old", "hall")])  # not connected yet
    wait_for(lambda: listener.last(STATE) == b"ON" and listener.last("home/status") == b"online")
    queue.close()
    assert b"OFF" not in [data for topic, data, _ in listener.received if topic == STATE]


def test_two_alerts_of_similar_names_do_not_share_a_topic(broker: Broker, listener: Listener) -> None:
    queue = opened(broker)
    queue.announce_alerts([("door open", "hall", False), ("Door: open", "hall", True)])
    wait_for(lambda: len({topic for topic, _, _ in listener.received if topic.endswith("/state")}) == 2)
    queue.close()


def test_what_no_broker_has_acknowledged_arrives_after_a_restart(
    broker: Broker, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "CLOSING_SECONDS", 0.1)
    journal, queue = AlertJournal(tmp_path / "alerts"), opened(broker)
    journal.attach(queue, time.time())
    wait_for(lambda: listener.last("home/status") == b"online")
    broker.hang()
    queue.put(replace(EVENT, kept=journal.add(EVENT, "{}")))
    wait_for(lambda: journal.count_after("mqtt", 0) == 1 and queue.state()["queued"] == 1)
    queue.close(0.0)
    assert queue.state()["missed"] == 0  # it is kept
    journal.close()
    broker.go_on()
    journal, queue = AlertJournal(tmp_path / "alerts"), opened(broker)
    journal.attach(queue, time.time())
    wait_for(lambda: journal.count_after("mqtt", 0) == 0)  # acknowledged
    wait_for(lambda: listener.ids())
    assert set(listener.ids()) == {EVENT.id}  # twice if the broker had it before
    queue.close()
    journal.close()


@pytest.mark.parametrize("limit", ["max_packet_size 20000", "message_size_limit 20000"])
def test_a_picture_that_a_broker_does_not_take_keeps_no_message_back(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(tmp_path, f"allow_anonymous true\n{limit}")
    listener = Listener(broker)
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home")
    sink._client.reconnect_delay_set(0.05, 0.1)
    queue = SinkQueue("mqtt", sink, retry=True)
    large = replace(EVENT, picture=bytes(50_000))
    queue.put(large)
    wait_for(lambda: large.id in listener.ids())
    queue.put(replace(EVENT, kind="end", picture=None))
    wait_for(lambda: f"{EVENT.event}-end" in listener.ids() and listener.last(STATE) == b"OFF")
    wait_for(lambda: queue.state()["queued"] == 0)
    small = replace(EVENT, event="e" * 32)
    queue.put(small)
    wait_for(lambda: listener.last(PICTURE) == JPEG and small.id in listener.ids())
    assert queue.problem is None
    queue.close()
    listener.stop()
    broker.kill()
