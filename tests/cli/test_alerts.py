"""vlj-edge alerts test: when the alerts of a configuration would have fired."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import error_of, run_here
from tests.runtime.tiny_bundle import GREEN, RED

ALERTS = """
[[alert]]
name = "green light"
text = "green"
unless = ["red", "blue"]
again_after = 0
[[alert]]
name = "blue light"
text = "blue"
unless = ["red", "green"]
"""


@pytest.fixture
def config(tmp_path: Path, tiny_bundle: Path) -> Path:
    path = tmp_path / "home.toml"
    path.write_text(f'bundle = "{tiny_bundle}"\n{ALERTS}', encoding="utf-8")
    return path


@pytest.fixture
def video(make_video: Callable[..., Path]) -> Path:
    return make_video([(RED, 4), (GREEN, 4), (RED, 4)])


def test_it_says_when_each_would_have_fired(config: Path, video: Path) -> None:
    done = run_here("alerts", "test", "--config", config, video, "--json")
    assert done.returncode == 0, done.stderr
    green, blue = map(json.loads, done.stdout.splitlines())
    assert [event["kind"] for event in green["events"]] == ["start", "end"]
    assert 4 < green["events"][0]["since"] <= green["events"][0]["at"] < 7 and green["events"][0]["score"] > 0.6
    assert blue["events"] == [] and len(green["scores"]) == len(blue["scores"]) > 3
    assert all(0 <= score <= 1 for _, _, score in green["scores"])


def test_it_plots_the_score_and_suggests_a_threshold(config: Path, video: Path) -> None:
    done = run_here("alerts", "test", "--config", config, video, "--alert", "green light", "--right", "0:04-0:08")
    assert done.returncode == 0, done.stderr
    assert "green light" in done.stdout and "blue" not in done.stdout and "█" in done.stdout
    assert "(suggested)" in done.stdout and "1 of 1" in done.stdout


def test_marks_are_read_from_a_file(config: Path, video: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text("alert,start,end,right\ngreen light,4,8,yes\ngreen light,0,3,no\n", encoding="utf-8")
    done = run_here("alerts", "test", "--config", config, video, "--marks", marks, "--json")
    green, blue = map(json.loads, done.stdout.splitlines())
    assert green["suggested"]["found"] == green["marks"]["right"] == 1 and "marks" not in blue


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("", (), "home.toml"),
        (ALERTS, ("--alert", "red light"), "red light"),
        (ALERTS, ("--alert", "blue light", "--right", "9-4"), "9-4"),
        ('[[alert]]\nname = "x"\ntext = "green"\nfor = "soon"\n', (), "line 5"),
        ('[[alert]]\nname = "x"\nlabel = "jump"\n', (), "alert 'x'"),
        ('[[alert]]\nname = "x"\nlike = "nothing.mp4@0:01"\n', (), "nothing.mp4"),
    ],
)
def test_errors_are_one_line(
    config: Path, video: Path, tiny_bundle: Path, text: str, options: tuple[str, ...], named: str
) -> None:
    config.write_text(f'bundle = "{tiny_bundle}"\n{text}', encoding="utf-8")
    done = run_here("alerts", "test", "--config", config, video, *options)
    assert named in error_of(done, 2 if named == "red light" else 1)


@pytest.mark.parametrize("line", ["green light,4,8,perhaps", "green light,8,4,yes", "green light,x,8,yes", ",1,2,yes"])
def test_a_line_of_marks_that_says_nothing_is_named(config: Path, video: Path, tmp_path: Path, line: str) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text(f"alert,start,end,right\n{line}\n", encoding="utf-8")
    done = run_here("alerts", "test", "--config", config, video, "--marks", marks)
    assert done.returncode == 1 and "marks.csv, line 2" in error_of(done)


def test_marks_need_one_alert_and_something_right(config: Path, video: Path) -> None:
    for options in (("--right", "4-8"), ("--alert", "green light", "--wrong", "4-8")):
        assert run_here("alerts", "test", "--config", config, video, *options).returncode == 2


def test_a_recording_of_one_window_is_plotted_too(config: Path, video: Path) -> None:
    done = run_here("alerts", "test", "--config", config, video, "--duration", "2")
    assert (done.returncode, done.stderr) == (0, "") and "0 s 2 s" in done.stdout
