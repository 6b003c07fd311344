"""A real web server and real commands, on this machine."""

from __future__ import annotations

import base64
import json
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.base import Event, EventRefused
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.speech import Speech
from vlj_edge.runtime.sinks.webhook import Webhook

SOON = (0.001, 0.01)  # pauses between attempts, seconds


def event(number: int, text: str | None = None) -> Event:
    said = f"text {number}" if text is None else text
    return Event("door", Narration(number - 1, number + 1, said, "decoder"), 1.7e9, number)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


class Server(ThreadingHTTPServer):
    """Answers with `answers` in turn, then 200: a status, or a status and where to go, or None: hang up."""

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
    outlet = SinkQueue("web", Webhook(server.url()), retry=True, pauses=SOON)
    for number in range(4):
        outlet.put(event(number))
    until(lambda: outlet.state()["delivered"] == 4)
    outlet.close()
    assert server.numbers() == [0] * 5 + [0, 1, 2, 3]
    assert outlet.state()["missed"] == 0 and outlet.failed == 5


def test_a_server_that_comes_later(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(VljEdgeError, match=r"Connection refused.* to http://127\.0\.0\.1:") as told:
            Webhook(f"http://anna:geheim@127.0.0.1:{taken.getsockname()[1]}/secret/path").write(event(1))
    assert not isinstance(told.value, EventRefused)
    assert "geheim" not in str(told.value) and "secret" not in str(told.value)


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_what_is_refused_is_not_tried_again(server: Server, status: int) -> None:
    server.answers = [status]
    outlet = SinkQueue("web", Webhook(server.url(user="anna:geheim@")), retry=True, pauses=SOON)
    outlet.put(event(0))
    outlet.put(event(1))
    outlet.close()
    assert server.numbers() == [0, 1]
    state = outlet.state()
    assert (state["delivered"], state["missed"]) == (1, 1)
    assert f"HTTP {status}" in state["last_error"] and "geheim" not in state["last_error"]


def test_no_answer_is_a_failure_that_can_pass() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(VljEdgeError, match="timed out") as told:
            Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.05).write(event(1))
    assert not isinstance(told.value, EventRefused)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_keeps_the_event(server: Server, status: int) -> None:
    server.answers = [(status, "/elsewhere")]
    Webhook(server.url(user="anna:geheim@")).write(event(1))
    assert [(method, path) for method, path, _, _ in server.got] == [("POST", "/hook"), ("POST", "/elsewhere")]
    assert server.numbers() == [1, 1] and "Authorization" in server.got[1][2]


def test_a_redirect_to_another_server_goes_without_the_password(server: Server) -> None:
    server.answers = [(307, f"http://localhost:{server.server_port}/elsewhere")]
    Webhook(server.url(user="anna:geheim@")).write(event(1))
    assert server.numbers() == [1, 1] and "Authorization" not in server.got[1][2]


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
def test_an_address_that_cannot_be_is_told_without_its_password(url: str) -> None:
    with pytest.raises(VljEdgeError) as told:
        Webhook(url)
    assert "heim" not in str(told.value)


def speaker(folder: Path, script: str) -> str:
    return f"sh -c {shlex.quote(script)} {shlex.quote(str(folder / 'spoken'))}"


def spoken(folder: Path) -> list[str]:
    path = folder / "spoken"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_the_command_gets_the_text_on_stdin(tmp_path: Path) -> None:
    sink = Speech(f"tee {shlex.quote(str(tmp_path / 'two words'))}")
    sink.write(event(1, "Tür\nzu"))
    sink.close()
    assert (tmp_path / "two words").read_text(encoding="utf-8") == "Tür zu"


def test_the_command_gets_the_text_as_an_argument_and_no_shell_sees_it(tmp_path: Path) -> None:
    sink = Speech(speaker(tmp_path, 'printf "%s\\n" "$@" > "$0"') + " --word {} x{}")
    sink.write(event(1, "a; touch $(b) `c`"))
    assert spoken(tmp_path) == ["--word", "a; touch $(b) `c`", "x{}"]
    sink.write(event(1, "--version"))
    assert spoken(tmp_path)[1] == " --version"


def test_an_empty_text_is_not_spoken(tmp_path: Path) -> None:
    Speech(speaker(tmp_path, 'echo x > "$0"')).write(event(1, " \n"))
    assert spoken(tmp_path) == []


def test_of_those_that_wait_only_the_newest_is_spoken(tmp_path: Path) -> None:
    script = 'cat >> "$0"; echo >> "$0"; while [ ! -e "$0.go" ]; do sleep 0.01; done'
    outlet = SinkQueue("speech", Speech(speaker(tmp_path, script)), capacity=1)
    outlet.put(event(1))
    until(lambda: spoken(tmp_path) == ["text 1"])
    for number in (2, 3, 4):
        outlet.put(event(number))
    (tmp_path / "spoken.go").touch()
    outlet.close(timeout=120)
    assert spoken(tmp_path) == ["text 1", "text 4"]
    assert (outlet.state()["delivered"], outlet.state()["missed"]) == (2, 2)


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    sink = Speech(speaker(tmp_path, 'sleep 600 & echo $! > "$0"; wait'), timeout=0.5)
    with pytest.raises(VljEdgeError, match="was killed"):
        sink.write(event(1))
    child = Path(f"/proc/{spoken(tmp_path)[0]}/cmdline")
    until(lambda: not child.exists() or not child.read_bytes())  # gone, or dead and not yet collected


def test_closing_ends_a_command_that_goes_on(tmp_path: Path) -> None:
    outlet = SinkQueue("speech", Speech(speaker(tmp_path, 'echo $$ > "$0"; exec sleep 600')))
    outlet.put(event(1))
    until(lambda: spoken(tmp_path))
    outlet.close(timeout=0.05)
    until(lambda: not Path(f"/proc/{spoken(tmp_path)[0]}").exists())
    assert outlet.state()["missed"] == 1


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(VljEdgeError, match="exit code 3"):
        Speech("sh -c 'exit 3'").write(event(1))
    Speech("true").write(event(1, "x" * 200_000))  # one that does not read does not fail


@pytest.mark.parametrize("command", ["", "no-such-command-here -x", "sh -c 'open"])
def test_a_command_that_cannot_be_is_told_at_once(command: str) -> None:
    with pytest.raises(VljEdgeError):
        Speech(command)
