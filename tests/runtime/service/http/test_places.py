"""Places for listeners, viewers and uploads are limited, and come back whatever the client does."""

from __future__ import annotations

import errno
import socket
import tempfile
import threading
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from tests.runtime.service.http.server import Serve, Served
from tests.runtime.sinks.events import file_size_limit
from tests.waiting import wait_for
from vlj_edge.runtime.service.http import clip_routes

STREAMS = ("/api/events", "/api/sources/cam/video.mjpg")


def ask(served: Served, path: str, **headers: str) -> socket.socket:
    """Return a connection on which the request is sent."""
    connection = socket.create_connection(("127.0.0.1", served.port), 120)
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def status(connection: socket.socket) -> int:
    """Return the status of the response, of which the rest is not read."""
    head = b""
    while b"\r\n" not in head:
        head += connection.recv(64)
    return int(head.split()[1])


def taken(served: Served) -> int:
    return served.broadcaster.places.taken + served.app.state.server.viewers.taken + served.app.state.server.clips.taken


@pytest.mark.parametrize("path", STREAMS)
def test_clients_that_leave_at_once_keep_no_place(serve: Serve, path: str) -> None:
    served = serve()
    wait_for(served.last)
    for number in range(60):
        connection = ask(served, path)
        if number % 3 == 1:
            connection.recv(1)
        elif number % 3 == 2:
            connection.shutdown(socket.SHUT_WR)
        connection.close()
    wait_for(lambda: taken(served) == 0)
    with ask(served, path) as connection:
        assert status(connection) == 200


@pytest.mark.parametrize(("path", "places"), [(STREAMS[0], 32), (STREAMS[1], 8)])
def test_clients_that_come_at_once_get_no_more_places_than_there_are(serve: Serve, path: str, places: int) -> None:
    served = serve()
    wait_for(served.last)
    connections = [ask(served, path) for _ in range(100)]
    found = [status(connection) for connection in connections]
    assert found.count(200) == places and found.count(503) == 100 - places
    for connection in connections:
        connection.close()
    wait_for(lambda: taken(served) == 0)


def test_an_upload_that_cannot_be_stored_keeps_no_place(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()

    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with served.client() as client, monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        for _ in range(5):
            answer = client.post("/api/embed", files={"clip": b"x"})
            assert answer.status_code == 507 and "No space left" in answer.json()["error"]
    assert taken(served) == 0
    with served.client() as client:
        assert client.post("/api/embed", files={"clip": b"x"}).status_code == 422


@pytest.mark.parametrize("length", [30_000, 3_000_000])
def test_an_upload_that_outgrows_the_disk_keeps_no_place(serve: Serve, length: int) -> None:
    served = serve()
    with served.client() as client, file_size_limit(10_000):
        for _ in range(3):
            answer = client.post("/api/embed", files={"clip": bytes(length)})
            assert answer.status_code == 507 and "TMPDIR" in answer.json()["error"]
    wait_for(lambda: taken(served) == 0)


def test_searches_that_wait_leave_threads_for_other_requests(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()
    monkeypatch.setattr(clip_routes, "search", lambda *_, **__: found.wait(120) and [])
    served = serve(store=SimpleNamespace(search_floor=0.0))
    with ExitStack() as opened, served.client() as client:
        waiting = [opened.enter_context(ask(served, "/api/search?text=x")) for _ in range(60)]
        wait_for(lambda: served.app.state.server.searches.taken == 8)
        assert client.get("/healthz").status_code == 200
        found.set()
        codes = [status(connection) for connection in waiting]
    assert codes.count(503) >= 1 and codes.count(200) >= 8 and len(codes) == codes.count(200) + codes.count(503)


def test_uploads_that_break_off_keep_no_place(serve: Serve) -> None:
    served = serve()
    head = b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    for body in (b"", b"--b\r\n", b'--b\r\nContent-Disposition: form-data; name="clip"\r\n\r\n' + b"x" * 5000):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(head + body)
    wait_for(lambda: taken(served) == 0)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_another_sites_page_reads_nothing_and_takes_no_place(serve: Serve, headers: dict[str, str]) -> None:
    served = serve()
    for path in (*STREAMS, "/api/state", "/api/sources/cam/picture.jpg", "/api/search?text=x"):
        with ask(served, path, **headers) as connection:
            assert status(connection) == 403, path
    with served.client(**headers) as client:
        for path in ("/api/embed", "/api/classify", "/api/ask", "/api/settings/save"):
            assert client.post(path).status_code == 403, path
    assert taken(served) == 0


def test_a_link_on_another_sites_page_opens_the_page(serve: Serve) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with serve().client(**link) as client:
        assert client.get("/").status_code == 200
        assert client.get("/api/events").status_code == 403, "it is no page"
        assert client.post("/api/settings/save").status_code == 403
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    with serve().client(**own) as client, client.stream("GET", "/api/events") as answer:
        assert answer.status_code == 200
