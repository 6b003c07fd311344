"""Every program in examples/ that a person would copy, run as they would run it, on the shipped bundle and video."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.words.endpoints import endpoint
from vlj_edge.bundle import nano_bundle

EXAMPLES = Path(__file__).parents[2] / "examples"
DEMO = EXAMPLES / "media" / "demo.mp4"


def run(program: str, *arguments: str | Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_narrate_video() -> None:
    *said, totals = run("narrate_video.py", DEMO)
    assert any("the robot arm" in line for line in said)
    assert "windows" in totals


def test_narrate_in_words() -> None:
    with endpoint() as server:
        *said, totals = run("narrate_in_words.py", DEMO, server.url, "tiny")
    assert any("a cat sleeps" in line for line in said)
    assert f"{len(server.got)} calls" in totals


def test_feed_frames() -> None:
    assert any("the robot arm" in line for line in run("feed_frames.py", DEMO))


def test_explain_gates() -> None:
    says, *reasons = run("explain_gates.py", DEMO, "15.5")
    assert says.endswith(": a text") and "meaning: text (turn)" in reasons
    says, *reasons = run("explain_gates.py", DEMO, "16.5")
    assert says.endswith(": no text") and "meaning: skipped" in reasons
    assert reasons[-1].endswith("? no"), "what it waits for"


def test_compare_with_texts() -> None:
    lines = run("compare_with_texts.py", DEMO, "the robot arm stays still", "two people play chess")
    nearest = [line.split("  ", 3)[-1].strip() for line in lines]
    assert "the robot arm stays still" in nearest[0], "the video begins with a still moment"
    assert len(lines) > 100


def test_classify_video() -> None:
    lines = run("classify_video.py", DEMO, "opens the drawer", "closes the door", "hammers the nail")
    order = [next(n for n, line in enumerate(lines) if label in line) for label in ("drawer", "door", "nail")]
    assert order == sorted(order), "the video shows them in this order"


def test_ask_video() -> None:
    question, answers = "Is the drawer open or closed?", ("the drawer is open", "the drawer is closed")
    [line] = run("ask_video.py", DEMO, question, ",".join(answers))
    assert line.startswith(question) and any(answer in line for answer in answers)


def test_search_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO, tmp_path)
    lines = run("search_library.py", tmp_path, "the robot arm opens the drawer")
    assert "demo.mp4: " in lines[0] and len(lines) == 4
    score, start = float(lines[1].split()[0]), float(lines[1].split()[1])
    assert score > 0.3 and 5 < start < 13, "as in examples/media/demo.json"
    assert len(run("search_library.py", tmp_path, "the robot arm hammers the nail")) == 3, "it is stored already"


def test_embed_on_device(tmp_path: Path) -> None:
    *news, totals = run("embed_on_device.py", DEMO, tmp_path / "ring.vlj")
    assert 5 < len(news) < 60 and all("something new" in line for line in news)
    assert totals.startswith("79 embeddings kept")


@pytest.mark.slow
def test_export_bundle(tmp_path: Path) -> None:
    lines = run("export_bundle.py", tmp_path / "nano-fp16")
    assert sum("lowest cosine to torch" in line for line in lines) == 5
    assert (tmp_path / "nano-fp16" / "manifest.json").is_file()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorRT-RTX has no package for this machine")
def test_build_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    bundle = shutil.copytree(nano_bundle(), tmp_path / "nano", ignore=shutil.ignore_patterns("engines"))
    lines = run("build_engines.py", bundle, "sm86", "sm120")
    assert len(lines) == 8 and sum("3 of 3 attention operators fused" in line for line in lines) == 2  # the decoder's


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_without_its_arguments_an_example_prints_its_usage(path: Path) -> None:
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.startswith(f"usage: {path.name} ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("ask_video.py", ("nope.mp4", "Which is it?", "open,closed")),
        ("build_engines.py", ("nope", "sm86")),
        ("classify_video.py", ("nope.mp4", "a", "b")),
        ("compare_with_texts.py", ("nope.mp4", "a")),
        ("embed_on_device.py", ("nope.mp4", "ring.vlj")),
        ("embed_on_device.py", (DEMO, "nope/ring.vlj")),
        ("export_bundle.py", ("nope.txt/out",)),
        ("narrate_video.py", ("nope.mp4",)),
        ("search_library.py", ("nope", "a")),
    ],
)
def test_a_wrong_path_is_one_line(program: str, arguments: tuple[str | Path, ...], tmp_path: Path) -> None:
    (tmp_path / "nope.txt").write_text("a file, not a folder")
    command = [sys.executable, EXAMPLES / program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and "nope" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_calibrate(tmp_path: Path) -> None:
    *_, before, after = run("calibrate.py", DEMO, tmp_path / "gates.json")
    texts = [int(line.rpartition(": ")[2].split()[0]) for line in (before, after)]
    assert texts[1] < texts[0] and texts[1] <= 16, "the video has 80 s"


def test_evaluate_model(tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    asked = "Is the drawer open or closed?,the drawer is open|the drawer is closed,the drawer is open"
    table.write_text(f"video,start,end,text,question,choices,answer\n{DEMO},14,18,opens the drawer,{asked}\n")
    lines = run("evaluate_model.py", table)
    assert "multiple_choice accuracy: 1.00 of 1 cases, guessing 0.50" in lines and len(lines) == 13


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for program in EXAMPLES.glob("*.py"):
        assert f'run("{program.name}"' in tested
