"""vlj-edge alerts test: when the alerts of a configuration would have fired."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import error_of, run_here
from tests.runtime.tiny_bundle import GREEN, RED
from vlj_edge.cli.alerts_output import plot
from vlj_edge.cli.part_options import PartOptions
from vlj_edge.cli.serve_settings import ServeSettings
from vlj_edge.cli.sink_options import open_sinks
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.alerts.trial import ScoredWindow
from vlj_edge.time_text import seconds_of

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
        (
            '[[source]]\nname = "hall"\nuri = "x.mp4"\n[[alert]]\nname = "x"\ntext = "green"\ncameras = ["hal"]\n',
            (),
            "line 8",
        ),
        ('[[alert]]\nname = "x"\nlike = "nothing.mp4@0:01"\n', (), "nothing.mp4"),
    ],
)
def test_errors_are_one_line(
    config: Path, video: Path, tiny_bundle: Path, text: str, options: tuple[str, ...], named: str
) -> None:
    config.write_text(f'bundle = "{tiny_bundle}"\n{text}', encoding="utf-8")
    done = run_here("alerts", "test", "--config", config, video, *options)
    assert named in error_of(done, 2 if named in ("red light", "9-4") else 1)


@pytest.mark.parametrize("cameras", ['["porch"]', '["hall", "porch"]', '["hall2"]', '["\\u00e9tage", "yard"]'])
@pytest.mark.parametrize("sources", ["", '[[source]]\nname = "hall"\nuri = "x.mp4"\n'])
def test_cameras_that_serve_is_given_on_its_command_line_are_no_mistake(
    config: Path, video: Path, tiny_bundle: Path, sources: str, cameras: str
) -> None:
    alert = f'[[alert]]\nname = "green light"\ntext = "green"\nunless = ["red", "blue"]\ncameras = {cameras}\n'
    config.write_text(f'bundle = "{tiny_bundle}"\n{sources}{alert}', encoding="utf-8")
    done = run_here("alerts", "test", "--config", config, video, "--json")
    assert done.returncode == 0, done.stderr
    assert [event["kind"] for event in json.loads(done.stdout)["events"]] == ["start", "end"]
    told = done.stderr.splitlines()
    assert all(f"{config}, line" in line and "cameras" in line and "=SOURCE" in line for line in told)
    assert bool(told) == bool(sources)


@pytest.mark.parametrize(
    ("separator", "encoding"),
    [(";", "utf-8"), ("\t", "utf-8-sig"), (",", "utf-16")],
    ids=["semicolons", "tabs", "utf16"],
)
def test_marks_as_a_spreadsheet_writes_them(
    config: Path, video: Path, tmp_path: Path, separator: str, encoding: str
) -> None:
    marks, one = tmp_path / "marks.csv", "4,0" if separator == ";" else "4.0"
    rows = [["Alert", "start", "end", "right"], ["green light", one, "0:08", "Yes"], ["green light", "0", "3", "no"]]
    marks.write_text("\r\n".join(separator.join(row) for row in rows), encoding=encoding, newline="")
    done = run_here("alerts", "test", "--config", config, video, "--marks", marks, "--json")
    if encoding == "utf-16":
        assert "marks.csv is in UTF-16: save it as UTF-8" in error_of(done)
    else:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[0])["marks"]["right"] == 1


@pytest.mark.parametrize("names", ["alert,begin,end,right", "label,start,end,right", "alert,start,end,correct"])
def test_columns_of_marks_under_other_names(config: Path, video: Path, tmp_path: Path, names: str) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text(f"{names}\ngreen light,4,8,yes\n", encoding="utf-8")
    said = error_of(run_here("alerts", "test", "--config", config, video, "--marks", marks))
    assert "marks.csv, line 1" in said and "in place of" in said


@pytest.mark.parametrize("content", ["", "\n \n", "alert,start,end,right\n"])
def test_a_file_without_marks_is_refused(config: Path, video: Path, tmp_path: Path, content: str) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text(content, encoding="utf-8")
    assert "marks.csv holds no marks" in error_of(
        run_here("alerts", "test", "--config", config, video, "--marks", marks)
    )


@pytest.mark.parametrize("line", ["green light,4,8,perhaps", "green light,8,4,yes", "green light,x,8,yes", ",1,2,yes"])
def test_a_line_of_marks_that_says_nothing_is_named(config: Path, video: Path, tmp_path: Path, line: str) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text(f"alert,start,end,right\n{line}\n", encoding="utf-8")
    done = run_here("alerts", "test", "--config", config, video, "--marks", marks)
    assert done.returncode == 1 and "marks.csv, line 2" in error_of(done)


@pytest.mark.parametrize("name", ["webhook", "notify", "mqtt"])
def test_an_address_of_a_configuration_is_named_with_its_line(config: Path, name: str) -> None:
    config.write_text(f'port = 0\n{name} = "htp://anna:geheim@home/secret"\n', encoding="utf-8")
    settings = ServeSettings((), config, {}, PartOptions())
    with pytest.raises(VljEdgeError) as caught:
        addresses = dict.fromkeys(("mqtt", "webhook", "say")) | {name: settings.read_file().options[name]}
        open_sinks(None, None, **addresses, place=settings.place)
    assert f"{config}, line 2: {name}" in str(caught.value) and "geheim" not in str(caught.value)
    given = ServeSettings((), config, {name: "x"}, PartOptions())
    assert given.place(name) is None


def test_a_key_file_of_a_configuration_that_is_not_there_is_named_with_its_line(config: Path, video: Path) -> None:
    config.write_text(
        config.read_text(encoding="utf-8").replace("\n", '\nkey_file = "none.key"\n', 1), encoding="utf-8"
    )
    done = run_here("alerts", "test", "--config", config, video)
    assert done.returncode == 1 and f"{config}, line 2: key_file" in error_of(done) and "none.key" in error_of(done)


def test_marks_need_one_alert_and_something_right(config: Path, video: Path) -> None:
    for options in (("--right", "4-8"), ("--alert", "green light", "--wrong", "4-8")):
        assert run_here("alerts", "test", "--config", config, video, *options).returncode == 2


def test_a_recording_of_one_window_is_plotted_too(config: Path, video: Path) -> None:
    done = run_here("alerts", "test", "--config", config, video, "--duration", "2")
    assert (done.returncode, done.stderr) == (0, "") and "0.0s 2.0s" in done.stdout


def test_without_a_command_it_shows_its_help() -> None:
    done = run_here("alerts")
    assert done.returncode == 2 and "Commands:" in done.stderr.splitlines() and "Error" not in done.stderr


@pytest.mark.parametrize("part", ["0:30-0:40", "20-30", "3-90s", "11.9-1:00"])
@pytest.mark.parametrize("kind", ["--right", "--wrong", "--marks"])
def test_marks_outside_the_recording_are_refused(
    config: Path, video: Path, tmp_path: Path, part: str, kind: str
) -> None:
    start, end = part.split("-")
    marks = tmp_path / "marks.csv"
    marks.write_text(f"alert,start,end,right\ngreen light,4,8,yes\ngreen light,{start},{end},no\n", encoding="utf-8")
    given = ("--marks", marks) if kind == "--marks" else ("--right", "0:04-0:08", kind, part)
    done = run_here("alerts", "test", "--config", config, video, "--alert", "green light", *given)
    named = f"{marks}, line 3" if kind == "--marks" else f"'{part}'"
    assert done.returncode == 1 and named in error_of(done) and "12.0s" in error_of(done) and done.stdout == ""


def test_marks_outside_the_part_that_is_looked_at_are_refused(config: Path, video: Path) -> None:
    one = ("alerts", "test", "--config", config, video, "--alert", "green light", "--start", "4", "--duration", "4")
    assert run_here(*one, "--right", "4-8").returncode == 0
    for part in ("0:00-0:02", "9-11"):
        done = run_here(*one, "--right", "5-6", "--wrong", part)
        assert done.returncode == 1 and part in error_of(done)


def scored(*ends: float, length: float = 2.0, score: float = 0.9) -> list[ScoredWindow]:
    return [ScoredWindow(end - length, end, score) for end in ends]


def bars(windows: list[ScoredWindow]) -> tuple[str, float, float]:
    """The bars of a plot, its start and seconds a column."""
    line, ticks, unit = plot(windows)
    start, each = (seconds_of(text) for text in (ticks.split()[0], unit.split()[-1]))
    assert start is not None and each is not None
    return line.strip("|"), start, each


@pytest.mark.parametrize(
    "windows",
    [
        scored(*(2 + 0.5 * i for i in range(20))),
        scored(*(2 + 0.5 * i for i in range(5000))),
        scored(*(600 + 2 * i for i in range(40))),
        scored(2.0),
        scored(*(2 + 0.5 * i for i in range(40)), *(300 + 0.5 * i for i in range(40))),
        scored(2.0, 50.0, 51.0),
    ],
)
def test_the_axis_of_a_plot_is_in_seconds(windows: list[ScoredWindow]) -> None:
    quiet = [ScoredWindow(each.start, each.end, 0.0) for each in windows]
    for place in {0, len(windows) // 3, len(windows) - 1}:
        shown, start, each = bars([*quiet[:place], windows[place], *quiet[place + 1 :]])
        column = shown.index("█")
        assert len(shown) <= 72 and start == pytest.approx(windows[0].start, abs=0.06)
        exact = (windows[-1].end - windows[0].start) / len(shown)
        assert exact == pytest.approx(each, abs=0.06)
        assert start + exact * column - 0.1 <= windows[place].end <= start + exact * (column + 1) + 0.1


def test_a_plot_shows_gaps_and_no_others() -> None:
    shown, _, each = bars(scored(*(2 + 0.5 * i for i in range(40)), *(60 + 0.5 * i for i in range(40))))
    assert 25 <= shown.strip("·").count("·") * each <= 40
    assert "·" not in bars(scored(*(2 + 0.5 * i + 0.1 * (i % 2) for i in range(40))))[0].lstrip("·")
