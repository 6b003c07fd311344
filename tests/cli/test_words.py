"""vlj-edge narrate --words: texts from a model behind a chat endpoint."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import run_here, start
from tests.runtime.words.endpoints import Answer, FakeEndpoint, completion, endpoint
from tests.waiting import free_port, wait_for
from vlj_edge.cli.words_options import words_settings

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"
KEY = "sk-never-shown-42"


@pytest.fixture
def server() -> Iterator[FakeEndpoint]:
    numbers = itertools.count(1)
    usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    with endpoint(lambda request: Answer(completion(f"scene {next(numbers)}", usage))) as found:
        yield found


def narrate(*arguments: str) -> tuple[int, list[str], str]:
    done = run_here("narrate", str(DEMO), "--duration", "16", *arguments)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_recording_is_narrated_in_the_words_of_the_endpoint(server: FakeEndpoint) -> None:
    code, lines, _ = narrate("--words", server.url, "--words-model", "tiny", "--frames", "3", "--frame-size", "128")
    assert code == 0
    texts = [line.split("s  ", 1)[1] for line in lines[:-1]]
    assert texts == [f"scene {number}" for number in range(1, len(lines))]
    assert f"{len(server.got)} calls" in lines[-1] and f"{100 * len(server.got)} tokens" in lines[-1]
    assert all(len(request.parts) <= 4 and request.body["model"] == "tiny" for request in server.got)


def test_json_has_the_words_and_their_cost(server: FakeEndpoint) -> None:
    code, lines, _ = narrate("--words", server.url, "--json")
    *events, last = map(json.loads, lines)
    assert code == 0 and [event["origin"] for event in events] == ["words"] * len(server.got)
    assert not any("stand_in" in event or "data" in event for event in events)
    totals = last["totals"]
    assert totals["calls"] == len(server.got) == totals["call_tokens"] // 100
    assert totals["calls_saved"] == round(totals["windows"] / totals["calls"], 3)


def test_a_limit_leaves_the_smallest_changes_to_the_bundle(server: FakeEndpoint) -> None:
    code, lines, _ = narrate("--words", server.url, "--json", "--calls-per-hour", "1")
    *events, last = map(json.loads, lines)
    assert code == 0 and len(server.got) == last["totals"]["calls"] < last["totals"]["calls_left_out"] + 3
    assert {event.get("stand_in", False) for event in events} == {True, False}
    assert all(event["origin"] == "decoder" for event in events if event.get("stand_in"))


def test_without_the_endpoint_the_bundles_own_texts_stand_in() -> None:
    url = f"http://me:secret@127.0.0.1:{free_port()}/v1"
    code, lines, errors = narrate("--words", url, "--words-timeout", "50ms")
    assert code == 1 and all(line.endswith("(stands in)") for line in lines[:-1]) and "failed" in lines[-1]
    assert errors.count("no words from") == 1 and "secret" not in errors + "".join(lines)
    assert "no call for words got an answer" in errors.splitlines()[-1] and len(lines) > 2


def test_the_key_comes_from_a_file_or_the_environment(
    server: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    server.answers = [Answer({"error": {"message": f"wrong key {KEY}"}}, 401)] * 50
    code, lines, errors = narrate("--words", server.url, "--words-key-file", str(file))
    assert code == 1 and "401" in errors and KEY not in errors + "".join(lines)
    assert server.got[0].headers["Authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("VLJ_EDGE_WORDS_KEY", "another-key")
    narrate("--words", server.url)
    assert server.got[-1].headers["Authorization"] == "Bearer another-key"


def test_a_prompt_may_be_a_file(server: FakeEndpoint, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Who is at {camera}?\n")
    run_here("narrate", f"door={DEMO}", "--duration", "4", "--words", server.url, "--prompt", str(file))
    assert server.got[0].text == "Who is at door?"
    file.write_bytes(b"\xef\xbb\xbfWer ist es?\r\n")  # as an editor of Windows writes it
    run_here("narrate", DEMO, "--duration", "4", "--words", server.url, "--prompt", str(file))
    assert server.got[-1].text == "Wer ist es?"
    narrate("--words", server.url, "--prompt", "Count the cats.")
    assert server.got[-1].text == "Count the cats."


def test_answers_in_json_are_checked_and_passed_on(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}')
    texts = itertools.cycle(['{"open": true}', '{"open": 1}', '{"open": false}'])
    with endpoint(lambda request: Answer(completion(next(texts)))) as server:
        code, lines, errors = narrate("--words", server.url, "--words-schema", str(schema), "--json")
    events = [json.loads(line) for line in lines[:-1]]
    assert code == 0 and events[0]["data"] == {"open": True}
    assert json.loads(events[0]["text"]) == {"open": True} and "open" in errors
    assert all(event.get("stand_in") for event in events if "data" not in event)


@pytest.mark.parametrize("kind", ["--out", "several"])
def test_several_recordings_are_narrated_so(server: FakeEndpoint, tmp_path: Path, kind: str) -> None:
    if kind == "several":
        done = run_here("narrate", f"a={DEMO}", f"b={DEMO}", "--duration", "6", "--json", "--words", server.url)
        totals = [json.loads(line)["totals"] for line in done.stdout.splitlines() if '"totals"' in line]
        assert done.returncode == 0 and sum(each["calls"] for each in totals) == len(server.got) > 1
        return
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).symlink_to(DEMO)
    out = tmp_path / "out"
    videos = (tmp_path / "a.mp4", tmp_path / "b.mp4")
    done = run_here("narrate", *videos, "--out", out, "--duration", "6", "--words", server.url)
    assert done.returncode == 0
    assert "scene 1\n" in (out / "a.srt").read_text() and f"scene {len(server.got)}\n" in (out / "b.srt").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("--words-model", "m"), 2, "--words"),
        (("--calls-per-hour", "3"), 2, "--words"),
        (("--words", "localhost"), 2, "http://"),
        (("--words", "http://me:secret@host:x/v1"), 2, "port"),
        (("--words", "http://h/v1", "--frames", "0"), 2, "--frames"),
        (("--words", "http://h/v1", "--words-timeout", "soon"), 2, "--words-timeout"),
        (("--words", "http://h/v1", "--words-timeout", "0"), 2, "answer"),
        (("--words", "http://h/v1", "--words-key-file", "missing"), 1, "missing"),
        (("--words", "http://h/v1", "--words-key-file", "/dev/zero"), 1, "/dev/zero"),
        (("--words", "http://h/v1", "--words-schema", "missing.json"), 1, "missing.json"),
        (("--words", "http://h/v1", "--prompt", " "), 2, "--prompt is empty"),
        (("--words", "http://h/v1", "--prompt", ""), 2, "--prompt is empty"),
        (("--words", "http://h/v1", "--prompt", "Who is at {door}?"), 2, "{camera}, {last}, {nearest}, {seconds}"),
        (("--words", "http://h/v1", "--prompt", "At { camera }"), 2, "{ camera }"),
        (("--words", "http://h/v1", "--prompt", "@prompts/hall"), 1, "--prompt: prompts/hall"),
        (("--words", "http://h/v1", "--prompt", "hall.tmpl"), 1, "hall.tmpl"),
        (("--words", "http://h/v1", "--prompt", "@my prompt.txt"), 1, "my prompt.txt"),
        (("--words", "http://h/v1", "--prompt", sys.executable), 1, "--prompt: "),
        (("--words", "http://h/v1", "--prompt", "prompts/missing.txt"), 1, "missing.txt"),
        (("--words", "http://h/v1", "--prompt", "./missing"), 1, "missing"),
        (("--words", "http://h/v1", "--prompt", "/dev/zero"), 1, "/dev/zero"),
        (("--words", "http://h/v1", "--prompt", str(DEMO.parent)), 1, "folder"),
        (("--words", "http://h/v1", "--prompt", str(DEMO)), 1, "100 kB"),
        (("--words", "http://h/v1", "--words-schema", str(DEMO)), 1, "100 kB"),
        (("--words", "http://h/v1", "--words-schema", str(DEMO.parent)), 2, "director"),
        (("--words", "http://h/v1", "--words-key-file", str(DEMO.parent)), 2, "director"),
        (("--words", "http://h/v1", "--words-key-file", str(DEMO)), 1, DEMO.name),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments: tuple[str, ...], code: int, why: str) -> None:
    found, lines, errors = narrate(*arguments)
    assert found == code and why in errors and "Traceback" not in errors and "secret" not in errors and not lines


def test_the_key_cannot_be_an_argument() -> None:
    for name in ("--words-key", "--key"):
        code, _, errors = narrate("--words", "http://h/v1", name, KEY)
        assert code == 2 and "such option" in errors.lower()


def test_a_silent_endpoint_costs_its_time_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = run_here("narrate", DEMO, "--duration", "4", "--words", url, "--words-timeout", "100ms")
    assert done.returncode == 1 and "within 0.1 s" in done.stderr


@pytest.mark.parametrize("kind", ["--out", "several"])
def test_the_exit_code_says_that_no_call_of_several_sources_was_answered(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.mp4").symlink_to(DEMO)
    (tmp_path / "b.mp4").symlink_to(DEMO)
    out = tmp_path / "out"
    a, b = (tmp_path / "a.mp4", tmp_path / "b.mp4") if kind == "--out" else (f"a={DEMO}", f"b={DEMO}")
    options = ("--duration", "6", *(("--out", out) if kind == "--out" else ()))
    with endpoint(lambda request: Answer(b"no", 400)) as server:
        done = run_here("narrate", a, b, "--words", server.url, *options)
        assert done.returncode == 1 and "no call for words got an answer" in done.stderr.splitlines()[-1]
        assert "-->" in (out / "b.srt").read_text() if kind == "--out" else "(stands in)" in done.stdout
        server.answers = [Answer(completion("a cat"))]
        again = "--overwrite" if kind == "--out" else "--json"
        assert run_here("narrate", a, b, "--words", server.url, *options, again).returncode == 0


def test_a_limit_that_nobody_set_names_the_option_and_the_source(caplog: pytest.LogCaptureFixture) -> None:
    asked = words_settings({"words": "http://127.0.0.1:9/v1"})
    assert asked is not None
    words = asked.words("hall.mp4")
    words.begin(live=True, endless=True)
    refusals = [words.take_call(0.0, 0.0, np.eye(8, dtype=np.float32)[number]) for number in range(8)]
    assert refusals[-1] is not None
    words.leave_out(refusals[-1])
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("hall.mp4: ") and "30 times" in line and "--calls-per-hour" in line


@pytest.mark.slow
@pytest.mark.parametrize("answer", [Answer(wait=200), Answer(status=503), Answer(b"x", drip=0.1)])
def test_ctrl_c_ends_a_call(answer: Answer) -> None:
    with endpoint(lambda request: answer) as server:
        child = start("narrate", DEMO, "--words", server.url, "--words-timeout", "200s")
        wait_for(lambda: server.got)
        child.send_signal(signal.SIGINT)
        found, errors = child.communicate(timeout=100)
    assert "1 call for words" in found and "1 cut off" in found
    assert child.returncode == 130 and "Traceback" not in errors and "no words" not in errors
