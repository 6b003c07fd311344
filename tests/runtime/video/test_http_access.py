"""Who may read an http address and where it may lead: certificates, passwords, redirects; and what is no video."""

from __future__ import annotations

import gzip
import shutil
import ssl
import subprocess
import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import pytest

from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.network import http_client
from vlj_edge.runtime.video.uri import open_source

from .http_films import FFMPEG, SECRET, jpeg
from .media_server import MediaServer, media_server

pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_is_checked(films: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"]
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *made, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with media_server(context=context) as media:
        media.files |= films
        with pytest.raises(VljEdgeError, match="certificate is not trusted"):
            open_source(f"{media.url}/range/moov_last.mp4")
        assert not media.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        with closing(open_source(f"{media.url}/range/moov_last.mp4")) as source:
            assert len(list(source)) == 50
        monkeypatch.setattr(http_client, "TIMEOUT", 600.0)
        with closing(open_source(f"{media.url}/hang/film.ts")) as source:
            frames = iter(source)
            next(frames)
            reader = threading.Thread(target=lambda: list(frames))
            reader.start()
            time.sleep(0.3)
            source.close()
            reader.join(60)
            assert not reader.is_alive() and source.incomplete is None


@pytest.mark.parametrize("kind", ["Basic", "Digest"])
@pytest.mark.parametrize("path", ["/snap", "/mjpeg", "/range/moov_last.mp4"])
def test_passwords_are_percent_decoded(media: MediaServer, films: dict[str, bytes], kind: str, path: str) -> None:
    media.log_in, media.snapshot = (kind, "ad#min", SECRET), lambda: jpeg(50)
    media.files |= films
    address = f"{media.url}{path}".replace("://", f"://{quote('ad#min', safe='')}:{quote(SECRET, safe='')}@")
    with closing(open_source(address)) as source:
        assert len(list(islice(source, 3))) == 3
    with pytest.raises(VljEdgeError, match=r"401.*password") as caught:
        open_source(address.replace("ad%23min", "hunter2"))
    assert "hunter2" not in str(caught.value) and "rd%" not in str(caught.value)


def test_a_password_goes_to_its_own_host_only(media: MediaServer, films: dict[str, bytes]) -> None:
    with media_server() as other:
        other.files |= films
        address = f"{media.url}/to/{other.url}/range/film.ts".replace("://", "://me:hunter2@", 1)
        with closing(open_source(address)) as source:
            assert len(list(source)) == 50
        assert all("Authorization" not in headers for _, headers in other.asked)


@pytest.mark.parametrize(
    ("address", "nearness"),
    [
        ("8.8.8.8", 0),
        ("2001:4860:4860::8888", 0),
        ("192.168.1.9", 1),
        ("10.0.0.1", 1),
        ("100.64.0.1", 1),
        ("fd00::1", 1),
        ("127.0.0.1", 2),
        ("::1", 2),
        ("::ffff:127.0.0.1", 2),
        ("169.254.169.254", 2),
        ("fe80::1%eth0", 2),
    ],
)
def test_how_near_an_address_is(address: str, nearness: int) -> None:
    assert http_client._nearness(address) == nearness


@pytest.mark.parametrize("way", ["redirect", "playlist"])
def test_a_server_on_the_internet_does_not_lead_to_this_machine(
    media: MediaServer, films: dict[str, bytes], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with media_server("127.0.0.2") as inside:
        inside.files |= films
        target = f"{inside.url}/range/film.ts"
        media.files["list.m3u8"] = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n".encode()
        address = f"{media.url}/to/{target}" if way == "redirect" else f"{media.url}/plain/list.m3u8"
        monkeypatch.setattr(http_client, "_nearness", {"127.0.0.1": 0, "127.0.0.2": 2}.__getitem__)
        with pytest.raises(VljEdgeError, match=r"leads to 127\.0\.0\.2"):
            open_source(address)
        assert inside.asked == []
        monkeypatch.setattr(http_client, "_nearness", {"127.0.0.1": 2, "127.0.0.2": 0}.__getitem__)
        if way == "redirect":
            with closing(open_source(address)) as source:
                assert len(list(source)) == 50


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "data:video/mp4,abc", "concat:/etc/passwd"]
)
def test_a_redirect_leads_to_http_only(media: MediaServer, target: str) -> None:
    with pytest.raises(VljEdgeError, match="redirected"):
        open_source(f"{media.url}/to/{target}")


@pytest.mark.parametrize("target", ["http://[::1", "http://a..b/x", f"http://{'a' * 70}.example/", "//["])
def test_a_redirect_to_no_address_is_refused(media: MediaServer, target: str) -> None:
    with pytest.raises(VljEdgeError, match="an address that is none"):
        open_source(f"{media.url}/to/{target}")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (gzip.compress(bytes(9000), mtime=0), "gzip"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"<html><body>Log in</body>", "web page"),
    ],
)
def test_what_is_no_video_is_named(media: MediaServer, body: bytes, what: str) -> None:
    media.files["x.mp4"] = body
    with pytest.raises(VljEdgeError, match=what):
        open_source(f"{media.url}/plain/x.mp4")


def test_a_length_beyond_all_measure_is_ignored(media: MediaServer, films: dict[str, bytes]) -> None:
    media.files |= films
    media.headers["Content-Length"] = str(10**30)
    with open_source(f"{media.url}/close/film.ts") as source:
        assert len(list(source)) == 50


def test_redirects_in_a_circle_end(media: MediaServer) -> None:
    media.files = {}
    with pytest.raises(VljEdgeError, match="redirected"):
        open_source(f"{media.url}/to/" + "/to/" * 30 + "x")


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, media: MediaServer) -> None:
    monkeypatch.setattr(http_client, "TIMEOUT", 0.3)

    def say_nothing() -> bytes:
        media.stopped.wait(60)
        return b""

    media.snapshot = say_nothing
    with pytest.raises(VljEdgeError, match=r"does not answer.*network"):
        open_source(f"{media.url}/snap")
