"""vlj-edge serve as a service: it starts, reads its file again on SIGHUP, and ends without losing a caption."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, error_of, run_here, vlj_edge
from tests.runtime.sinks.servers import server
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.waiting import free_port
from vlj_edge import VljEdgeError
from vlj_edge.cli.serve import _log_backend as log_backend
from vlj_edge.runtime.engines.select import SelectedBackend

TOKEN = "a-token-of-this-test"


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *arguments: str | Path, port: int | None = None, **environment: str) -> None:
        self.port = free_port() if port is None else port
        command = [*COMMAND, "serve", *map(str, arguments), "--port", str(self.port)]
        self.errors = folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(command, stderr=errors, env={**os.environ, **environment}, cwd=folder)

    def get(self, path: str, token: str | None = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.read()

    def send(self, method: str, path: str, **content: Any) -> Any:
        data, headers = json.dumps(content).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/api/state"))
        return found

    def wait(self, true: Callable[[], Any], seconds: float = 120) -> Any:
        until = time.monotonic() + seconds
        while True:
            try:
                found = true()
            except (OSError, KeyError):
                found = None
            if found:
                return found
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < until, self.errors.read_text()
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(*arguments: str | Path, port: int | None = None, **environment: str) -> Served:
        running.append(Served(tmp_path, *arguments, port=port, **environment))
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.wait()


def sources_of(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {source["name"]: source for source in state["sources"]}


@pytest.fixture
def films(make_video: Callable[..., Path]) -> dict[str, Path]:
    return {
        "a": make_video([(RED, 3), (BLUE, 3)], name="a.avi"),
        "b": make_video([(GREEN, 4)], name="b.avi"),
    }


def test_it_serves_reads_its_file_again_and_ends(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    config, log, moved = tmp_path / "serve.toml", tmp_path / "texts.jsonl", tmp_path / "texts.jsonl-20261128"
    begin = f'bundle = "{tiny_bundle}"\nbackend = "onnxruntime"\nthreads = 1\nlog = "{log}"\n'
    one = f'[[source]]\nname = "a"\nuri = "{films["a"]}"\n'
    config.write_text(begin + one)
    served = serve("--config", config)
    served.wait(lambda: served.get("/healthz"))
    served.wait(lambda: sources_of(served.state())["a"]["counts"]["events"] == 2)
    assert b"<html" in served.get("/") and "ONNX Runtime" in served.state()["backend"]
    assert "(as requested)" in served.errors.read_text()

    log.rename(moved)  # as logrotate does
    config.write_text(begin + one + f'[[source]]\nname = "b"\nuri = "{films["b"]}"\nquery = "what colour is it"\n')
    served.process.send_signal(signal.SIGHUP)
    served.wait(lambda: sources_of(served.state())["b"]["counts"]["events"] == 1)
    config.write_text("port = 'x'")
    served.process.send_signal(signal.SIGHUP)
    served.wait(lambda: "serve.toml" in served.errors.read_text())
    assert sources_of(served.state()).keys() == {"a", "b"}, "a mistake changes nothing"

    assert served.end() == 0
    before, after = ([json.loads(line) for line in path.read_text().splitlines()] for path in (moved, log))
    assert [(line["source"], line["number"]) for line in before] == [("a", 1), ("a", 2)]
    assert [(line["source"], line["number"]) for line in after] == [("b", 1)]
    assert len({line["id"] for line in (*before, *after)}) == 3
    assert "Traceback" not in served.errors.read_text()


def test_what_models_run_on_is_chosen_as_in_other_commands(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, engines, asked = tmp_path / "serve.toml", tmp_path / "engines", list[Any]()
    engines.mkdir()
    in_file = f'bundle = "{tiny_bundle}"\nbackend = "tensorrt"\nengines = "{engines}"\nthreads = 3\n'
    source = '[[source]]\nname = "a"\nuri = "0"\n'

    def load(*arguments: Any, **_: Any) -> None:
        asked.append(arguments)
        raise VljEdgeError("it is not loaded here: this is a test")

    monkeypatch.setattr("vlj_edge.runtime.model.Model", load)
    config.write_text(in_file + source)
    for given, expected in (
        ((), ("tensorrt", 3, engines)),
        (("--backend", "onnxruntime", "--threads", "1"), ("onnxruntime", 1, engines)),
    ):
        assert "not loaded" in error_of(run_here("serve", "--config", config, *given))
        assert asked.pop() == (tiny_bundle, *expected)
    for wrong, named in (('backend = "abacus"', "line 1"), ("threads = 0", "line 1"), ('engines = "none"', "none")):
        config.write_text(f"{wrong}\n{source}")
        assert named in error_of(run_here("serve", "--config", config)) and not asked


def test_what_is_wrong_with_one_source_is_said_before_anything_starts(
    films: dict[str, Path], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("vlj_edge.cli.serve.serve_until_stopped")  # it would not return
    config, log, profile = tmp_path / "serve.toml", tmp_path / "texts.jsonl", tmp_path / "saved.json"
    begin = f'bundle = "{tiny_bundle}"\nlog = "{log}"\nprofile = "{profile}"\n'
    begin += f'[[source]]\nname = "good"\nuri = "{films["a"]}"\n[[source]]\nname = "door"\nuri = "{films["b"]}"\n'
    long = "long " * 500
    for wrong, named in (
        ('labels = ["red", "red"]', "'red'"),
        (f'labels = ["red", "{long}"]', "long long"),
        (f'query = "{long}"', "long long"),
        ("[source.gates.meaning]\nspeak_below = 3", "speak_below"),
    ):
        config.write_text(f"{begin}{wrong}\n")
        line = error_of(run_here("serve", "--config", config, "--port", "0"))
        assert named in line and ("door" in line or "line" in line), line
    config.write_text(begin)
    profile.write_text('{"door": {"labels": ["red", "red"]}}')
    assert "door: the label 'red'" in error_of(run_here("serve", "--config", config, "--port", "0"))
    assert not log.exists()


def test_what_is_wrong_in_a_file_that_is_read_again_changes_nothing_and_the_newest_file_counts(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    config, saved = tmp_path / "serve.toml", tmp_path / "saved.json"
    begin = f'bundle = "{tiny_bundle}"\nprofile = "{saved}"\n'
    begin += f'[[source]]\nname = "a"\nuri = "{films["a"]}"\nloop = true\n'
    config.write_text(f'{begin}labels = ["red", "blue"]\n')
    served = serve("--config", config)
    hang_up = partial(served.process.send_signal, signal.SIGHUP)
    served.wait(lambda: served.get("/healthz"))

    for times, wrong in enumerate(('labels = ["red", "red"]', "labels = 3", 'query = " "', 'uri = "x"'), 1):
        config.write_text(f"{begin}{wrong}\n")
        hang_up()
        served.wait(lambda times=times: served.errors.read_text().count("were not read again: ") == times)
    config.write_text("")
    hang_up()
    served.wait(lambda: "serve.toml names no source" in served.errors.read_text())
    assert sources_of(served.state())["a"]["labels"] == ["red", "blue"]

    for query in ("describe", "what colour is it", "describe", "what colour is it"):
        config.write_text(f'query = "{query}"\nlog = "x.jsonl"\n{begin}labels = ["green", "red"]\n')
        hang_up()
    served.wait(lambda: sources_of(served.state())["a"]["query"] == "what colour is it")
    [found] = served.state()["sources"]
    assert found["labels"] == ["green", "red"]
    assert "log changes with the next start" in served.errors.read_text() and not (tmp_path / "x.jsonl").exists()

    def removed() -> bool:
        served.send("PUT", "/api/sources/a/settings", labels=[])
        served.send("POST", "/api/settings/save")  # one of the four signals may come between the two
        return bool(json.loads(saved.read_text()).get("a", {}).get("labels") == [])

    served.wait(removed)
    config.write_text(f'query = "describe"\n{begin}labels = ["green", "red"]\n')
    hang_up()
    served.wait(lambda: sources_of(served.state())["a"]["query"] == "describe")
    assert served.state()["sources"][0]["labels"] == [], "what was removed and saved stays removed"
    assert served.end() == 0 and "Traceback" not in served.errors.read_text()


def test_a_token_guards_it(serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path) -> None:
    served = serve(films["a"], "--bundle", tiny_bundle, "--log-format", "json", VLJ_EDGE_TOKEN=TOKEN)
    served.wait(lambda: served.get("/healthz"))
    for token in (None, "wrong", TOKEN[:-1]):
        with pytest.raises(urllib.error.HTTPError) as refused:
            served.get("/api/state", token)
        assert refused.value.code == 401
    assert served.get("/api/state", TOKEN)
    assert served.end(signal.SIGINT) in (0, 130)
    assert all(json.loads(line)["message"] for line in served.errors.read_text().splitlines() if line.startswith("{"))
    assert TOKEN not in served.errors.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ((), 2, "SOURCE"),
        (("0", "--host", "0.0.0.0"), 2, "--token-file"),
        (("0", "--token", "short"), 2, "16 characters"),
        (("0", "--allowed-host", "https://edge.example"), 2, "--allowed-host https://edge.example"),
        (("0", "--allowed-host", "*"), 2, "--token-file"),
        (("0", "--trusted-proxy", "edge.example"), 2, "--trusted-proxy edge.example"),
        (("--config", "none.toml"), 1, "none.toml"),
        (("0", "--store", "/proc/none"), 1, "/proc/none"),
        (("0", "--backend", "abacus"), 2, "abacus"),
        (("0", "--backend", "onnxruntime", "--engines", "."), 2, "--engines"),
        (("0", "--threads", "0"), 2, "--threads"),
        (("0", "0"), 2, "'0'"),
        (("0", "--host", "192.0.2.1", "--token", TOKEN), 1, "192.0.2.1"),
        (("door=0", "hall=nope://c"), 2, "hall: nope://c"),
        (("hall=rtsp://${NOT_SET_HERE}@camera/1",), 1, "export NOT_SET_HERE"),
        (("hall=rtsp://camera/1", "--start", "5"), 2, "hall: rtsp://camera/1 is live"),
        (("hall=-", "--loop"), 2, "hall: - can be read only once"),
    ],
)
def test_wrong_calls_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, named: str
) -> None:
    monkeypatch.delattr("vlj_edge.cli.serve.serve_until_stopped")  # it would not return
    monkeypatch.chdir(tmp_path)
    done = run_here("serve", *arguments)
    assert done.returncode == code and named in done.stderr and "Traceback" not in done.stderr


def test_without_a_source_that_can_be_read_it_ends(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("no video")
    for sources, named in (
        (("nope=nope.mp4",), "nope.mp4 does not exist"),
        (("a=nope.mp4", "b=there.txt"), "ffmpeg -i there.txt"),
    ):
        done = vlj_edge("serve", *sources, "--port", "0", cwd=tmp_path)
        assert done.returncode == 1 and named in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_one_line(films: dict[str, Path], tiny_bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, log = str(taken.getsockname()[1]), tmp_path / "texts.jsonl"
        arguments = ("--port", port, "--log", log, "--mqtt", f"mqtt://127.0.0.1:{port}/edge")
        assert port in error_of(vlj_edge("serve", films["a"], "--bundle", tiny_bundle, *arguments))
        taken.settimeout(0.5)
        with pytest.raises(TimeoutError):
            taken.accept()
        assert not log.exists(), "nothing was opened or told before"


def test_a_backend_that_is_slower_than_it_could_be_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    why, remedy = "there are no TensorRT engines for this card", "TensorRT works here: run vlj-edge build"
    log_backend(SelectedBackend("onnxruntime", "ONNX Runtime on the CPU", why, remedy))
    [line] = caplog.records
    assert line.levelname == "WARNING" and "\n" not in line.getMessage()
    assert all(part in line.getMessage() for part in ("ONNX Runtime on the CPU", why, remedy))


def test_when_it_says_that_it_is_ready_it_listens_and_its_sources_are_started(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(120)
        served = serve(films["a"], "--bundle", tiny_bundle, NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert systemd.recv(100) == b"READY=1"
        assert json.loads(served.get("/healthz"))["status"] == "ok", "at once"
        assert all(source["state"] for source in served.state()["sources"])
        assert served.end() == 0 and systemd.recv(100) == b"STOPPING=1"


def test_texts_that_were_lost_are_in_its_exit_code(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def refuse(connection: socket.socket, stopping: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(refusal)
        connection.close()

    log = tmp_path / "texts.jsonl"
    with server(refuse) as port:
        address = f"http://127.0.0.1:{port}/texts"
        options = ("--webhook", address, "--log", log, "--log-format", "json")
        served = serve(films["a"], "--bundle", tiny_bundle, *options)
        served.wait(lambda: served.state()["sinks"][1]["missed"] >= 1 and log.read_text())
        lost = served.state()["sinks"][1]["missed"]
        assert served.end() == 1
    *lines, last = served.errors.read_text().splitlines()
    found = re.fullmatch(r"error: texts were not delivered \((\d+)\): .*", last)
    assert found is not None and int(found[1]) >= lost
    told = [json.loads(line)["message"] for line in lines]
    assert any(line.startswith(f"webhook missed {found[1]} of the texts: HTTP 400") for line in told)
    assert not any(line.startswith("log missed") for line in told)


def test_all_lines_of_the_log_have_its_format(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path
) -> None:
    served = serve(films["a"], "--bundle", tiny_bundle, "--log-format", "json", "-v")
    served.wait(lambda: sources_of(served.state()))
    served.wait(lambda: "decoded by" in served.errors.read_text())
    assert served.end() == 0
    lines = [json.loads(line) for line in served.errors.read_text().splitlines()]
    assert any("a.avi is decoded by" in line["message"] for line in lines)
    assert sum("backend" in line["message"] for line in lines) == 1
    assert any(line.get("source") and line.get("state") == "live" for line in lines)


def test_the_log_says_which_camera_is_not_there_and_why_once(serve: Callable[..., Served], tiny_bundle: Path) -> None:
    port = free_port()
    served = serve(f"door=http://me:secret@127.0.0.1:{port}/x", "--bundle", tiny_bundle)
    served.wait(lambda: "door: " in served.errors.read_text())
    time.sleep(1)  # it is tried again meanwhile
    assert served.end() == 0
    text = served.errors.read_text()
    assert text.count("door: ") == 1 and "refused" in text and "secret" not in text


def test_a_missing_file_is_reported_and_the_others_are_served(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path
) -> None:
    served = serve("lost=nope.mp4", f"a={films['a']}", "--bundle", tiny_bundle)
    served.wait(lambda: sources_of(served.state())["a"]["counts"]["events"] >= 1)
    [line] = [line for line in served.errors.read_text().splitlines() if "lost" in line]
    assert "nope.mp4 does not exist" in line
    assert served.end() == 0


def test_a_mistake_in_a_file_that_is_read_again_ends_no_service(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    config = tmp_path / "serve.toml"
    text = f'bundle = "{tiny_bundle}"\n[[source]]\nname = "a"\nuri = "{films["a"]}"\n'
    config.write_text(text)
    served = serve("--config", config)
    served.wait(lambda: sources_of(served.state())["a"]["counts"]["events"] >= 1)
    config.write_text(text.replace("a.avi", "nope.avi"))
    served.process.send_signal(signal.SIGHUP)
    served.wait(lambda: "nope.avi does not exist" in served.errors.read_text())
    [found] = served.state()["sources"]
    assert found["state"] == "waiting" and "nope.avi" in found["error"]
    health = json.loads(served.get("/healthz"))
    assert health["status"] == "ok" and "nope.avi" in health["waits"]["a"]
    films["a"].rename(films["a"].with_name("nope.avi"))
    served.wait(lambda: sources_of(served.state())["a"]["counts"]["events"] >= 1)
    assert "waits" not in json.loads(served.get("/healthz"))
    assert served.end() == 0


def test_a_free_port_is_told(serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path) -> None:
    served = serve(films["a"], "--bundle", tiny_bundle, port=0)
    served.wait(lambda: re.search(r"http://127.0.0.1:[1-9]", served.errors.read_text()))
    served.port = int(served.errors.read_text().rpartition("http://127.0.0.1:")[2].split()[0])
    assert served.get("/healthz")
    assert served.end() == 0


def test_what_the_gates_learned_is_there_after_a_restart(
    serve: Callable[..., Served], films: dict[str, Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    learned = tmp_path / "learned.json"
    learned.write_bytes(b"\x80\x04 no JSON")
    command = (f"a={films['a']}", "--loop", "--bundle", tiny_bundle, "--learned", learned)

    def pictures(served: Served) -> int:
        found: int = json.loads(served.get("/api/sources/a/gates"))["noise"]["pictures"]
        return found

    first = serve(*command)
    first.wait(lambda: pictures(first) > 5)
    assert first.end() == 0
    assert first.errors.read_text().count("learned.json") == 1 and "Traceback" not in first.errors.read_text()
    kept = json.loads(learned.read_text())["sources"]["a"]["seen"]
    assert kept > 5
    second = serve(*command)
    assert second.wait(lambda: pictures(second)) >= kept
    assert second.end() == 0
    assert "learned.json" not in second.errors.read_text()
