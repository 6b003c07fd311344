"""Uploads and search: results, early refusals, and no file left behind."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.service.http.server import Serve
from tests.runtime.tiny_bundle import BLUE, GREEN, RED, embedding_of
from tests.waiting import wait_for
from vlj_edge.runtime.library import Store, index, local_encoder
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.http import uploads

Film = Callable[..., Path]
REQUESTS = {"embed": {}, "classify": {"labels": "red,blue"}, "ask": {"question": "what", "choices": "red,blue"}}


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where uploads are kept; empty again at the end of every test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    wait_for(lambda: not list(folder.iterdir()))


def test_a_clip_is_embedded_classified_and_asked(serve: Serve, make_video: Film) -> None:
    red, blue = make_video([(RED, 3)]).read_bytes(), make_video([(BLUE, 3)], name="b.avi").read_bytes()
    with serve().client() as client:
        windows = client.post("/api/embed", files={"clip": red}).json()["windows"]
        assert len(windows) >= 4 and windows[0]["encoded"] and windows[1]["start"] > windows[0]["start"]
        np.testing.assert_allclose(windows[0]["embedding"], embedding_of(RED), atol=0.02)
        labels = {"labels": " red screen, green  light ,blue,"}
        for clip, label in ((red, "red screen"), (blue, "blue")):
            found = client.post("/api/classify", files={"clip": clip}, data=labels).json()
            assert found["label"] == found["guesses"][0]["label"] == label and len(found["guesses"]) == 3
        asked = {"question": "what colour is it", "choices": "green,blue"}
        found = client.post("/api/ask", files={"clip": blue}, data=asked).json()
        assert found["choice"] == "blue" and found["question"] == "what colour is it"


def test_a_client_names_no_file_of_this_machine(
    serve: Serve, make_video: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video([(RED, 3)])
    (tmp_path / "red.txt").write_text("red\nblue")
    monkeypatch.chdir(tmp_path)
    with serve().client() as client:
        files = {"clip": (str(video), b"../../../etc/passwd")}
        assert client.post("/api/embed", files=files).status_code == 422
        assert client.post("/api/embed", files={"clip": (None, str(video))}).status_code == 422
        data = {"labels": "red.txt"}
        found = client.post("/api/classify", files={"clip": video.read_bytes()}, data=data).json()
        assert [guess["label"] for guess in found["guesses"]] == [data["labels"]], "a label, and not a file of labels"


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///%s\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    "clip", [b"", b"no video", PLAYLIST % b"etc/passwd", b"ffconcat version 1.0\nfile '/etc/passwd'\n",
             b"\x00\x00\x00\x18ftypmp42" + b"\0" * 500, b"\x1a\x45\xdf\xa3" + b"\1" * 5000,
             b"RIFF\0\0\0\0AVI " + b"x" * 999, b"#EXTM3U\nAVI \nfile:///etc/passwd\n"]
)  # fmt: skip
def test_a_file_that_is_no_video_is_refused(serve: Serve, clip: bytes, scratch: Path) -> None:
    with serve().client() as client:
        for path, data in REQUESTS.items():
            answer = client.post(f"/api/{path}", files={"clip": clip}, data=data)
            assert answer.status_code == 422, answer.text
            assert list(answer.json()) == ["error"] and "/" not in answer.json()["error"]


def test_a_playlist_is_never_opened(serve: Serve, make_video: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(uploads, "UntrustedFile", lambda clip, *_: opened.append(clip))
    with serve().client() as client:
        clip = PLAYLIST % str(make_video([(RED, 2)])).encode()
        assert client.post("/api/embed", files={"clip": clip}).status_code == 422
    assert not opened


def test_a_clip_that_breaks_off_is_refused(serve: Serve, make_video: Film) -> None:
    whole = make_video([(RED, 4), (BLUE, 4)], name="a.avi", size=(320, 240)).read_bytes()
    with serve().client() as client:
        answer = client.post("/api/embed", files={"clip": whole[: len(whole) // 2]})
    assert answer.status_code == 422 and "clip" in answer.json()["error"]


def test_frames_that_are_too_large_are_refused(serve: Serve, make_video: Film) -> None:
    clip = make_video([(RED, 0.2)], name="large.avi", size=(4096, 64)).read_bytes()
    with serve().client() as client:
        answer = client.post("/api/embed", files={"clip": clip})
    assert answer.status_code == 422 and "4096x64" in answer.json()["error"]


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), MemoryError(), RuntimeError("can't start new thread")]
)
def test_what_the_system_refuses_is_one_line(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(uploads, "UntrustedFile", refuse)
    with serve().client() as client:
        for _ in range(3):
            answer = client.post("/api/embed", files={"clip": b"\x1a\x45\xdf\xa3" + b"\1" * 5000})
            assert answer.status_code == 503, answer.text
            assert str(getattr(error, "strerror", None) or error or "MemoryError") in answer.text
    assert "Traceback" not in caplog.text and caplog.text.count("requests fail") == 1


def test_an_upload_that_is_too_large_is_refused_while_it_arrives(serve: Serve, scratch: Path) -> None:
    with serve(max_upload=200_000).client() as client:
        for size in (200_001, 1_000_000):
            answer = client.post("/api/embed", files={"clip": b"x" * size})
            assert answer.status_code == 413 and "200000 bytes" in answer.json()["error"]
        fields = client.post("/api/classify", files={"clip": b"x"}, data={"labels": "x" * 50_000})
        assert fields.status_code == 413
        assert client.post("/api/embed", files={"clip": b"x" * 200_000}).status_code == 422


@pytest.mark.parametrize(
    ("path", "data", "line"),
    [
        ("classify", {}, "labels"),
        ("classify", {"labels": " , "}, "labels"),
        ("classify", {"labels": ",".join(map(str, range(101)))}, "labels"),
        ("classify", {"labels": "x" * 201}, "labels"),
        ("classify", {"labels": "a,a"}, "twice"),
        ("classify", {"labels": "zebra,giraffe"}, "giraffe"),
        ("classify", {"labels": b"\xff"}, "UTF-8"),
        ("ask", {"question": " ", "choices": "a,b"}, "question"),
        ("ask", {"question": "x" * 501, "choices": "a,b"}, "question"),
        ("ask", {"question": "what", "choices": "blue"}, "choices"),
        ("embed", {f"field{n}": "x" for n in range(20)}, "16 parts"),
    ],
)
def test_wrong_fields_are_refused(serve: Serve, make_video: Film, path: str, data: dict[str, Any], line: str) -> None:
    parts: dict[str, Any] = {name: (None, value) for name, value in data.items()}
    with serve().client() as client:
        answer = client.post(f"/api/{path}", files=parts | {"clip": make_video([(RED, 2)]).read_bytes()})
    assert answer.status_code == 422 and line in answer.json()["error"]


def test_a_body_that_is_no_form_is_refused(serve: Serve) -> None:
    multipart = "multipart/form-data; boundary=b"
    with serve().client() as client:
        for kind, body in (
            ("application/json", b"{}"), ("multipart/form-data", b"x"), (multipart, b""), (multipart, b"x" * 99),
            (multipart, b'--b\r\nContent-Disposition: form-data; name="clip"\r\n\r\nxx'),
            (multipart, b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nxx\r\n--b--\r\n'),
        ):  # fmt: skip
            answer = client.post("/api/embed", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 422 and list(answer.json()) == ["error"], (kind, body)


def test_an_upload_that_stops_arriving_releases_its_slot(serve: Serve, make_video: Film) -> None:
    served = serve(patience=0.5)
    head = (
        b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(head)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
    with socket.create_connection(("127.0.0.1", served.port)) as gone:
        gone.sendall(head)
    with served.client() as client:
        assert client.post("/api/embed", files={"clip": make_video([(RED, 2)]).read_bytes()}).status_code == 200


def test_processing_is_limited_in_time(serve: Serve, make_video: Film) -> None:
    clip = make_video([(RED, 3)]).read_bytes()
    with serve(max_seconds=0.0).client() as client:
        for path, data in REQUESTS.items():
            answer = client.post(f"/api/{path}", files={"clip": clip}, data=data)
            assert answer.status_code == 503 and "0 s" in answer.json()["error"]


def test_at_most_two_clips_are_processed_at_once(
    serve: Serve, make_video: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, waiting = threading.Event(), threading.Semaphore(0)
    real = uploads.UntrustedFile

    def held(*arguments: Any) -> Any:
        waiting.release()
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(uploads, "UntrustedFile", held)
    served, clip, codes = serve(), make_video([(RED, 2)]).read_bytes(), []

    def send() -> None:
        with served.client() as client:
            codes.append(client.post("/api/embed", files={"clip": clip}).status_code)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(waiting.acquire(timeout=30) for _ in threads)
    with served.client() as client:
        answer = client.post("/api/embed", files={"clip": clip})
        assert answer.status_code == 503 and "2 clips" in answer.json()["error"]
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert codes == [200, 200]
    with served.client() as client:
        assert client.post("/api/embed", files={"clip": clip}).status_code == 200


def test_narration_goes_on_during_an_upload(serve: Serve, make_video: Film) -> None:
    served, clip = serve(), make_video([(GREEN, 20)]).read_bytes()
    with served.client() as client:
        for _ in range(3):
            before = served.station.channels["cam"].counts()["windows"]
            assert (
                client.post("/api/classify", files={"clip": clip}, data={"labels": "red,green"}).json()["label"]
                == "green"
            )
            wait_for(lambda before=before: served.station.channels["cam"].counts()["windows"] > before)
    assert served.last() in (
        "a red screen",
        "blue",
        "green light glows",
        "yellow forever forever forever forever forever",
    )


def test_the_library_is_searched(serve: Serve, model: Model, make_video: Film, tmp_path: Path) -> None:
    for name, colour in (("red.avi", RED), ("blue.avi", BLUE)):
        make_video([(colour, 4)], name=name)
    uri = str(tmp_path / "store")
    with Store(uri, model.manifest, write=True) as writing:
        list(index(writing, local_encoder(model, "describe"), sorted(tmp_path.glob("*.avi"))))
    served = serve(store=Store(uri, model.manifest))
    with served.client() as client:
        assert client.get("/api/state").json()["store"]
        answer = client.get("/api/search", params={"text": "blue", "top": 1})
        assert answer.status_code == 200, answer.text
        moments = answer.json()["moments"]
        assert [moment["file"] for moment in moments] == ["blue.avi"] and moments[0]["score"] > 0.9
        assert moments[0]["thumbnail"].startswith("data:image/jpeg;base64,")
        nothing = client.get("/api/search", params={"text": "yellow", "min_score": 0.5}).json()
        assert nothing["moments"] == [] and nothing["nearest"] < 0.5
        for wrong in (
            "",
            "?text=",
            "?text=%20",
            "?text=x&top=0",
            "?text=x&min_score=2",
            "?text=x&min_score=nan",
            "?text=x&top=y",
            f"?text={'x' * 501}",
        ):
            assert client.get(f"/api/search{wrong}").status_code == 422
    with serve().client() as client:
        assert client.get("/api/search", params={"text": "blue"}).status_code == 404
