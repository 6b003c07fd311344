"""vlj-edge calibrate: what it prints and writes, and that other commands take it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.command import error_of, json_lines, run_here
from tests.cli.test_every_source import CALLS
from tests.runtime.calibration.streams import SCENES, without_decoder, write_events
from vlj_edge.bundle import GateSettings, MeaningGateSettings, read_manifest
from vlj_edge.bundle.gate_profile import read_gate_profile
from vlj_edge.cli import calibrate
from vlj_edge.runtime.calibration import proposal as proposals
from vlj_edge.runtime.calibration import record as recording
from vlj_edge.runtime.calibration.search import Effort

SMALL = Effort(drawn=10, rounds=1, best=1, varied=1)


@pytest.fixture(autouse=True)
def small_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proposals.propose.__defaults__ is not None
    defaults = tuple(SMALL if isinstance(each, Effort) else each for each in proposals.propose.__defaults__)
    monkeypatch.setattr(proposals.propose, "__defaults__", defaults)


@pytest.fixture
def film(make_video: object) -> Path:
    """Plain colours, one after the other, for 80 seconds."""
    return make_video(SCENES, rate=8)  # type: ignore[operator, no-any-return]


@pytest.fixture
def chatty(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Gates that say much too much, as a file that names only two settings."""
    path = tmp_path / "chatty.json"
    path.write_text(json.dumps({"gates": {"meaning": {"look_every": 0.0}, "scene": {"enabled": False}}}))
    return path


def test_gates_are_proposed_written_and_taken_by_narrate(film: Path, tiny_bundle: Path, chatty: Path) -> None:
    folder = film.parent
    out, page, copy = folder / "gates.json", folder / "curve.html", folder / "copy"
    options = ("--bundle", tiny_bundle, "--gates", chatty, "--encodes-per-minute", "60")
    done = run_here("calibrate", film, *options, "--out", out, "--html", page, "--bundle-out", copy)
    assert done.returncode == 0, done.stderr
    assert "in use" in done.stdout and "proposed" in done.stdout and "meaning.look_every" in done.stdout

    written = json.loads(out.read_text())
    made = written["made"]
    assert made["source"] == str(film) and 75 < made["seconds"] < 85 and made["date"].startswith("20")
    assert made["target"] == {"encodes_per_minute": 60.0} and made["bundle"]["embedding"] == 4
    assert made["held_out"]["encodes_per_minute"] < made["own"]["encodes_per_minute"]
    assert read_gate_profile(out, GateSettings()).gates.meaning.look_every == written["gates"]["meaning"]["look_every"]
    low, high = made["held_out"]["quality_interval"]
    assert 0 <= low <= made["held_out"]["quality"] <= high <= 1
    assert "budget" not in written["gates"]

    def narrated(*options: str | Path) -> dict[str, Any]:
        return json_lines(run_here("narrate", film, "--json", *options).stdout)[1]

    before, after = (narrated("--bundle", tiny_bundle, "--gates", gates) for gates in (chatty, out))
    assert after["encoder_runs"] < before["encoder_runs"] / 1.5
    assert narrated("--bundle", copy)["encoder_runs"] == after["encoder_runs"]
    assert read_manifest(copy).receipt["gates"]["source"] == str(film)
    assert not re.search(r"(src|href)\s*=|https?://(?!www\.w3\.org)", page.read_text()), "it loads something"
    assert json.loads(re.search(r'application/json">(.*?)</script>', page.read_text())[1])["improved"]  # type: ignore[index]


def test_a_copy_of_the_bundle_is_whole(film: Path, tiny_bundle: Path) -> None:
    copy = film.parent / "copy"
    assert run_here("calibrate", film, "--bundle", tiny_bundle, "--bundle-out", copy).returncode == 0
    done = run_here("verify", copy)
    assert done.returncode == 0 and "as exported" in done.stdout, done.stderr
    again = run_here("calibrate", film, "--bundle", tiny_bundle, "--bundle-out", copy)
    assert str(copy) in error_of(again)
    assert run_here("verify", copy).returncode == 0


def test_annotations_are_what_it_is_judged_by(film: Path, tiny_bundle: Path) -> None:
    events = write_events(film.parent / "events.json")
    done = run_here("calibrate", film, "--bundle", tiny_bundle, "--events", events, "--quality", "0.5", "--json")
    found = json.loads(done.stdout)
    assert found["reference"] == "annotations" and found["own"]["quality"] > 0.8


def times(printed: str) -> list[float]:
    """When the events are that embed prints."""
    return [json.loads(line)["time"] for line in printed.splitlines()]


def test_a_bundle_without_a_decoder_gets_a_threshold_of_novelty(film: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    bare, out = without_decoder(tiny_bundle, tmp_path / "bare"), tmp_path / "gates.json"
    done = run_here("calibrate", film, "--bundle", bare, "--quality", "0.3", "--out", out)
    assert done.returncode == 0 and "novel_below" in done.stdout, done.stderr
    threshold = json.loads(out.read_text())["novel_below"]
    assert 0 <= threshold <= 1
    seen = run_here("embed", film, "--bundle", bare, "--gates", out, "--events")
    assert seen.returncode == 0 and '"novel"' in seen.stdout, seen.stderr
    given = run_here("embed", film, "--bundle", bare, "--novel-below", str(threshold), "--events")
    assert times(given.stdout) == times(seen.stdout) != []
    refused = run_here("calibrate", film, "--bundle", bare, "--encodes-per-minute", "3")
    assert "--texts-per-hour" in error_of(refused, 2)


def test_a_recording_that_is_too_short_says_how_much_is_needed(film: Path, tiny_bundle: Path) -> None:
    out = film.parent / "gates.json"
    done = run_here("calibrate", film, "--duration", "30s", "--bundle", tiny_bundle, "--out", out)
    assert "60 s" in error_of(done) and "30 s" in error_of(done) and not out.exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--texts-per-hour", "0"), "--texts-per-hour"),
        (("--encodes-per-minute", "-1"), "--encodes-per-minute"),
        (("--quality", "1.5"), "--quality"),
        (("--quality", "nan"), "--quality"),
    ],
)
def test_targets_that_mean_nothing_are_wrong_calls(options: tuple[str, ...], named: str, film: Path) -> None:
    done = run_here("calibrate", film, *options)
    assert done.returncode == 2 and named in done.stderr


def test_events_of_another_recording_are_refused(film: Path, tiny_bundle: Path) -> None:
    events = film.parent / "events.json"
    events.write_text(json.dumps({"events": [{"start": 900, "end": 950, "captions": ["blue"]}]}))
    done = run_here("calibrate", film, "--bundle", tiny_bundle, "--events", events)
    assert "events" in error_of(done)


@pytest.mark.parametrize("name", [each for each in CALLS if each not in ("verify", "export", "calibrate", "serve")])
def test_every_command_that_runs_gates_takes_them(
    name: str, film: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb" if name == "index" else "numpy")
    monkeypatch.chdir(film.parent)
    wrong = film.parent / "wrong.json"
    wrong.write_text('{"gates": {"meaning": {"speak_belw": 0.5}}}')
    call = [word.replace("SOURCE", str(film)).replace("BUNDLE", str(tiny_bundle)) for word in CALLS[name]]
    more = () if "BUNDLE" in CALLS[name] else ("--bundle", tiny_bundle)
    refused = run_here(*call, *more, "--gates", wrong)
    assert "speak_belw" in error_of(refused) and "wrong.json" in error_of(refused)


def test_every_window_and_gates_exclude_each_other(film: Path, tiny_bundle: Path, chatty: Path) -> None:
    for call in (("narrate", film, "--bundle", tiny_bundle), ("profile", tiny_bundle, film)):
        done = run_here(*call, "--every-window", "--gates", chatty)
        assert done.returncode == 2 and "--every-window" in done.stderr


def test_what_was_seen_until_ctrl_c_is_used(film: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = recording.record

    def interrupted(seen: Iterator[Any], into: recording.Recording, **options: Any) -> recording.Recording:
        whole(islice(seen, 130), into)
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "record", interrupted)
    out = film.parent / "gates.json"
    done = run_here("calibrate", film, "--bundle", tiny_bundle, "--out", out)
    assert done.returncode == 0 and "in use" in done.stdout, done.stderr
    assert 64 <= json.loads(out.read_text())["made"]["seconds"] <= 66


def test_it_says_what_it_wrote_what_to_type_and_how_much_better_it_is(film: Path, tiny_bundle: Path) -> None:
    out, copy = film.parent / "gates.json", film.parent / "copy"
    done = run_here(
        *("calibrate", film, "--bundle", tiny_bundle, "--texts-per-hour", "100", "--out", out, "--bundle-out", copy)
    )
    assert done.returncode == 0, done.stderr
    for path, option in ((out, "--gates"), (copy, "--bundle")):
        [line] = [line for line in done.stderr.splitlines() if line.startswith(f"wrote {path}")]
        assert f"vlj-edge narrate {film} {option} {path}" in line
        assert line.endswith(f" --bundle {tiny_bundle}") == (option == "--gates"), "nano does not take them"
    improved = json.loads(out.read_text())["made"]["held_out"] != json.loads(out.read_text())["made"]["own"]
    assert ("in place of the gates in use" in done.stdout) == improved


def test_a_pause_that_hardly_fits_into_the_recording_is_a_warning() -> None:
    def proposed(hold: float, seconds: float) -> Any:
        return SimpleNamespace(gates=GateSettings(meaning=MeaningGateSettings(least_hold=hold)), seconds=seconds)

    line = calibrate._long_hold(proposed(60, 120), GateSettings())
    assert line is not None and "60 s" in line and "120 s" in line
    assert calibrate._long_hold(proposed(5, 120), GateSettings()) is None
    in_use = GateSettings(meaning=MeaningGateSettings(least_hold=60))
    assert calibrate._long_hold(proposed(60, 120), in_use) is None, "it was so before"


def test_what_cannot_be_found_is_said_before_anything_is_recorded(
    film: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_record", None)
    mute = without_decoder(tiny_bundle, film.parent / "mute")
    said = error_of(run_here("calibrate", film, "--bundle", mute, "--encodes-per-minute", "5"), 2)
    assert "--texts-per-hour" in said
