"""The client of chat endpoints, against servers that break HTTP itself: each costs its time and one line."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.service.http.reverse_proxy import certificate
from tests.runtime.words.endpoints import completion
from tests.waiting import wait_for
from vlj_edge.runtime.words import chat_call
from vlj_edge.runtime.words.chat_call import Closed, NoReply
from vlj_edge.runtime.words.endpoint import Endpoint
from vlj_edge.runtime.words.prompt import WordsContext

CONTEXT = WordsContext(0.0, 2.0, 1.0)
FRAMES = [np.full((16, 16, 3), 40, np.uint8)]
SAID = json.dumps(completion("a cat")).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Answer = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_call, "_PAUSES", (0.001, 0.01))


class Raw:
    """A server that reads a request and lets `answer` write to the connection; then the next."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.asked, self._answer, self._context = 0, answer, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            with suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(20)
                    if self._closing.is_set():
                        return
                    self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        used = connection if self._context is None else self._context.wrap_socket(connection, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            head += used.recv(65_536) or b"\r\n\r\n"
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        rest = length - len(head.partition(b"\r\n\r\n")[2])
        while rest > 0:
            rest -= len(used.recv(65_536)) or rest
        self.asked += 1
        self._answer(used)

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            pass
        self._thread.join(60)
        self._listener.close()


@contextmanager
def raw(
    *parts: bytes, reset: bool = False, forever: bytes = b"", context: ssl.SSLContext | None = None
) -> Iterator[Raw]:
    """Serve an answer of these parts; then reset the connection, or send something until the client has gone."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.01)
        if reset:  # not the FIN of close(), but an RST
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end = time.monotonic() + 60
        while forever and time.monotonic() < end:
            connection.sendall(forever)
            time.sleep(0.001)

    server = Raw(answer, context)
    try:
        yield server
    finally:
        server.close()


def ask(server: Raw, timeout: float = 30.0, scheme: str = "http") -> str:
    return Endpoint(f"{scheme}://127.0.0.1:{server.port}/v1", "tiny", timeout=timeout)(FRAMES, CONTEXT).text


def chunked(*parts: bytes, ends: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if ends else b"")


def sized(body: bytes, *headers: bytes) -> bytes:
    return OK + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    "parts",
    [
        (chunked(SAID[:20], SAID[20:]),),
        (b"HTTP/1.1 100 Continue\r\n\r\n", sized(SAID)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, b"HTTP/1.1 100 Continue\r\n\r\n" + sized(SAID)),
        (b"HTTP/1.0 200 OK\r\n\r\n", SAID),  # the end of the connection is that of the answer
        (sized(SAID), b"HTTP/1.1 200 OK\r\n\r\nmore that nobody asked for"),
        (sized(SAID.decode().encode("utf-16"), b"Content-Type: application/json; charset=utf-16"),),
        (sized(SAID.decode().encode("utf-32-le")),),
        (sized(SAID, b"X-Padding: " + b"x" * 60_000),),
        (sized(gzip.compress(SAID), b"Content-Encoding: gzip"),),
        (sized(gzip.compress(SAID), b"Content-Encoding: X-Gzip"),),
        (sized(zlib.compress(SAID), b"Content-Encoding: deflate"),),
        (sized(SAID, b"Content-Encoding: identity"),),
    ],
)
def test_what_can_be_read_is_read(parts: tuple[bytes, ...]) -> None:
    with raw(*parts) as server:
        assert ask(server) == "a cat" and server.asked == 1


@pytest.mark.parametrize(
    "parts",
    [
        (b"a cat sleeps\n",),  # as HTTP/0.9
        (b"\x00\xff\x16\x03\x01 junk\r\n\r\n",),
        (b"HTTP/9.9 abc\r\n\r\n",),
        (b"SSH-2.0-OpenSSH_9.2\r\n",),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",),
        (OK + b"X-Padding: " + b"x" * 200_000 + b"\r\n\r\n",),
        (OK + b"Content-Length: 10000\r\n\r\n" + SAID,),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + SAID,),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + SAID,),
        (chunked(SAID[:50], ends=False),),
        (b"",),
    ],
)
@pytest.mark.parametrize("reset", [False, True])
def test_what_cannot_be_read_is_one_line(parts: tuple[bytes, ...], reset: bool) -> None:
    with raw(*parts, reset=reset) as server, pytest.raises(NoReply) as found:
        ask(server, timeout=0.3)
    assert "\n" not in str(found.value) and str(server.port) in str(found.value) and len(str(found.value)) < 400
    assert str(found.value).isprintable()


@pytest.mark.parametrize(
    ("parts", "forever"),
    [
        ((OK + b"Transfer-Encoding: chunked\r\n\r\n",), b"1\r\n \r\n"),
        ((OK + b"\r\n",), b" "),
        ((b"HTTP/1.1 200 OK\r\n",), b"X: y\r\n"),
        ((b"HTTP/1.1 ",), b"2"),
        ((), b"HTTP/1.1 100 Continue\r\n\r\n"),
        ((), b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
)
def test_what_never_ends_ends_with_the_time(parts: tuple[bytes, ...], forever: bytes) -> None:
    begun = time.monotonic()
    with raw(*parts, forever=forever) as server, pytest.raises(NoReply) as found:
        ask(server, timeout=0.4)
    assert time.monotonic() - begun < 30 and "\n" not in str(found.value)


@pytest.mark.parametrize("head", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"])
def test_after_a_reset_in_the_middle_it_is_asked_again(head: bytes) -> None:
    begun = iter([True, True])

    def answer(connection: socket.socket) -> None:
        if next(begun, False):
            connection.sendall(OK + head + SAID[:30])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.sendall(sized(SAID))

    server = Raw(answer)
    try:
        assert ask(server, timeout=120.0) == "a cat" and server.asked == 3
    finally:
        server.close()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b" " * 20_000_000, 1), b"gzip"),
        (zlib.compress(gzip.compress(b" " * 5_000_000, 1)), b"gzip"),
        (gzip.compress(SAID)[:-20], b"gzip"),
        (b"no gzip", b"gzip"),
        (SAID, b"br"),
        (b"\x28\xb5\x2f\xfd" + SAID, b"zstd"),
        (SAID, b"gzip, br"),
    ],
)
def test_what_is_packed_otherwise_or_unpacks_without_end_is_one_line(body: bytes, encoding: bytes) -> None:
    with raw(sized(body, b"Content-Encoding: " + encoding)) as server, pytest.raises(NoReply) as found:
        ask(server)
    assert server.asked == 1 and "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "Mädchen"),
        ("cp1252", "„Mädchen“"),
        ("gb18030", "一只猫"),
        ("shift-jis", "猫が眠る"),
        ("koi8-r", "кот"),
    ],
)
def test_another_encoding_is_read_where_it_is_named(encoding: str, text: str) -> None:
    body = json.dumps(completion(text), ensure_ascii=False).encode(encoding)
    named = OK.replace(b"json", f"json; charset={encoding}".encode()) + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with raw(named) as server:
        assert ask(server) == text
    with raw(named.replace(encoding.encode(), b"no-such-code")) as server, pytest.raises(NoReply, match="no-such-code"):
        ask(server)
    if encoding == "latin-1":
        with raw(sized(body)) as server, pytest.raises(NoReply, match="not JSON"):
            ask(server)


def test_the_reason_of_an_error_may_be_packed() -> None:
    body = gzip.compress(b'{"error": {"message": "no such model"}}')
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with raw(head + body) as server, pytest.raises(NoReply, match="no such model"):
        ask(server)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("trouble", ["self-signed", "another host"])
def test_a_certificate_that_is_not_trusted_is_one_line_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    files = certificate(tmp_path, "elsewhere.example")
    if trouble == "another host":
        monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    with (
        raw(sized(SAID), context=context) as server,
        pytest.raises(NoReply, match="certificate is not trusted") as found,
    ):
        ask(server, scheme="https")
    assert "\n" not in str(found.value) and not server.asked


def test_a_server_without_tls_is_one_line() -> None:
    with raw(sized(SAID)) as server, pytest.raises(NoReply) as found:
        ask(server, timeout=0.5, scheme="https")
    assert "\n" not in str(found.value) and str(server.port) in str(found.value)


def test_an_answer_after_the_end_of_the_stream_disturbs_nobody() -> None:
    """The run is closed while the server works; the server answers when nobody listens any more."""
    gate, interrupts, lines = threading.Event(), list[Callable[[], None]](), list[str]()

    def answer(connection: socket.socket) -> None:
        gate.wait(60)
        connection.sendall(sized(SAID))

    server = Raw(answer)

    @contextmanager
    def interrupting(interrupt: Callable[[], None]) -> Iterator[None]:
        interrupts.append(interrupt)
        yield

    def call() -> None:
        with pytest.raises(Closed) as found:
            Endpoint(f"http://127.0.0.1:{server.port}/v1").ask(FRAMES, CONTEXT, interrupting)
        lines.append(str(found.value))

    thread = threading.Thread(target=call)
    thread.start()
    try:
        wait_for(lambda: server.asked)
        interrupts[0]()
        thread.join(60)
        assert not thread.is_alive() and len(lines) == 1
    finally:
        gate.set()
        server.close()
