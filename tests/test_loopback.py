"""What counts as this machine, and that no proxy gets requests to it."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.runtime.sinks.events import event
from vlj_edge.loopback import is_loopback, reach_loopback_directly
from vlj_edge.runtime.sinks.webhook import Webhook
from vlj_edge.runtime.video.network.address import network_address
from vlj_edge.runtime.video.network.http_client import HttpClient


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("LocalHost.", True), ("app.localhost", True), ("127.0.0.1", True), ("127.9.9.9", True),
        ("127.1", True), ("::1", True), ("[::1]", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", True),
        ("localhost.example", False), ("128.0.0.1", False), ("192.168.0.1", False), ("", False),
        ("127.0.0.1.nip.io", False),
        ("fe80::1%eth0", False), ("bücher", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize("said", ["", "example.org", "*", "localhost, example.org"])
def test_the_environment_exempts_this_machine(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("NO_PROXY", said)
    reach_loopback_directly()
    reach_loopback_directly()
    for host in ("localhost", "127.0.0.1", "::1"):
        assert urllib.request.proxy_bypass(host)
    assert bool(urllib.request.proxy_bypass("example.org")) == (said not in ("",))
    assert os.environ["no_proxy"].count("127.0.0.1") == (said != "*")


class _Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server on this machine, while the environment names a proxy at which nothing listens."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
def test_cameras_and_webhooks_on_this_machine_are_reached_directly(port: int, host: str) -> None:
    Webhook(f"http://{host}:{port}/hook").write(event(1))
    client = HttpClient(network_address(f"http://{host}:{port}/picture.jpg"))
    assert client.get().read() == b"/picture.jpg"
    client.close()
