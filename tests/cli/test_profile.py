"""vlj-edge profile: what is measured of endless sources, and what is written when the measurement is interrupted."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import run_here
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.waiting import wait_for
from vlj_edge import __version__
from vlj_edge.bundle import read_manifest
from vlj_edge.cli.options import EngineOptions
from vlj_edge.cli.part_options import PartOptions
from vlj_edge.cli.profile import Limits, Subject
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.profiling import engines_alone
from vlj_edge.runtime.profiling.profile import Measurement
from vlj_edge.runtime.video.source import Frame, Source


class Endless(Source):
    """A camera, twenty times as fast as it should be: red and blue in turn, for ever or until it breaks off."""

    live, period, shown = True, 0.05, "the camera"

    def __init__(self, breaks_off_after: int | None = None) -> None:
        self._stop, self._frames = threading.Event(), breaks_off_after

    def frames(self) -> Iterator[Frame]:
        number = 0
        while not self._stop.wait(self.period / 20):
            if number == self._frames:
                self.incomplete = "the camera was unplugged"
                return
            yield Frame(number * self.period, np.full((48, 64, 3), RED if number // 80 % 2 else BLUE, np.uint8))
            number += 1

    def interrupt(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._stop.set()


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlj_edge.cli.profile.Subject.open", lambda *_: Endless())


def check_live(found: dict[str, Any]) -> None:
    summary = found["summary"]
    assert 0 < summary["frame_age_p50"] <= summary["frame_age_p95"] <= summary["frame_age_p99"]
    assert summary["windows_dropped"] >= 0 and summary["cameras"] >= 0
    assert summary["windows_a_second"] == pytest.approx(found["totals"]["windows"] / found["totals"]["wall_seconds"])


@pytest.mark.usefixtures("camera")
def test_a_camera_is_measured_for_as_many_windows(tiny_bundle: Path) -> None:
    done = run_here("profile", tiny_bundle, "0", "--windows", "24", "--json", "--every-window")
    assert done.returncode == 0 and done.stderr == ""
    found = json.loads(done.stdout)
    assert found["totals"]["windows"] == 24 and found["ended"] == "24 windows"
    check_live(found)
    assert 0 < found["summary"]["frame_to_text_p50"] <= found["summary"]["frame_to_text_p99"]


@pytest.mark.usefixtures("camera")
def test_a_camera_is_measured_for_as_many_seconds(tiny_bundle: Path) -> None:
    begun = time.monotonic()
    done = run_here("profile", tiny_bundle, "0", "--seconds", "1", "--repeat", "2")
    assert done.returncode == 0 and time.monotonic() - begun < 60
    assert "frame age p50: " in done.stdout and "windows dropped: " in done.stdout and "passes: 2" in done.stdout


def test_without_a_source_the_drawn_stream_is_as_long_as_is_asked_for(tiny_bundle: Path) -> None:
    found = json.loads(run_here("profile", tiny_bundle, "--windows", "5", "--json").stdout)
    assert found["totals"]["windows"] == 5
    engines = EngineOptions(None, None, None, "all", False)
    lengths = [
        Subject(tiny_bundle, None, PartOptions(), None, engines, True, Limits(seconds, windows, 3, 1)).open()._count  # type: ignore[attr-defined]
        for seconds, windows in ((None, None), (90.0, None), (None, 1000))
    ]
    assert lengths[0] == 60 * 30 and min(lengths[1:]) > 1000 * 30


@pytest.mark.signals
@pytest.mark.usefixtures("camera")
@pytest.mark.parametrize("form", ["table", "--json", "--md"])
def test_ctrl_c_prints_and_writes_what_was_measured(
    form: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Measurement] = []
    first = Measurement.__init__

    def kept(self: Measurement, *args: Any, **options: Any) -> None:
        first(self, *args, **options)
        made.append(self)

    def interrupt() -> None:
        wait_for(lambda: made and made[0].windows > 8)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Measurement, "__init__", kept)
    threading.Thread(target=interrupt).start()
    page, trace = tmp_path / "page.html", tmp_path / "trace.json"
    options = () if form == "table" else (form,)
    done = run_here("profile", tiny_bundle, "0", "--html", page, "--trace", trace, *options)
    assert done.returncode == 130 and "Ctrl-C" in done.stderr and "Traceback" not in done.stderr
    assert page.stat().st_size > 10_000 and json.loads(trace.read_text())["traceEvents"]
    if form == "--json":
        found = json.loads(done.stdout)
        assert found["totals"]["windows"] > 8 and found["ended"] == "interrupted"
        check_live(found)
    else:
        assert "vision_encoder" in done.stdout and "frame age p95: " in done.stdout


def test_what_was_measured_before_a_source_breaks_off_is_printed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlj_edge.cli.profile.Subject.open", lambda *_: Endless(200))
    done = run_here("profile", tiny_bundle, "0", "--json")
    assert done.returncode == 1 and "error: the camera was unplugged" in done.stderr
    assert json.loads(done.stdout)["totals"]["windows"] > 0


def test_nothing_is_printed_of_nothing(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise VljEdgeError("the backend failed: update it")

    monkeypatch.setattr("vlj_edge.runtime.profiling.profile._warm_up", fail)
    done = run_here("profile", tiny_bundle, "--json", "--html", tmp_path / "page.html")
    assert done.returncode == 1 and done.stdout == "" and not (tmp_path / "page.html").exists()


def test_repeated_passes_are_counted_together(tiny_bundle: Path, make_video: Callable[..., Path]) -> None:
    video = make_video([(RED, 3), (GREEN, 3)])
    one, three = (
        json.loads(run_here("profile", "--bundle", tiny_bundle, video, "--json", "--repeat", count).stdout)
        for count in ("1", "3")
    )
    assert three["totals"]["windows"] == 3 * one["totals"]["windows"] > 0
    assert one["summary"]["windows_a_second_sd"] is None and three["summary"]["windows_a_second_sd"] >= 0
    for row in three["stages"]:
        assert row["sd"] == pytest.approx(row["variation"] * row["mean"])


def test_a_video_alone_is_a_video_whatever_names_the_bundle(tiny_bundle: Path, make_video: Callable[..., Path]) -> None:
    video = make_video([(RED, 3)])
    for call in ((tiny_bundle, video), ("--bundle", tiny_bundle, video), (video, "--bundle", tiny_bundle)):
        done = run_here("profile", *call, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["bundle"] == str(tiny_bundle), done.stderr
    assert run_here("profile", tiny_bundle, video, "--bundle", tiny_bundle).returncode == 2


def test_options_that_exclude_each_other_are_refused(tiny_bundle: Path) -> None:
    for options in (("--json", "--md"), ("--seconds", "0"), ("--windows", "0"), ("--warmup", "-1"), ("--repeat", "0")):
        assert run_here("profile", tiny_bundle, *options).returncode == 2, options


CONDITIONS = ("date", "system", "cpu", "cores", "versions", "bundle_sha256", "backend", "threads", "source", "command")


@pytest.mark.usefixtures("camera")
def test_every_form_says_where_its_numbers_come_from_and_no_secret(tiny_bundle: Path, tmp_path: Path) -> None:
    address = "rtsp://me:hunter2@127.0.0.1:1/live?token=hunter2"
    page, trace = tmp_path / "page.html", tmp_path / "trace.json"
    call = ("profile", address, "--bundle", tiny_bundle, "--windows", "6", "--html", page, "--trace", trace)
    table, made, markdown, lines = (run_here(*call, *form).stdout for form in ((), ("--json",), ("--md",), ("--csv",)))
    digest = hashlib.sha256((tiny_bundle / "manifest.json").read_bytes()).hexdigest()
    found = json.loads(made)["conditions"]
    assert found["bundle_sha256"] == digest and found["versions"]["vlj-edge"] == __version__
    assert datetime.fromisoformat(found["date"]).tzinfo is not None and found["threads"] >= 1
    shown = json.loads(re.findall(r'<script id="data" type="application/json">(.*?)</script>', page.read_text())[0])
    other = json.loads(trace.read_text())["otherData"]
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert {row["stage"] for row in rows} >= {"vision_encoder", "meaning gate"}
    assert all(float(row["sd"]) >= 0 and float(row["p50"]) <= float(row["p99"]) for row in rows)
    for about in (found, shown["conditions"], other, *rows):
        assert set(CONDITIONS) <= set(about), about
    for about in (shown["shown_conditions"], other, *rows):
        assert about["ended"] == "6 windows" and about["passes"] == "1" and "meaning" in about["gates"]
    for about in (found, shown["conditions"], other, *rows):
        assert "rtsp://***@127.0.0.1:1/live?token=***" in about["command"] and "--windows 6" in about["command"]
    for text in (table, markdown):
        assert (
            "ended: 6 windows" in text
            and digest[:16] in text
            and "--windows 6" in text
            and text.count("unknown: ") == 1
        )
        assert re.match(r"sustains [\d.e+]+ windows/s = \d+ cameras? at 2/s; frame to text p50/p95/p99 ", text)
    assert not any("hunter2" in text for text in (table, made, markdown, lines, page.read_text(), trace.read_text()))


def test_engines_alone_are_measured_without_a_source(tiny_bundle: Path) -> None:
    call = ("profile", "--bundle", tiny_bundle, "--engines-only", "--windows", "12", "--warmup", "1", "--repeat", "2")
    found = json.loads(run_here(*call, "--json").stdout)
    manifest = read_manifest(tiny_bundle)
    assert {row["engine"]: row["precision"] for row in found["engines"]} == {
        name: spec.precision for name, spec in manifest.engines.items()
    }
    for row in found["engines"]:
        assert row["runs"] == 24 and row["batch"] == 1 and row["tokens"] is None
        assert 0 < row["min"] <= row["p50"] <= row["p99"] <= row["max"]
        assert row["runs_a_second"] == pytest.approx(1e3 / row["mean"])
    assert set(CONDITIONS) <= set(found["conditions"])
    assert "windows/s" in found["headline"]
    rows = list(csv.DictReader(io.StringIO(run_here(*call, "--csv").stdout)))
    assert len(rows) == len(manifest.engines) and set(CONDITIONS) <= set(rows[0])
    for row in rows:  # its own, not those of the bundle
        assert row["precision"] == manifest.engines[row["engine"]].precision and row["tokens"] == ""
    for form in ((), ("--md",)):
        done = run_here(*call, *form)
        assert done.returncode == 0 and done.stdout.startswith("the engines alone allow") and done.stderr == ""
        assert all(name in done.stdout for name in manifest.engines)


@pytest.mark.parametrize("option", [("--html", "x.html"), ("--every-window",), ("SOURCE",)])
def test_engines_alone_have_no_source(option: tuple[str, ...], tiny_bundle: Path, tmp_path: Path) -> None:
    words = [str(tmp_path / word) if word[0] in "xS" else word for word in option]
    done = run_here("profile", *words, "--bundle", tiny_bundle, "--engines-only")
    assert done.returncode == 2 and "--engines-only" in done.stderr


@pytest.mark.signals
def test_ctrl_c_prints_the_engines_that_were_measured(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    opening = engines_alone.open_engine

    def opened(directory: Path, manifest: Any, name: str, **options: Any) -> Any:
        begun.append(name)
        if len(begun) == 3:
            signal.raise_signal(signal.SIGINT)
        return opening(directory, manifest, name, **options)

    monkeypatch.setattr(engines_alone, "open_engine", opened)
    done = run_here("profile", "--bundle", tiny_bundle, "--engines-only", "--windows", "3", "--json")
    assert done.returncode == 130
    assert [row["engine"] for row in json.loads(done.stdout)["engines"]] == begun[:2]
