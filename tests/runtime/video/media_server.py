"""An HTTP server that gives the same bytes in the ways in which servers do."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@dataclass
class MediaServer:
    """What a server gives, and what it was asked.

    /WAY/NAME gives files[NAME]: by way of
    range (with length and Range), plain (with length, no Range), chunked, close (ends with the connection), slow
    (chunked, in 20 parts, 0.02 s apart), cut (as range, but every connection breaks off after a third of the file),
    broken (as plain, and breaks off in the middle), hang (as plain, and hangs in the middle).
    /to/URL redirects. /snap gives the pictures that snapshot() returns, /mjpeg the same as a stream.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)  # Content-Type by name
    snapshot: Callable[[], bytes] = lambda: b""
    part: tuple[bytes, bytes] = (b"--b\r\nContent-Type: image/jpeg\r\n\r\n", b"\r\n")  # around a JPEG of the stream
    tag: Callable[[], str | None] = lambda: None  # of the snapshot
    status: int = 200  # of everything
    log_in: tuple[str, str, str] | None = None  # "Basic" or "Digest", user, password
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # paths and headers
    headers: dict[str, str] = field(default_factory=dict)  # of the way "close"
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        """What was asked for."""
        return [path for path, _ in self.asked]


@contextmanager
def media_server(host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Iterator[MediaServer]:
    """Run one on a free port of an address of this machine, by https where there is a context."""
    media = MediaServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            media.connections += 1
            super().setup()

        def do_GET(self) -> None:
            media.asked.append((self.path, dict(self.headers)))
            if media.log_in is not None and not _logged_in(self.headers.get("Authorization", ""), media.log_in):
                demand = 'Digest realm="x", nonce="n1", qop="auth", opaque="o"'
                self.reply(401, {"WWW-Authenticate": demand if media.log_in[0] == "Digest" else 'Basic realm="x"'})
            elif media.status != 200:
                self.reply(media.status, {})
            elif self.path.startswith("/to/"):
                self.reply(302, {"Location": unquote(self.path[4:])})
            elif self.path == "/snap":
                self.send_snapshot()
            elif self.path == "/mjpeg":
                self.send_mjpeg()
            else:
                _, way, name = self.path.split("/", 2)
                self.send_file(way, name)

        def reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def send_snapshot(self) -> None:
            tag = media.tag()
            if tag is not None and self.headers.get("If-None-Match") == tag:
                self.reply(304, {"ETag": tag})
            else:
                self.reply(200, {"Content-Type": "image/jpeg"} | ({"ETag": tag} if tag else {}), media.snapshot())

        def send_mjpeg(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            while not media.stopped.wait(0.05):
                self.wfile.write(media.part[0] + media.snapshot() + media.part[1])

        def send_file(self, way: str, name: str) -> None:
            data, headers = media.files.get(name), {"Content-Type": media.types.get(name, "application/octet-stream")}
            if data is None:
                self.reply(404, {})
            elif way in ("range", "cut"):
                self.send_range(data, headers | {"Accept-Ranges": "bytes", "ETag": '"1"'}, way == "cut")
            elif way in ("chunked", "slow"):
                self.send_chunks(data, headers, 0.02 if way == "slow" else 0.0)
            elif way == "close":
                self.send_response(200)
                for key, value in media.headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = True
            elif way in ("broken", "hang"):
                self.reply(200, headers | {"Content-Length": str(len(data))}, data[: len(data) // 2])
                self.wfile.flush()
                media.stopped.wait(60 if way == "hang" else 0)
                self.close_connection = True
            else:
                self.reply(200, headers, data)

        def send_range(self, data: bytes, headers: dict[str, str], cut: bool) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            begin = int(asked[1]) if asked else 0
            end = int(asked[2]) + 1 if asked and asked[2] else len(data)
            if asked:
                headers |= {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
            most = len(data) // 3 + 1 if cut else len(data)
            body = data[begin : min(end, begin + most)]
            self.reply(206 if asked else 200, headers | {"Content-Length": str(end - begin)}, body)
            self.close_connection = cut

        def send_chunks(self, data: bytes, headers: dict[str, str], pause: float) -> None:
            self.send_response(200)
            for key, value in (headers | {"Transfer-Encoding": "chunked"}).items():
                self.send_header(key, value)
            self.end_headers()
            step = len(data) // 20 + 1
            for at in range(0, len(data), step):
                part = data[at : at + step]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
                time.sleep(pause)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # a client that has gone
            pass

    server = Server((host, 0), Handler)
    media.url = f"{'http' if context is None else 'https'}://{host}:{server.server_address[1]}"
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield media
    finally:
        media.stopped.set()
        server.shutdown()
        server.server_close()


def _logged_in(header: str, wanted: tuple[str, str, str]) -> bool:
    kind, user, password = wanted
    if kind == "Basic":
        return header == "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    raw = header.encode("latin-1").decode()
    found = {key: quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^, ]+))', raw)}

    def digest(*items: str) -> str:
        return hashlib.md5(":".join(items).encode()).hexdigest()

    if not raw.startswith("Digest ") or found.get("username") != user:
        return False
    who, what = digest(user, "x", password), digest("GET", found["uri"])
    return found["response"] == digest(who, "n1", found["nc"], found["cnonce"], "auth", what)
