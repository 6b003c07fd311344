"""Authentication: which requests are allowed, and no response reveals secrets."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.runtime.service.http.server import Serve
from vlj_edge.runtime.service.http.redact import safe_line, safe_names

ROUTES = ("/", "/api/state", "/api/events", "/metrics", "/openapi.json", "/api/sources/cam/picture.jpg", "/nothing")


@pytest.mark.parametrize("token", ["right", "pässword €"])
def test_every_address_but_healthz_needs_the_token(serve: Serve, token: str) -> None:
    served = serve(token=token)
    with served.client() as client:
        for path in ROUTES:
            answer = client.get(path)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
            assert token not in answer.text
        assert client.put("/api/sources/cam/settings", json={"query": "x"}).status_code == 401
        for wrong in (b"Bearer wrong", b"Bearer", b"Basic cmlnaHQ=", b"Bearer \xff", token.encode()):
            assert client.get("/api/state", headers={b"Authorization": wrong}).status_code == 401
        assert client.get("/api/state", headers={"Cookie": f"vlj-edge={token.encode().hex()}"}).status_code == 401
        assert client.get("/healthz").status_code == 200
        right = {b"Authorization": b"Bearer " + token.encode()}
        assert client.get("/api/state", headers=right).status_code == 200


def test_a_link_with_the_token_sets_a_cookie(serve: Serve) -> None:
    served = serve(token="right & proper")
    with served.client() as client:
        assert client.get("/", params={"token": "wrong"}).status_code == 401
        assert client.get("/?token=&token=%ff").status_code == 401
        answer = client.get("/", params={"token": "right & proper"})
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "right" not in cookie
        assert client.get("/").status_code == 200, "the cookie is enough now"
        assert client.get("/api/state").status_code == 200


def test_without_a_token_everything_is_open_to_this_machine(serve: Serve) -> None:
    with serve().client() as client:
        assert client.get("/").status_code == 200
        assert client.get("/?token=any").status_code == 303


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "[::2]", ""])
def test_another_host_name_is_refused(serve: Serve, host: str) -> None:
    served = serve()
    with served.client() as client:
        assert client.get("/api/state", headers={"Host": host}).status_code == 400
        assert client.get("/api/state", headers={"Host": f"LocalHost:{served.port}"}).status_code == 200
        assert client.get("/api/state", headers={"Host": "[::1]:1"}).status_code == 200
    with serve(hosts=("*",), token="t").client(Authorization="Bearer t") as client:
        assert client.get("/api/state", headers={"Host": host or "x"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_another_sites_page_changes_nothing(serve: Serve, origin: str) -> None:
    served = serve()
    before = served.station.channels["cam"].settings
    with served.client(Origin=origin) as client:
        assert client.put("/api/sources/cam/settings", json={"query": "what"}).status_code == 403
        for path in ("/api/settings/save", "/api/embed", "/api/ask"):
            assert client.post(path).status_code == 403
        assert "access-control-allow-origin" not in client.get("/api/state").headers
        assert client.options("/api/state", headers={"Access-Control-Request-Method": "PUT"}).status_code == 405
    with served.client(**{"Sec-Fetch-Site": "cross-site"}) as client:
        assert client.post("/api/settings/save").status_code == 403
    assert served.station.channels["cam"].settings is before
    with served.client(Origin=served.url) as client:
        assert client.put("/api/sources/cam/settings", json={"query": "what"}).status_code == 200


def test_the_page_may_load_only_itself(serve: Serve) -> None:
    with serve().client() as client:
        one, other = client.get("/"), client.get("/")
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    policy = one.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert policy != other.headers["content-security-policy"], "each answer has a nonce of its own"
    assert one.headers["x-content-type-options"] == "nosniff" and one.headers["referrer-policy"] == "no-referrer"
    assert (
        "{{" not in one.text
        and "http://" not in one.text.replace("http://www.w3.org/", "")
        and "https://" not in one.text
    )
    assert "innerHTML" not in one.text and "insertAdjacentHTML" not in one.text


def test_errors_are_shown_without_folders_and_credentials() -> None:
    assert safe_line("/home/me/a b.mp4 is gone") == "a b.mp4 is gone"
    assert safe_line("/home/me/none.mp4 does not exist: check '/x/y'") == "none.mp4 does not exist: check 'y'"
    assert safe_line("rtsp://***@host/stream/1 gives no picture") == "rtsp://***@host/stream/1 gives no picture"
    assert safe_line("rtsp://a:b@host/1 is gone") == "rtsp://***@host/1 is gone"
    assert safe_line("camera /dev/video0 gives none") == "camera /dev/video0 gives none"
    clip = Path("/tmp/vlj-edge-clip-1/clip.mp4")
    assert (
        safe_line(f"{clip} has none: ffmpeg -i clip.mp4 video.mp4", clip)
        == "the clip has none: ffmpeg -i clip video.mp4"
    )


def test_shown_names_are_unique() -> None:
    names = ["/a/x.mp4", "/b/x.mp4", "rtsp://u:p@h/1", "rtsp://v:q@h/1", "cam"]
    assert list(safe_names(names).values()) == ["x.mp4", "x.mp4 2", "rtsp://***@h/1", "rtsp://***@h/1 2", "cam"]
    here = Path.cwd().name
    names = [".", "hall/left", "yard/left", "a\nb.mp4", "/a\x07.mp4", "videos/.."]
    shown = safe_names(names, {"hall/left", "yard/left"})
    assert list(shown.values()) == [here, "hall/left", "yard/left", "a b.mp4", "a?.mp4", f"{here} 2"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\x16\x03\x01" * 50,
        b"GET\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/sources/../../etc/passwd/picture.jpg HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_malformed_request_gets_4xx_and_nothing_else(serve: Serve, raw: bytes) -> None:
    served = serve()
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname or "", where.port or 0), 10) as connection:
        connection.sendall(raw)
        connection.settimeout(10)
        try:
            answer = connection.recv(65536)
        except OSError:  # it hung up
            answer = b""
    assert answer == b"" or re.match(rb"HTTP/1\.1 4\d\d ", answer), answer[:200]
    assert b"root:" not in answer and b"Traceback" not in answer
    with served.client() as client:
        assert client.get("/healthz").status_code == 200, "it goes on"
