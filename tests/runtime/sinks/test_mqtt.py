"""The MQTT sink against a local Mosquitto broker."""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.sinks import events
from tests.runtime.sinks.broker import MOSQUITTO, Broker
from tests.runtime.sinks.servers import server, silent
from tests.waiting import free_port, wait_for
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks.mqtt import Mqtt, _parse_address, _slug
from vlj_edge.runtime.sinks.queue import SinkQueue

paho = pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'vlj-edge[mqtt]'")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt install mosquitto")


event = partial(events.event, source="Front Door")


class Listener:
    """Receives every message; after a break also those that it missed."""

    def __init__(self, broker: Broker, name: str = "listener", user: tuple[str, str] | None = None) -> None:
        self.received: list[tuple[str, str, bool]] = []  # topic, text, retained
        self._subscribed = False
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        if user:
            self._client.username_pw_set(*user)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda c, u, m: self.received.append((m.topic, m.payload.decode(), m.retain))
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        wait_for(lambda: self._subscribed)

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed = True

    def last(self, topic: str) -> str | None:
        return next((text for heard, text, _ in reversed(self.received) if heard == topic), None)

    def numbers(self, topic: str = "home/edge/front-door/narration") -> list[int]:
        return [json.loads(text)["number"] for heard, text, _ in self.received if heard == topic]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path)
    yield found
    found.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    found = Listener(broker)
    yield found
    found.stop()


@needs_broker
def test_events_state_and_availability(broker: Broker, listener: Listener) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home/edge/")
    sink.write(event(1, text="Tür zu"))
    sink.write(event(2))
    sink.write(event(1, source="door 2", text="still"))
    wait_for(lambda: listener.numbers() == [1, 2] and listener.numbers("home/edge/door-2/narration") == [1])
    told = [json.loads(text) for topic, text, _ in listener.received if topic == "home/edge/front-door/narration"]
    assert told == [event(1, text="Tür zu").as_dict(), event(2).as_dict()]
    assert listener.last("home/edge/status") == "online"
    late = Listener(broker, "late")  # what is retained is there for whoever comes later
    wait_for(lambda: late.last("home/edge/door-2/state") == "still")
    wait_for(lambda: late.last("home/edge/front-door/state") == "text 2")
    wait_for(lambda: late.last("home/edge/status") == "online")
    assert all(retained for _, _, retained in late.received) and late.numbers() == []
    sink.close()
    sink.close()
    wait_for(lambda: late.last("home/edge/status") == "offline")
    late.stop()
    assert sink.missed == 0


@needs_broker
def test_home_assistant_finds_each_source_once(broker: Broker, listener: Listener) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home/edge")
    wait_for(lambda: listener.last("home/edge/status") == "online")
    for number in range(3):
        sink.write(event(number))
    sink.write(event(0, source="Hof"))
    wait_for(lambda: listener.numbers("home/edge/hof/narration"))
    sink.close()
    configs = [(topic, text) for topic, text, _ in listener.received if topic.startswith("homeassistant/")]
    assert [topic for topic, _ in configs] == [
        "homeassistant/sensor/home-edge_front-door/config",
        "homeassistant/sensor/home-edge_hof/config",
    ]
    sensor = json.loads(configs[0][1])
    assert sensor["name"] == "Front Door" and sensor["unique_id"] == "home-edge_front-door"
    assert sensor["state_topic"] == "home/edge/front-door/state"
    assert sensor["availability_topic"] == "home/edge/status"
    assert sensor["device"]["identifiers"] == json.loads(configs[1][1])["device"]["identifiers"]
    late = Listener(broker, "late")
    wait_for(lambda: late.last(configs[0][0]) == configs[0][1])
    late.stop()


@needs_broker
def test_each_outage_is_one_line_in_the_log_and_its_end_another(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vlj_edge")
    queue = SinkQueue("mqtt", Mqtt(f"mqtt://127.0.0.1:{broker.port}/home"), retry=True)
    wait_for(lambda: len(caplog.records) == 1)
    broker.kill()
    wait_for(lambda: queue.problem is not None and "refused" in queue.problem)
    broker.start()
    wait_for(lambda: queue.problem is None and len(caplog.records) >= 3)
    queue.close()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "WARNING", "INFO"]
    assert all(str(broker.port) in record.getMessage() for record in caplog.records)


@needs_broker
def test_a_broker_that_hangs_with_more_than_it_takes_does_not_prolong_the_end(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlj_edge.runtime.sinks.mqtt.CLOSING_SECONDS", 60.0)
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home", most_queued=2)
    queue = SinkQueue("mqtt", sink, retry=True)
    wait_for(lambda: sink.last_error is None)
    broker.hang()
    for number in range(40):
        queue.put(event(number))
    wait_for(lambda: queue.failed)
    began = time.monotonic()
    queue.close(0.5)
    ended = time.monotonic() - began
    broker.go_on()
    state = queue.state()
    assert ended < 30, "its own wait for acknowledgements does not come on top"
    assert state["missed"] + state["delivered"] == 40 and state["missed"] >= 38


def test_a_broker_that_never_answers_is_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlj_edge.runtime.sinks.mqtt.CLOSING_SECONDS", 0.1)
    with server(silent) as port:
        sink = Mqtt(f"mqtt://127.0.0.1:{port}/home")
        for number in range(3):
            sink.write(event(number))
        sink.close()
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(port) in line and "does not answer" in line and sink.missed == 3


@needs_broker
def test_nothing_is_lost_while_the_broker_is_away(broker: Broker, listener: Listener) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home/edge")
    wait_for(lambda: listener.last("home/edge/status") == "online")  # during the connection paho may change the order
    for number in range(5):
        sink.write(event(number))
    wait_for(lambda: len(listener.numbers()) == 5)
    # What was retained last is on the disk, so the listener's subscription is too.
    wait_for(lambda: broker.database.exists() and b"text 4" in broker.database.read_bytes())
    broker.kill()
    for number in range(5, 60):  # more than are in flight at once
        sink.write(event(number))
    wait_for(lambda: sink.last_error is not None)
    broker.start()
    wait_for(lambda: len(set(listener.numbers())) == 60)
    for number in range(60, 65):
        sink.write(event(number))
    wait_for(lambda: len(set(listener.numbers())) == 65)
    sink.close()
    assert list(dict.fromkeys(listener.numbers())) == list(range(65))  # once each by their numbers, and in order
    wait_for(lambda: listener.last("home/edge/front-door/state") == "text 64")
    assert sink.missed == 0 and sink.last_error is None


@needs_broker
def test_retained_topics_are_published_again_to_a_broker_that_lost_them(broker: Broker) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home/edge")
    sink.write(event(1))
    time.sleep(0.1)
    broker.kill()
    sink.write(event(2))
    broker.database.unlink(missing_ok=True)
    broker.start()
    late = Listener(broker, "late")
    wait_for(lambda: late.last("home/edge/front-door/state") == "text 2")
    wait_for(lambda: late.last("homeassistant/sensor/home-edge_front-door/config"))
    wait_for(lambda: late.last("home/edge/status") == "online")
    late.stop()
    sink.close()


@needs_broker
def test_the_broker_says_when_the_process_died(broker: Broker, listener: Listener) -> None:
    narrator = (
        "import sys, time\nfrom vlj_edge.runtime.sinks.mqtt import Mqtt\nsink = Mqtt(sys.argv[1])\ntime.sleep(600)\n"
    )
    url = f"mqtt://127.0.0.1:{broker.port}/home/edge"
    process = subprocess.Popen([sys.executable, "-c", narrator, url])
    wait_for(lambda: listener.last("home/edge/status") == "online")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: listener.last("home/edge/status") == "offline")


def test_without_a_broker_the_bound_holds_and_all_is_counted() -> None:
    queue = SinkQueue("mqtt", Mqtt(f"mqtt://anna:geheim@127.0.0.1:{free_port()}/home", most_queued=10))
    for number in range(25):
        queue.put(event(number))
    wait_for(lambda: queue.failed == 15)
    wait_for(lambda: queue.state()["queued"] == 10)
    assert queue.state()["delivered"] == 0 and queue.state()["missed"] == 15
    assert queue.state()["last_error"] and "geheim" not in queue.state()["last_error"]
    queue.close()
    state = queue.state()
    assert (state["delivered"], state["missed"]) == (0, 25)
    assert "mqtt://127.0.0.1" in state["last_error"] and "geheim" not in state["last_error"]


@needs_broker
def test_a_broker_that_was_not_there_at_the_start(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.kill()
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home/edge")
    sink.write(event(1))
    wait_for(lambda: "cannot be reached" in (sink.last_error or ""))
    broker.start()
    late = Listener(broker, "late")
    wait_for(lambda: late.last("home/edge/front-door/state") == "text 1")
    sink.close()
    assert sink.missed == 0
    late.stop()
    broker.kill()


@needs_broker
def test_user_and_password(tmp_path: Path) -> None:
    passwd = shutil.which("mosquitto_passwd")
    if passwd is None:
        pytest.skip("needs mosquitto_passwd")
    subprocess.run([passwd, "-b", "-c", str(tmp_path / "users"), "anna", "ge@heim"], check=True, capture_output=True)
    broker = Broker(tmp_path, f"password_file {tmp_path / 'users'}")
    listener = Listener(broker, user=("anna", "ge@heim"))
    wrong = Mqtt(f"mqtt://anna:other@127.0.0.1:{broker.port}/home/edge")
    wait_for(lambda: "refuses the connection" in (wrong.last_error or ""))
    assert "other" not in str(wrong.last_error)
    wrong.close()
    right = Mqtt(f"mqtt://anna:ge%40heim@127.0.0.1:{broker.port}/home/edge")
    right.write(event(1))
    wait_for(lambda: listener.numbers() == [1])
    right.close()
    listener.stop()
    broker.kill()


@pytest.mark.parametrize(
    "url",
    [
        "http://anna:geheim@host/home",
        "mqtt:///home",
        "mqtt://anna:geheim@host:port/home",
        "mqtt://anna:geheim@host:99999/home",
        "mqtt://anna:geheim@host/home/#",
        "mqtt://anna:geheim@host/home/+/x",
        "mqtt://anna:gehe#im@host/home",
        "mqtt://anna:ge/heim@host/home",
        "mqtt://anna:geheim@host/home?password=geheim",
    ],
)
def test_the_error_for_a_wrong_address_hides_the_password(url: str) -> None:
    with pytest.raises(VljEdgeError) as caught:
        Mqtt(url)
    assert "heim" not in str(caught.value) and "anna" not in str(caught.value)


def test_addresses() -> None:
    for address, port in (("mqtt://host", 1883), ("mqtts://host", 8883), ("mqtt://host:99/a", 99)):
        assert _parse_address(address).port == port
    assert _parse_address("mqtt://host").base == "vlj-edge" and _parse_address("mqtt://host//a/b/").base == "a/b"
    assert "geheim" not in repr(_parse_address("mqtt://anna:geheim@host/a"))


def test_slugs_are_plain_and_never_empty() -> None:
    assert _slug("Tür 1/links") == "tur-1-links"
    assert _slug("日本").startswith("source-") and _slug("日本") != _slug("中国")
    for name in (
        "+",
        "#",
        "a/+/#",
        "$SYS/broker",
        "a\0b",
        "100%",
        " ",
        "?",
    ):  # no topic has these
        assert re.fullmatch("[a-z0-9-]+", _slug(name))


def test_sources_with_one_slug_stay_apart() -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{free_port()}/home")
    first, second = sink._source_slug("Door 1"), sink._source_slug("door-1")
    assert first == "door-1" and second != first
    assert sink._source_slug("door-1") == second
    sink.close()


def test_missing_certificates_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match="PEM"):
        Mqtt("mqtts://127.0.0.1/home", ca_file=str(tmp_path / "none.pem"))


@pytest.mark.parametrize("names", [["Door 1", "door-1"], ["Tür", "tur"], ["a/b", "a b", "a-b"]])
def test_sources_that_are_written_alike_have_the_same_topics_each_time(names: list[str]) -> None:
    topics = []
    for told in (names, names[::-1]):
        sink = Mqtt(f"mqtt://127.0.0.1:{free_port()}/home")
        sink.announce_sources(names)
        for number, name in enumerate(told):
            sink.write(event(number, source=name))
        topics.append(dict(sink._slugs))
        sink.interrupt()
        sink.close()
    assert topics[0] == topics[1] and len(set(topics[0].values())) == len(names)


@needs_broker
def test_it_is_online_also_where_all_places_were_taken(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.kill()
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home", most_queued=2)
    sink._client.reconnect_delay_set(0.05, 0.1)
    for number in range(2):
        sink.write(event(number))
    broker.start()
    listener = Listener(broker)
    wait_for(lambda: listener.last("home/status") == "online")
    wait_for(lambda: sink.pending == 0)
    sink.close()
    listener.stop()
    broker.kill()
