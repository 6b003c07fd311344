"""The webhook sink against a local web server."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.runtime.sinks.events import event
from tests.waiting import wait_for
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks.base import EventRefused
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.webhook import Webhook

SOON = (0.001, 0.01)  # pauses between attempts, seconds


class Server(ThreadingHTTPServer):
    """Answers with each of `answers`, then 200: a status, a status and a location, or None to hang up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Any] = []
        self.got: list[tuple[str, str, dict[str, str], bytes]] = []  # method, path, headers, body
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str = "/hook", user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}{path}"

    def numbers(self) -> list[int]:
        return [json.loads(body)["number"] for method, _, _, body in self.got if method == "POST"]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.got.append((self.command, self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, location = answer if isinstance(answer, tuple) else (answer, None)
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    found = Server()
    yield found
    found.shutdown()
    found.server_close()


def test_an_event_is_posted_as_json(server: Server) -> None:
    sink = Webhook(server.url("/hook?room=1"))
    sink.write(event(1, "Tür zu"))
    sink.close()
    ((method, path, headers, body),) = server.got
    assert (method, path, headers["Content-Type"]) == ("POST", "/hook?room=1", "application/json")
    assert json.loads(body) == event(1, "Tür zu").as_dict()


def test_user_and_password_go_into_the_header(server: Server) -> None:
    Webhook(server.url(user="anna:ge%40heim@")).write(event(1))
    assert base64.b64decode(server.got[0][2]["Authorization"].split()[1]) == b"anna:ge@heim"


def test_failing_then_recovering_loses_nothing(server: Server) -> None:
    server.answers = [500, 503, 408, 429, None]
    queue = SinkQueue("web", Webhook(server.url()), retry=True, pauses=SOON)
    for number in range(4):
        queue.put(event(number))
    wait_for(lambda: queue.state()["delivered"] == 4)
    queue.close()
    assert server.numbers() == [0] * 5 + [0, 1, 2, 3]
    assert queue.state()["missed"] == 0 and queue.failed == 5


def test_a_system_without_threads_loses_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    queue = SinkQueue("web", Webhook(server.url()), retry=True, pauses=SOON)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Timer, "start", refuse)
        queue.put(event(1))
        wait_for(lambda: queue.failed >= 2)
    wait_for(lambda: queue.state()["delivered"] == 1)
    queue.close()
    assert "start new thread" in queue.state()["last_error"] and queue.state()["missed"] == 0


def test_a_server_that_comes_later(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(VljEdgeError, match=r"http://127\.0\.0\.1:") as caught:
            Webhook(f"http://anna:geheim@127.0.0.1:{taken.getsockname()[1]}/secret/path").write(event(1))
    assert not isinstance(caught.value, EventRefused)
    assert "geheim" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refused_event_is_not_tried_again(server: Server, status: int) -> None:
    server.answers = [status]
    queue = SinkQueue("web", Webhook(server.url(user="anna:geheim@")), retry=True, pauses=SOON)
    queue.put(event(0))
    queue.put(event(1))
    queue.close()
    assert server.numbers() == [0, 1]
    state = queue.state()
    assert (state["delivered"], state["missed"]) == (1, 1)
    assert f"HTTP {status}" in state["last_error"] and "geheim" not in state["last_error"]


def test_an_event_without_an_answer_may_be_tried_again() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(VljEdgeError, match="timed out") as caught:
            Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.05).write(event(1))
    assert not isinstance(caught.value, EventRefused)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_keeps_the_event(server: Server, status: int) -> None:
    server.answers = [(status, "/elsewhere")]
    Webhook(server.url(user="anna:geheim@")).write(event(1))
    assert [(method, path) for method, path, _, _ in server.got] == [("POST", "/hook"), ("POST", "/elsewhere")]
    assert server.numbers() == [1, 1] and "Authorization" in server.got[1][2]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "place",
    [
        "http://localhost:{port}/elsewhere",
        "http://127.0.0.1:{other}/api/settings/save",
        "//localhost:{port}/x",
        "http://127.0.0.1:x/",
        "http://[::1/",
    ],
)
def test_a_redirect_to_another_server_is_not_followed(server: Server, status: int, place: str) -> None:
    other = Server()
    server.answers = [(status, place.format(port=server.server_port, other=other.server_port))]
    with pytest.raises(EventRefused) as caught:
        Webhook(server.url(user="anna:geheim@")).write(event(1))
    assert len(server.got) == 1 and not other.got and "geheim" not in str(caught.value)
    other.shutdown()
    other.server_close()


def test_a_redirect_after_which_the_event_counts_stays_on_the_server(server: Server) -> None:
    server.answers = [(303, "/done")]
    Webhook(server.url(user="anna:geheim@")).write(event(1))
    assert [(method, path) for method, path, _, _ in server.got] == [("POST", "/hook"), ("GET", "/done")]


def test_a_password_may_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_PASSWORD", "ge@h/eim")
    Webhook(server.url(user="anna:${HOOK_PASSWORD}@")).write(event(1))
    assert base64.b64decode(server.got[0][2]["Authorization"].split()[1]) == b"anna:ge@h/eim"


@pytest.mark.parametrize("place", ["https://127.0.0.1:1/", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_another_scheme_is_refused(server: Server, place: str) -> None:
    server.answers = [(307, place)]
    with pytest.raises(EventRefused):
        Webhook(server.url()).write(event(1))
    assert len(server.got) == 1


def test_redirects_in_a_circle_end(server: Server) -> None:
    server.answers = [(307, "/hook")] * 50
    with pytest.raises(EventRefused, match="HTTP 307"):
        Webhook(server.url()).write(event(1))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://anna:geheim@host/x",
        "file:///etc/passwd",
        "http:///x",
        "http://anna:geheim@host:port/x",
        "http://anna:ge heim@host/x",
        "http://anna:ge/heim@host/x",
        "host/x",
    ],
)
def test_the_error_for_a_wrong_address_hides_the_password(url: str) -> None:
    with pytest.raises(VljEdgeError) as caught:
        Webhook(url)
    assert "heim" not in str(caught.value)
