"""Servers that answer with something else than a video: an error says what it is, in words for a network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.video.network.no_video import known_problem
from vlj_edge.runtime.video.uri import open_source

PAGE = b"<html><body>Please log in</body></html>"
PLAYLIST = "application/vnd.apple.mpegurl"
SEGMENTS = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n"


def http(body: bytes, kind: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Start a server that answers every request with the same bytes and hangs up; returns its HOST:PORT/NAME."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def answer(server: socket.socket, said: bytes) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    connection.settimeout(30)
                    connection.recv(4096)
                    connection.sendall(said)

    def start(said: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=answer, args=(server, said))
        servers.append((server, thread))
        thread.start()
        return f"127.0.0.1:{server.getsockname()[1]}/name"

    yield start
    for server, thread in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (http(PAGE, "text/html"), "web page"),
        (http(PAGE, "video/mp4"), "web page"),
        (http(b"<?xml version='1.0'?><!DOCTYPE html><html></html>", "application/xhtml+xml"), "web page"),
        (http(b"no such camera: front door", "video/mp4"), "no such camera"),
        (http(b'{"error": "forbidden"}', "application/json"), "forbidden"),
        (http(b"<?xml version='1.0'?><MPD type='static'></MPD>", "application/dash+xml"), "DASH"),
        (http(b"", "video/mp4"), "nothing"),
        (http(bytes(range(256)) * 20, "video/mp4"), "its server sends"),
        (http(PAGE, PLAYLIST), "web page"),
        (http(b"#EXTM3U\n#EXT-X-ENDLIST\n", PLAYLIST), "playlist"),
        (http(b"\x00\x01\x02", PLAYLIST), "playlist"),
        (http(SEGMENTS, PLAYLIST), "its server sends"),
        (b"", "closes the connection"),
        (bytes(range(200, 256)) * 20 + b"\r\n\r\n", "no HTTP"),
        (b"RTSP/1.0 400 Bad Request\r\n\r\n", "no HTTP"),
    ],
)
def test_http(said: bytes, named: str, answering: Callable[[bytes], str]) -> None:
    with pytest.raises(VljEdgeError) as refused:
        open_source(f"http://{answering(said)}")
    assert named in str(refused.value) and "index" not in str(refused.value) and "ffmpeg -i" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\n\r\nhello", bytes(range(256)) * 20], ids=["nothing", "http", "bytes"]
)
def test_streams(scheme: str, said: bytes, answering: Callable[[bytes], str]) -> None:
    with pytest.raises(VljEdgeError) as refused:
        open_source(f"{scheme}://{answering(said)}").close()
    problem = str(refused.value)
    assert f"no {scheme.upper()}" in problem or "closes the connection" in problem
    assert "index" not in problem and "ffmpeg -i" not in problem


def test_mjpeg_without_a_picture(answering: Callable[[bytes], str]) -> None:
    part = b"--x\r\nContent-Type: text/plain\r\n\r\nno camera\r\n--x--\r\n"
    said = http(part, "multipart/x-mixed-replace;boundary=x")
    with pytest.raises(VljEdgeError, match="before a picture came"):
        open_source(f"http://{answering(said)}")


def test_what_may_be_a_video_is_none_of_these() -> None:
    for head in (b"\x00\x00\x00\x18ftypmp42", b"FLV\x01\x05", b"YUV4MPEG2 W8 H8 F25:1\n", b"GIF8", b"\x1aE\xdf\xa3"):
        assert known_problem(head) is None
    assert known_problem("not found \u00e9".encode()[:-1]) is not None, "a letter that was cut"


def test_words_of_a_server_are_shown_without_secrets() -> None:
    said = known_problem(b"Cannot GET /live?token=secret at http://me:secret@host/")
    assert said is not None and "Cannot GET /live" in said and "secret" not in said
