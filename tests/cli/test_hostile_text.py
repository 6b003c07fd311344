"""What a terminal obeys never reaches it, from names of files, labels, questions, manifests, texts, logs, arguments."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, run_here
from vlj_edge.cli.group import cli
from vlj_edge.cli.say import JsonLogLines, LogLines, say, stderr_console, stdout_console, tell
from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.console import plain_line

ROOT = Path(__file__).parents[2]
# Colours, a title, clear the screen, by 7-bit and by 8-bit controls; a line of its own; reversed; not UTF-8.
EVIL = "x\x1b[31m\x1b]0;t\x07\x9b2J\nFAKE line\r\u202eevil\u2066\x7f\x00"
NAME = os.fsdecode("x\x1b[31m\x9b2J\nFAKE line\r\u202eevil\u2066\x7f".encode() + b"\xff")
LABEL = "red\x1b[31m\x07\x9b\u202e\x7f"  # short enough for the tiny bundle


def check(text: str) -> None:
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith("FAKE"), repr(text)


@pytest.fixture
def folder(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a video, a broken one and labels of hostile names, which is the current one."""
    shutil.copy(video, tmp_path / f"{NAME}.avi")
    (tmp_path / f"{NAME}-broken.avi").write_bytes(video.read_bytes()[:9000])
    (tmp_path / "labels").write_text(f"{LABEL}\ngreen\n", encoding="utf-8")
    (tmp_path / "by class" / LABEL).mkdir(parents=True)
    shutil.copy(video, tmp_path / "by class" / LABEL / f"{NAME}.avi")
    (tmp_path / "by class" / LABEL / f"{NAME}-broken.avi").write_bytes(video.read_bytes()[:9000])
    (tmp_path / f"{NAME}.csv").write_text(f'video,text,"{LABEL}\n"\n{LABEL}.avi,{LABEL},1\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


GOOD, BROKEN = f"{NAME}.avi", f"{NAME}-broken.avi"
CALLS: dict[str, list[str]] = {
    "narrate": ["narrate", GOOD],
    "narrate json": ["narrate", GOOD, "--json"],
    "narrate several": ["narrate", GOOD, BROKEN],
    "narrate several json": ["narrate", GOOD, BROKEN, "--json"],
    "narrate named": ["narrate", f"{NAME.replace('.', '')}={GOOD}", GOOD],
    "narrate broken": ["narrate", BROKEN],
    "narrate files": ["narrate", GOOD, BROKEN, "--out", NAME],
    "narrate files again": ["narrate", GOOD, "--out", ".", "--format", "txt"],
    "record": ["narrate", GOOD, "--record", f"{NAME}.mp4"],
    "record in no folder": ["narrate", GOOD, "--record", f"none/{NAME}.mp4"],
    "srt in no folder": ["narrate", GOOD, "--srt", f"none/{NAME}"],
    "say": ["narrate", GOOD, "--say", f"false {NAME!r}"],
    "verbose": ["narrate", GOOD, "-v"],
    "embed": ["embed", GOOD],
    "embed broken": ["embed", BROKEN],
    "embed ring": ["embed", GOOD, "--ring", GOOD.replace("avi", "ring")],
    "embed form": ["embed", GOOD, "--ring", "r", "--form", EVIL],
    "classify": ["classify", GOOD, "--labels", "labels"],
    "classify json": ["classify", GOOD, "--labels", "labels", "--json"],
    "classify stream": ["classify", GOOD, "--labels", "labels", "--stream"],
    "classify several": ["classify", GOOD, BROKEN, "--labels", "labels"],
    "classify folder json": ["classify", ".", "--labels", "labels", "--json"],
    "classify twice": ["classify", GOOD, "--labels", f"{EVIL},{EVIL}"],
    "classify bank": ["classify", GOOD, "--bank", GOOD],
    "template": ["classify", GOOD, "--labels", "labels", "--template", EVIL],
    "ask": ["ask", GOOD, LABEL, "--choices", f"red,{LABEL}"],
    "ask too much": ["ask", GOOD, EVIL, "--choices", f"red,{EVIL}"],
    "ask several": ["ask", GOOD, LABEL, "what?", "--choices", f"red,{LABEL}"],
    "ask json": ["ask", GOOD, LABEL, "--choices", f"red,{LABEL}", "--json"],
    "labels": ["labels", "labels", "--out", NAME],
    "labels missing": ["labels", f"{NAME}.txt", "--out", "x"],
    "index": ["index", ".", "--store", "store"],
    "narrate explain": ["narrate", GOOD, "--explain"],
    "calibrate": ["calibrate", f"none/{NAME}"],
    "eval": ["eval", "by class", "--md", f"{NAME}.md"],
    "eval json": ["eval", "by class", "--json"],
    "eval table": ["eval", f"{NAME}.csv"],
    "eval missing": ["eval", f"none/{NAME}.csv"],
    "alerts": ["alerts", "test", GOOD, "--config", NAME, "--alert", EVIL],
    "index missing": ["index", f"none/{NAME}", "--store", "store"],
    "search": ["search", "red", "--store", "store"],
    "search json": ["search", "red", "--store", "store", "--json"],
    "search pictures": ["search", "red", "--store", "store", "--thumbnails", NAME, "--cut", f"{NAME}2"],
    "search similar": ["search", "--similar", f"{GOOD}@1", "--store", "store"],
    "search nowhere": ["search", "red", "--store", NAME],
    "search place": ["search", "--similar", EVIL, "--store", "store"],
    "backend": ["narrate", GOOD, "--backend", EVIL],
    "time": ["narrate", GOOD, "--start", EVIL],
    "choice": ["embed", GOOD, "--format", EVIL],
    "option": ["embed", GOOD, f"--{EVIL}"],
    "command": [EVIL],
    "extra": ["embed", GOOD, EVIL],
    "missing": ["narrate", f"none/{NAME}"],
    "address": ["narrate", f"http://127.0.0.1:9/{EVIL}"],
    "pipeline": ["narrate", f"gst:{EVIL}"],
    "mqtt": ["narrate", GOOD, "--mqtt", f"mqtt://{EVIL}/x?"],
    "webhook": ["narrate", GOOD, "--webhook", f"http://{EVIL}/x"],
    "bundle": ["inspect", NAME],
    "verify nothing": ["verify", NAME],
    "preset": ["export", "--preset", EVIL],
    "target": ["export", "--target", EVIL],
    "precision": ["export", "--precision", EVIL],
    "models": ["models", EVIL],
    "build": ["build", "--target", EVIL],
    "tune": ["tune", NAME],
    "profile": ["profile", f"none/{NAME}"],
    "profile page": ["profile", GOOD, "--html", f"none/{NAME}"],
    "config": ["serve", "--config", NAME],
    "token": ["serve", "0", "--host", EVIL],
}
WITHOUT_BUNDLE = ("inspect", "verify", "export", "models", "build", "tune", "profile")
SUBCOMMANDS = {call[0] for call in CALLS.values()} - {EVIL}


def test_every_command_is_in_the_table() -> None:
    assert set(cli.commands) <= SUBCOMMANDS


def with_bundle(call: list[str], bundle: Path) -> list[str]:
    if call[0] in WITHOUT_BUNDLE or call[0] not in cli.commands:
        return call
    return [*call, "--bundle", str(bundle)]


@pytest.mark.parametrize("name", CALLS)
def test_no_command_passes_on_what_a_terminal_obeys(name: str, folder: Path, tiny_bundle: Path) -> None:
    call = CALLS[name]
    if call[0] in ("index", "search"):
        pytest.importorskip("lancedb")
    if call[0] == "search" and "store" in call:
        run_here("index", ".", "--store", "store", "--bundle", tiny_bundle)
    done = run_here(*with_bundle(call, tiny_bundle))
    check(done.stdout)
    check(done.stderr)
    assert "Traceback" not in done.stderr and done.stdout + done.stderr
    done.stdout.encode(), done.stderr.encode()  # no lone surrogates
    if name.endswith("json") and done.returncode != 2:
        assert done.stdout and all(json.loads(line) for line in done.stdout.splitlines())


def test_json_is_exact(folder: Path, tiny_bundle: Path) -> None:
    pytest.importorskip("lancedb")
    done = run_here("classify", ".", "--labels", "labels", "--json", "--bundle", tiny_bundle)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert os.path.exists(lines[0]["source"])
    run_here("index", ".", "--store", "store", "--bundle", tiny_bundle)
    found = run_here("search", "red", "--store", "store", "--json", "--bundle", tiny_bundle).stdout
    assert os.path.exists(json.loads(found.splitlines()[0])["file"])


def test_a_wrong_level_of_the_log_is_one_line(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    monkeypatch.setenv("VLJ_EDGE_LOG", EVIL.replace("\0", ""))
    done = run_here("serve", "0", "--bundle", tiny_bundle)
    assert done.returncode == 2 and "VLJ_EDGE_LOG" in done.stderr
    check(done.stderr)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_is_exact_in_any_encoding(encoding: str, video: Path, tiny_bundle: Path) -> None:
    labels = "caf\u00e9 \U0001f680,red"
    call = ["classify", str(video), "--labels", labels, "--json", "--top", "2", "--bundle", str(tiny_bundle)]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([*COMMAND, *call], env=environment, capture_output=True, check=True)
    assert "caf\u00e9 \U0001f680" in [guess["label"] for guess in json.loads(done.stdout)["guesses"]]


PLACES: list[tuple[str, ...]] = [
    ("preset",),
    ("default_query",),
    ("receipt", "command"),
    ("receipt", "made"),
    ("engines", "predictor", "precision"),
    ("engines", "predictor", "inputs", "0", "name"),
    ("parity", "rows"),
]


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_a_manifest_is_shown_without_what_a_terminal_obeys(place: tuple[str, ...], bundle: Path) -> None:
    path = bundle / "manifest.json"
    raw: Any = json.loads(path.read_text())
    node = raw
    for step in place[:-1]:
        node = node[int(step) if isinstance(node, list) else step]
    node[place[-1]] = [{"engine": EVIL, "cosine": 1.0}] if place == ("parity", "rows") else EVIL
    path.write_text(json.dumps(raw, ensure_ascii=False, indent=1), encoding="utf-8")
    for call in (["inspect", bundle], ["inspect", bundle, "--json"], ["verify", bundle], ["tune", bundle / "none"]):
        done = run_here(*call)
        check(done.stdout)
        check(done.stderr)
    shown = run_here("inspect", bundle, "--json").stdout
    assert shown.startswith("{") is False or json.loads(shown) == raw


@pytest.mark.parametrize("write", [say, tell, stdout_console().print, stderr_console().print])
def test_what_commands_write_with(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"a {EVIL} b")
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert text.count("\n") <= 1 and "evil" in text
    check(text)


def test_letters_that_need_joiners_keep_them(capsys: pytest.CaptureFixture[str]) -> None:
    say("\u0645\u06cc\u200c\u0634\u0648\u062f \U0001f469\u200d\U0001f680")
    assert capsys.readouterr().out == "\u0645\u06cc\u200c\u0634\u0648\u062f \U0001f469\u200d\U0001f680\n"


def test_a_text_of_the_model_is_one_line() -> None:
    check(plain_line(Narration(0, 1, EVIL, "decoder")))


@pytest.mark.parametrize("form", [LogLines("%(asctime)s %(levelname)s %(message)s"), JsonLogLines()])
def test_a_log_has_a_line_a_record(form: logging.Formatter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(form)
    log = logging.Logger("of this test")
    log.addHandler(handler)
    log.warning("%s: %s", EVIL, "rtsp://me:hunter2@cam/?a=hunter2")
    check(stream.getvalue())
    assert stream.getvalue().count("\n") == 1 and "hunter2" not in stream.getvalue()
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("it failed")
    assert all(line.isprintable() for line in stream.getvalue().splitlines())


def test_commands_write_in_no_other_way() -> None:
    for path in (ROOT / "vlj_edge" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and path.name != "say.py":
                written = ast.unparse(node.func)
                assert written not in ("click.echo", "click.secho", "print", "Console", "sys.stdout.write"), path.name
