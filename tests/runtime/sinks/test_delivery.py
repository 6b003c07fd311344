"""Delivered means acknowledged; a delivery ends in time; what is lost is counted, with the reason."""

from __future__ import annotations

import logging
import socket
import threading

import pytest

from tests.runtime.sinks.events import event
from tests.runtime.sinks.servers import Serve, dripping, server, silent
from tests.waiting import wait_for
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks import mqtt
from vlj_edge.runtime.sinks.base import EventRefused
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.webhook import Webhook

CONNACK = bytes([0x20, 2, 0, 0])


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'vlj-edge[mqtt]'")
    monkeypatch.setattr(mqtt, "CLOSING_SECONDS", 0.3)


def accepts_only(connection: socket.socket, stopping: threading.Event) -> None:
    """A broker that accepts the client, and acknowledges nothing it publishes."""
    connection.recv(1)
    connection.sendall(CONNACK)
    silent(connection, stopping)


@pytest.mark.parametrize(("broker", "why"), [(silent, "does not answer"), (accepts_only, "not acknowledged")])
def test_a_broker_that_acknowledges_nothing_has_got_nothing(soon: None, broker: Serve, why: str) -> None:
    with server(broker) as port:
        sink = mqtt.Mqtt(f"mqtt://127.0.0.1:{port}/home")
        if broker is accepts_only:
            wait_for(lambda: sink.last_error is None)
        queue = SinkQueue("mqtt", sink, retry=True)
        for number in range(5):
            queue.put(event(number))
        wait_for(lambda: sink.pending == queue.state()["queued"] == 5)  # none is on its way to the sink
        state = queue.state()
        assert (state["delivered"], state["missed"], state["queued"]) == (0, 0, 5)
        queue.close()
    state = queue.state()
    assert (state["delivered"], state["missed"], state["queued"]) == (0, 5, 0)
    assert why in state["last_error"] and str(port) in state["last_error"]


ANSWERS = {
    "status line": b"H",
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 100000\r\n\r\n",
    "TLS handshake": b"\x16\x03\x03\x40\x00",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_webhook_that_drips_is_given_up(scheme: str, answer: bytes) -> None:
    with server(dripping(answer)) as port:
        sink = Webhook(f"{scheme}://127.0.0.1:{port}/", timeout=1, deadline=0.3)
        with pytest.raises(VljEdgeError, match=r"no answer within 0\.3 s|no delivery") as caught:
            sink.write(event(1))
        assert not isinstance(caught.value, EventRefused) and str(port) in str(caught.value)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_deadline_ends_one_delivery_only() -> None:
    answered = threading.Event()

    def slow_at_first(connection: socket.socket, stopping: threading.Event) -> None:
        if not answered.is_set():
            answered.set()
            return dripping(b"HTTP/1.1 200 OK\r\nX: ")(connection, stopping)
        connection.recv(65_536)
        return connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(slow_at_first) as port:
        queue = SinkQueue("web", Webhook(f"http://127.0.0.1:{port}/", deadline=0.3), retry=True, pauses=(0.001, 0.01))
        for number in range(3):
            queue.put(event(number))
        wait_for(lambda: queue.state()["delivered"] == 3)
        queue.close()
    assert queue.state()["missed"] == 0 and "no answer within" in queue.state()["last_error"]


def test_closing_cuts_a_delivery() -> None:
    with server(dripping(b"HTTP/1.1 200 OK\r\nX: ")) as port:
        queue = SinkQueue("web", Webhook(f"http://127.0.0.1:{port}/", deadline=1e6), retry=True)
        queue.put(event(1))
        wait_for(lambda: queue.state()["queued"] == 1 and queue._current is not None)
        queue.close(timeout=0.1)
        wait_for(lambda: not queue._thread.is_alive())
    assert queue.state()["missed"] == 1


@pytest.mark.parametrize("status", [199, 300, 304, 418, 600])
def test_only_2xx_is_a_delivery(status: int) -> None:
    def answer(connection: socket.socket, stopping: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    with server(answer) as port, pytest.raises(VljEdgeError, match=str(port)):
        Webhook(f"http://127.0.0.1:{port}/").write(event(1))


def test_failure_recovery_and_loss_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Sink:
        failing = True

        def write(self, event: object) -> None:
            if self.failing:
                raise VljEdgeError("no room: free some")

        def close(self) -> None:
            pass

    caplog.set_level(logging.INFO, "vlj_edge")
    sink = Sink()
    queue = SinkQueue("log", sink, capacity=2, retry=True, pauses=(0.001, 0.002))
    for number in range(5):
        queue.put(event(number))
    wait_for(lambda: queue.failed > 5 and queue.state()["missed"] >= 2)
    sink.failing = False
    wait_for(lambda: queue.state()["delivered"] >= 2)
    queue.close()
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("sinks.queue")]
    assert sum("log fails: no room" in line for line in lines) == 1
    assert sum("log works again" in line for line in lines) == 1
    assert sum("log has lost" in line for line in lines) == 1
