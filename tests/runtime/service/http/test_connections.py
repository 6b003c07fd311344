"""Connections that say nothing, or little: they are closed, and keep nobody out."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.runtime.service.http.server import Serve, Served
from tests.waiting import wait_for
from vlj_edge.runtime.service.http import connections
from vlj_edge.runtime.service.http.repeated_lines import once_a_minute

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Leave this process 256 descriptors more than it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as newest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (newest.fileno() + 256, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(served: Served, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port), 120)
    connection.sendall(data)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed the connection; sends one more byte of a header."""
    connection.settimeout(0.05)
    try:
        connection.sendall(b"x")
        return not connection.recv(65_536)
    except TimeoutError:
        return False
    except OSError:
        return True


def works(served: Served) -> bool:
    with served.client() as client:
        return client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"G",
        GET + b"X-Slow: ",
        b"\x16\x03\x01\x02\x00\x01",  # the beginning of TLS
        GET + b"\r\n" + b"GET ",  # a request, and part of another
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
        b"POST /api/settings/save HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 50000\r\n\r\n",
    ],
)
def test_what_makes_no_request_in_time_is_closed(serve: Serve, hurried: None, data: bytes) -> None:
    served = serve()
    with connect(served, data) as connection:
        wait_for(lambda: is_closed(connection))
    assert works(served)


@pytest.mark.parametrize("path", ["/api/settings/save", "/api/embed"])
def test_a_body_that_drips_is_given_up(serve: Serve, hurried: None, path: str) -> None:
    served = serve(patience=0.5)
    kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n".encode() + kind + b"\r\n--b\r\n"
    with connect(served, head + b'Content-Disposition: form-data; name="clip"\r\n\r\n') as connection:
        wait_for(lambda: is_closed(connection))
    wait_for(lambda: served.app.state.server.clips.taken == 0)


def test_connections_that_work_are_left_alone(serve: Serve, hurried: None) -> None:
    served = serve()
    with served.client() as client, client.stream("GET", "/api/events") as answer:
        with connect(served) as silent:
            wait_for(lambda: is_closed(silent))
        assert next(answer.iter_bytes())
    with connect(served, (GET + b"\r\n") * 3) as pipelined:
        wait_for(lambda: pipelined.recv(65_536, socket.MSG_PEEK).count(b"HTTP/1.1 200") == 3)


def test_silent_connections_keep_nobody_out(serve: Serve) -> None:
    served = serve()
    with ExitStack() as opened:
        silent = [opened.enter_context(connect(served)) for _ in range(connections._limits()[0])]
        assert works(served), "the oldest gave way"
        assert any(is_closed(each) for each in silent)
        open_now = served.server.server_state.connections
        wait_for(lambda: len(open_now) <= connections._limits()[0] // 2 + 1)


def test_where_all_are_answered_the_newest_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    served = serve()
    listen = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as opened:
        for number in range(1, 5):
            opened.enter_context(connect(served, listen))
            wait_for(lambda number=number: served.broadcaster.clients == number)  # type: ignore[misc]
        with served.client() as client:
            assert client.get("/healthz").status_code == 503
    wait_for(lambda: served.broadcaster.clients == 0)
    assert works(served)


def test_descriptors_are_kept_for_cameras(serve: Serve, descriptors: None, caplog: pytest.LogCaptureFixture) -> None:
    served = serve()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with ExitStack() as opened:
        for _ in range(110):  # each takes a descriptor of the test and one of the server, in one process
            opened.enter_context(connect(served))
        assert works(served)
        with socket.socket() as newest:
            assert newest.fileno() < limit - 16
    assert len([each for each in caplog.records if each.name == "asyncio"]) <= 1


def test_a_line_that_repeats_is_logged_once_a_minute() -> None:
    class Exhausted(OSError):
        strerror = "Too many open files"

    def record(text: str) -> logging.LogRecord:
        return logging.LogRecord("asyncio", 40, "", 0, text, (), (Exhausted, Exhausted(), None))

    once_a_minute._seen.clear()
    first = record("socket.accept() out of system resource\nsocket: 5")
    assert once_a_minute.filter(first) and first.exc_info is None
    assert "Too many open files" in first.getMessage() and "ulimit" in first.getMessage()
    assert not any(once_a_minute.filter(record("socket.accept() out of system resource\nsocket: 6")) for _ in range(9))
    assert once_a_minute.filter(record("another"))
    line = next(iter(once_a_minute._seen))
    once_a_minute._seen[line] = (once_a_minute._seen[line][0] - 61, 9)
    again = record("socket.accept() out of system resource\nsocket: 5")
    assert once_a_minute.filter(again) and "9 times" in again.getMessage()
    once_a_minute._seen.clear()
