"""A chat endpoint on this machine that answers as a test says, well or as servers that misbehave do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: Any, usage: Any = None, finish: str = "stop") -> dict[str, Any]:
    """A response in OpenAI's form, as llama.cpp's server writes it."""
    message = {"role": "assistant", "content": text}
    found = {"object": "chat.completion", "choices": [{"index": 0, "finish_reason": finish, "message": message}]}
    return found if usage is None else found | {"usage": usage}


@dataclass
class Answer:
    """One answer. `body` is JSON, or bytes as they are; `hang_up` closes the connection instead."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    drip: float = 0.0  # seconds between two bytes, after which blanks follow for ever
    wait: float = 0.0  # seconds before the answer


Respond = Callable[["Request"], Answer]


@dataclass(frozen=True)
class Request:
    """What came: `body` is parsed."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def parts(self) -> list[dict[str, Any]]:
        return list(self.body["messages"][0]["content"])

    @property
    def text(self) -> str:
        return str(self.parts[0]["text"])


class FakeEndpoint(ThreadingHTTPServer):
    """Gives each of `answers`, and then what `then` returns for a request."""

    daemon_threads = True

    def __init__(self, then: Respond, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.then, self.answers = then, list[Answer]()
        self.got: list[Request] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are expected."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeEndpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.path, dict(self.headers), json.loads(raw))
        self.server.got.append(request)
        answer = self.server.answers.pop(0) if self.server.answers else self.server.then(request)
        self.server.stopping.wait(answer.wait)
        if answer.hang_up:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.drip:
            self.end_headers()
            self._drip(body, answer.drip)
            return
        if "Content-Length" in answer.headers:  # another one than that of the body
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def _drip(self, body: bytes, pause: float) -> None:
        self.close_connection = True
        end = time.monotonic() + 120
        for at in range(1 << 30):
            if self.server.stopping.wait(pause) or time.monotonic() > end:
                return
            self.wfile.write(body[at : at + 1] or b" ")
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def endpoint(
    then: Respond = lambda request: Answer(completion("a cat sleeps")), port: int = 0
) -> Iterator[FakeEndpoint]:
    """Serve until the end of the block."""
    server = FakeEndpoint(then, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(60)
