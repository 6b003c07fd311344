"""What the live routes show: state, images and events."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.runtime.service.http.server import Camera, Serve, messages, metric
from tests.runtime.tiny_bundle import BLUE, RED
from tests.waiting import wait_for
from vlj_edge.runtime.service.http import broadcast
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.video.source import Source

Film = Callable[..., Path]


def test_the_state_shows_every_source(serve: Serve, cameras: dict[str, Source], tmp_path: Path) -> None:
    cameras["cam"] = Camera()
    secret = "rtsp://user:secret@127.0.0.1:1/x"
    cameras[secret] = Camera([BLUE])
    served = serve(
        SourceSettings("cam", "cam"), SourceSettings(secret, secret), SourceSettings("gone", str(tmp_path / "none.mp4"))
    )
    wait_for(lambda: served.last() and served.station.channels["gone"].state == "ended")
    with served.client() as client:
        answer = client.get("/api/state")
    state = answer.json()
    assert state["preset"] == "by-hand" and state["uptime"] >= 0 and state["memory_megabytes"] > 10
    assert not state["store"] and not state["saves"]
    cam, hidden, gone = state["sources"]
    assert cam["name"] == "cam" and cam["state"] == "live" and cam["error"] is None and cam["query"] == "describe"
    assert cam["threshold"] == cam["gates"]["meaning"]["speak_below"] == 0.85
    assert cam["counts"]["windows"] >= 1 and cam["last"]["text"]
    assert hidden["name"] == "rtsp://***@127.0.0.1:1/x" and "secret" not in answer.text
    assert gone["state"] == "ended" and "none.mp4" in gone["error"]
    assert str(tmp_path) not in answer.text


def test_a_frame_and_a_video_stream(serve: Serve) -> None:
    served = serve()
    wait_for(served.last)
    with served.client() as client:
        still = client.get("/api/sources/cam/picture.jpg")
        assert still.headers["content-type"] == "image/jpeg" and still.content[:2] == b"\xff\xd8"
        with client.stream("GET", "/api/sources/cam/video.mjpg") as answer:
            assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
            came = b""
            for data in answer.iter_bytes():
                came += data
                if came.count(b"--frame") > 3:
                    break
    pictures = [part.partition(b"\r\n\r\n")[2] for part in came.split(b"--frame\r\n")[1:-1]]
    assert len(set(pictures)) == len(pictures) >= 3, "only new frames are sent"
    wait_for(lambda: served.app is not None and metric(served.url, "vlj_edge_viewers") == 0)


def test_no_frame_yet_and_no_such_source(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera(speed=1e-3)
    with serve(SourceSettings("cam", "cam")).client() as client:
        assert client.get("/api/sources/cam/picture.jpg").status_code == 404
        for path in ("/api/sources/none/picture.jpg", "/api/sources/none/video.mjpg", "/nothing"):
            answer = client.get(path)
            assert answer.status_code == 404 and list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    "path", ["/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/sources/..%2f..%2fetc%2fpasswd/picture.jpg",
             "/api/sources/%2fetc%2fpasswd/video.mjpg", "/pages/live.html", "/api/sources/cam%00/picture.jpg"]
)  # fmt: skip
def test_no_path_leads_to_another_file(serve: Serve, path: str) -> None:
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port)) as connection:  # httpx would tidy the path
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404 ") and b"root:" not in answer


def test_the_number_of_viewers_is_limited(serve: Serve) -> None:
    served = serve()
    wait_for(served.last)
    with served.client() as client:
        opened = [client.stream("GET", "/api/sources/cam/video.mjpg") for _ in range(8)]
        assert all(each.__enter__().status_code == 200 for each in opened)
        answer = client.get("/api/sources/cam/video.mjpg")
        assert answer.status_code == 503 and "8 viewers" in answer.json()["error"]
        for each in opened:
            each.__exit__(None, None, None)

    def free() -> bool:
        with served.client() as other, other.stream("GET", "/api/sources/cam/video.mjpg") as answer:
            return answer.status_code == 200

    wait_for(free)


def test_a_video_stream_ends_with_its_source(serve: Serve, make_video: Film) -> None:
    served = serve(SourceSettings("film", str(make_video([(RED, 2)]))))
    wait_for(lambda: served.station.channels["film"].state == "ended")
    with served.client() as client:
        assert client.get("/api/sources/film/video.mjpg").content.endswith(b"--frame--\r\n")


def test_events_are_streamed_after_the_last_narrations(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera(speed=8)
    served = serve(SourceSettings("cam", "cam"))
    wait_for(lambda: served.station.channels["cam"].counts()["events"] >= 2)
    with served.client() as client, client.stream("GET", "/api/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = list(islice(messages(answer), 60))
    said = [(data, number) for kind, data, number in found if kind == "narration"]
    windows = [data for kind, data, _ in found if kind == "window"]
    assert [data["number"] for data, _ in said] == list(range(1, len(said) + 1)) and len(said) >= 3
    assert set(windows[0]) == {"source", "time", "similarity", "resting", "spoke"} and windows[0]["source"] == "cam"
    assert any(window["spoke"] for window in windows) and any(window["similarity"] is not None for window in windows)
    times = [window["time"] for window in windows]
    assert times == sorted(set(times))
    seen = {"Last-Event-ID": said[1][1] or ""}
    with served.client() as client, client.stream("GET", "/api/events", headers=seen) as answer:
        again = next(data for kind, data, _ in messages(answer) if kind == "narration")
    assert again["number"] == 3, "what was seen does not come again"
    with served.client() as client, client.stream("GET", "/api/events", headers={"Last-Event-ID": "0-99"}) as answer:
        first = next(data for kind, data, _ in messages(answer) if kind == "narration")
    assert first["number"] == 1, "the id of another run says nothing"


def test_a_change_of_state_is_published(serve: Serve) -> None:
    served = serve()
    wait_for(served.last)
    with served.client() as client, client.stream("GET", "/api/events") as answer:
        news = messages(answer)
        next(news)
        served.station.channels["cam"].stop()
        state = next(data for kind, data, _ in news if kind == "state" and data["state"] == "ended")
    assert state == {"source": "cam", "state": "ended", "error": None}


def test_a_client_that_stops_reading_delays_nothing_and_is_disconnected(serve: Serve) -> None:
    served = serve(patience=1.0)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", served.port))
        lazy.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: served.broadcaster.clients == 1)
        wait_for(served.last)
        large = {"source": "cam", "text": "x" * 100_000}
        for _ in range(5000):  # more than all buffers between, and than its queue
            served.broadcaster.publish("window", large)
            if served.broadcaster.dropped:
                break
        assert served.broadcaster.dropped > 0
        before = served.station.channels["cam"].counts()["windows"]
        wait_for(lambda: served.broadcaster.clients == 0)
        wait_for(lambda: served.station.channels["cam"].counts()["windows"] > before)
        assert metric(served.url, "vlj_edge_client_messages_dropped_total") > 0

        def ended() -> bool:
            try:
                return lazy.recv(1 << 20) == b""
            except ConnectionError:
                return True

        wait_for(ended)


def test_the_number_of_listeners_is_limited(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "MAX_CLIENTS", 1)
    served = serve()
    with served.client() as client, client.stream("GET", "/api/events"):
        wait_for(lambda: served.broadcaster.clients == 1)
        assert client.get("/api/events").status_code == 503
    wait_for(lambda: served.broadcaster.clients == 0)


def test_a_server_ends_while_clients_listen(serve: Serve) -> None:
    served, ended = serve(), threading.Event()

    def listen() -> None:
        with served.client() as client, client.stream("GET", "/api/events") as answer:
            for _ in answer.iter_bytes():
                pass
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    wait_for(lambda: served.broadcaster.clients == 1)
    served.stop_serving()
    assert ended.wait(120)
