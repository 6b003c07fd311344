"""The sinks of narrate, and several sources at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partialmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.command import run_here, vlj_edge
from tests.runtime.sinks.servers import server, silent
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.runtime.sinks import mqtt
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.recordings.files import VideoFile

MakeVideo = Callable[..., Path]
TEXTS = ["a red screen", "blue", "green light glows"]


def test_log_subtitles_video_and_speech(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    log, vtt, film = tmp_path / "log.jsonl", tmp_path / "a.vtt", tmp_path / "film.mp4"
    common = ("narrate", video, "--bundle", tiny_bundle, "--log", log)
    done = vlj_edge(*common, "--vtt", vtt, "--record", film, "--say", "tee -a said.txt", cwd=tmp_path)
    assert done.returncode == 0 and [line[10:] for line in done.stdout.splitlines()[:3]] == TEXTS
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["text"] for line in lines] == TEXTS and [line["number"] for line in lines] == [1, 2, 3]
    assert vtt.read_text().startswith("WEBVTT\n") and vtt.read_text().count("-->") == 3
    assert len(list(VideoFile(film))) == len(list(VideoFile(video)))
    assert (tmp_path / "said.txt").read_text().strip(), "at least the last one was spoken"
    vlj_edge(*common)
    assert len(log.read_text().splitlines()) == 6, "a log is appended to"


def test_a_webhook_that_cannot_be_reached_is_reported_and_stops_nothing(
    video: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SinkQueue, "close", partialmethod(SinkQueue.close, timeout=0.5))
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--webhook", "http://me:secret@127.0.0.1:9/x")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 4
    assert "warning: webhook missed 3 of the texts" in done.stderr and "secret" not in done.stderr


@pytest.mark.parametrize("option", ["--mqtt", "--webhook"])
def test_a_server_that_never_answers_has_lost_every_text(
    video: Path, tiny_bundle: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "CLOSING_SECONDS", 0.2)
    monkeypatch.setattr(SinkQueue.close, "__defaults__", (0.2,))
    with server(silent) as port:
        place = f"127.0.0.1:{port}/home"
        address = f"mqtt://{place}" if option == "--mqtt" else f"http://{place}"
        done = run_here("narrate", video, "--bundle", tiny_bundle, option, address)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 4
    assert f"warning: {option[2:]} missed 3 of the texts" in done.stderr and "not delivered (3)" in done.stderr
    assert str(port) in done.stderr and "answer" in done.stderr


def test_a_webhook_gets_every_text(video: Path, tiny_bundle: Path) -> None:
    got: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/texts"
    done = vlj_edge("narrate", video, "--bundle", tiny_bundle, "--webhook", address)
    server.shutdown()
    assert done.returncode == 0 and [each["text"] for each in got] == TEXTS


def test_several_sources_take_turns(make_video: MakeVideo, tiny_bundle: Path, tmp_path: Path) -> None:
    one, other = make_video([(RED, 3), (BLUE, 3)], name="a.avi"), make_video([(GREEN, 3)], name="b.avi")
    log = tmp_path / "log.jsonl"
    done = vlj_edge("narrate", f"door={one}", f"hall={other}", "--bundle", tiny_bundle, "--log", log, "--json")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    said = [(line["source"], line["text"]) for line in lines if "text" in line]
    assert sorted(said) == [("door", "a red screen"), ("door", "blue"), ("hall", "green light glows")]
    assert [line["totals"]["source"] for line in lines if "totals" in line] == ["door", "hall"]
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(logged) == 3
    alone = run_here("narrate", one, "--bundle", tiny_bundle, "--json").stdout.splitlines()
    for line, like in ((alone[0], lines[0]), (alone[-1], lines[-1])):
        assert json.loads(line).keys() == like.keys(), "one source and several have the same fields"
    assert json.loads(alone[-1])["totals"].keys() == lines[-1]["totals"].keys()
    assert all(line.keys() == lines[0].keys() for line in logged)
    ends = {(line["source"], line["text"]): line["event_end"] for line in lines if "text" in line}
    assert ends["door", "blue"] == 6.0 and ends["hall", "green light glows"] == 3.0
    plain = vlj_edge("narrate", f"door={one}", tmp_path / "none.mp4", "--bundle", tiny_bundle)
    assert plain.returncode == 1 and "a red screen" in plain.stdout
    assert "none.mp4 does not exist" in plain.stderr and "1 of 2 sources" in plain.stderr


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (("--mqtt", "http://host/x"), 2, "mqtt"),
        (("--webhook", "ftp://host/x"), 2, "ftp"),
        (("--say", "'espeak"), 2, "'espeak"),
        (("--say", "no-such-command-here"), 1, "no-such-command-here"),
        (("--log", "/no/such/folder/x"), 1, "/no/such/folder/x"),
        (("--record", "/no/such/folder/x.mp4"), 1, "/no/such/folder"),
    ],
)
def test_sinks_that_cannot_be_opened(
    video: Path, tiny_bundle: Path, options: tuple[str, ...], code: int, expected: str
) -> None:
    done = run_here("narrate", video, "--bundle", tiny_bundle, *options)
    assert done.returncode == code and expected in done.stderr and done.stdout == "" and "Traceback" not in done.stderr


def test_a_source_may_not_be_written_over(video: Path, tiny_bundle: Path) -> None:
    for option in ("--log", "--vtt"):
        done = run_here("narrate", video, "--bundle", tiny_bundle, option, video)
        assert done.returncode == 2 and str(video) in done.stderr
