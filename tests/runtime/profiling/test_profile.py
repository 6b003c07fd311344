"""The profiler: it does not change results, counts the work, and reports what it cannot measure as unknown."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.command import error_of, vlj_edge
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.waiting import wait_for
from vlj_edge.bundle import NO_GATES
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.profiling import clocks, power
from vlj_edge.runtime.profiling import report as views
from vlj_edge.runtime.profiling.probe import Probe
from vlj_edge.runtime.profiling.profile import Profile, profile
from vlj_edge.runtime.video.source import Frame
from vlj_edge.runtime.video.synthetic import SyntheticSource


@pytest.fixture
def video(make_video: Callable[..., Path]) -> Path:
    return make_video([(RED, 4), (BLUE, 4), (GREEN, 4), (RED, 4)])


def measured(bundle: Path, video: Path, overlap: bool = True) -> tuple[Profile, Probe]:
    probe = Probe()
    return profile(Model(bundle, probe=probe, overlap=overlap), video, probe), probe


@pytest.mark.parametrize("overlap", [True, False])
def test_it_counts_what_was_done_and_changes_nothing(tiny_bundle: Path, video: Path, overlap: bool) -> None:
    found, probe = measured(tiny_bundle, video, overlap)
    plain = Model(tiny_bundle).narrate(video)
    said = [(event.centre, event.text) for event in plain]
    totals = plain.totals
    assert found.texts == said
    calls = {row.stage: row.calls for row in found.rows}
    assert calls["scene gate"] == calls["meaning gate"] == totals.windows == found.totals.windows
    assert calls["vision_encoder"] == calls["predictor"] == calls["normalise"] == totals.encoder_runs
    assert calls["decoder, first"] == totals.decoder_runs
    assert calls["decoder, first"] + calls["decoder, token"] == totals.decoder_tokens
    spoken = totals.decoder_runs + totals.memory_hits
    assert calls["window with text"] == spoken
    assert (
        totals.windows - spoken <= calls["window without text"] <= totals.windows - spoken + 1
    )  # flush() may give one more
    assert calls["capture"] == 16 * 25
    assert sum(row.share for row in found.rows) == pytest.approx(1)
    for row in found.rows:
        assert row.min <= row.p50 <= row.p90 <= row.p95 <= row.p99 <= row.max
        assert row.enqueue_p50 is None and row.device_p50 is None, "a CPU has no device clock"
    assert len(probe.similarities) >= totals.windows - 2
    assert all(-1.01 <= cosine <= 1.01 for _, cosine in probe.similarities)


def test_a_profile_of_every_window_decodes_every_window(tiny_bundle: Path, video: Path) -> None:
    probe = Probe()
    found = profile(Model(tiny_bundle, probe=probe), video, probe, gates=NO_GATES)
    assert found.totals.decoder_runs == found.totals.windows
    assert found.how["gates"] == {"scene": False, "meaning": False, "memory": False, "rest": False}


def test_what_the_system_does_not_say_is_unknown(
    tiny_bundle: Path, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_POWERCAP", "_HWMON", "_THERMAL"):
        monkeypatch.setattr(power, name, tmp_path)
    found, _ = measured(tiny_bundle, video)
    summary = found.as_dict()["summary"]
    for name in ("watts", "joules_a_window", "joules_a_text", "celsius", "throttled"):
        assert summary[name] is None
    assert summary["power_from"] == "unknown" and "unknown:" not in views.markdown(found).split("- unknown: ")[0]
    [unknown] = [line for line in views.summary_lines(found) if "unknown" in line]
    assert {"watts", "joules a window", "joules a text", "power from", "celsius", "throttled"} <= set(
        unknown.removeprefix("unknown: ").split(", ")
    )


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="ascii")


def test_energy_from_rapl_also_when_the_counter_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_POWERCAP", "_HWMON", "_THERMAL"):
        monkeypatch.setattr(power, name, tmp_path / name)
    for number in (0, 1):
        package = tmp_path / "_POWERCAP" / f"intel-rapl:{number}"
        write(package / "energy_uj", 500_000)
        write(package / "max_energy_range_uj", 1_000_000 if number else 10_000_000)
    write(tmp_path / "_THERMAL" / "thermal_zone0" / "temp", 43_500)
    with power.EnergyMeter() as meter:
        write(tmp_path / "_POWERCAP" / "intel-rapl:0" / "energy_uj", 2_500_000)
        write(tmp_path / "_POWERCAP" / "intel-rapl:1" / "energy_uj", 100_000)
    assert meter.power.joules == pytest.approx(2.0 + 0.6)
    assert meter.power.watts and meter.power.celsius == 43.5 and "RAPL" in meter.power.source


def test_power_of_a_jetson_s_rail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_POWERCAP", "_HWMON", "_THERMAL"):
        monkeypatch.setattr(power, name, tmp_path / name)
    monkeypatch.setattr(power, "_EVERY", 0.01)
    rail = tmp_path / "_HWMON" / "hwmon3"
    write(rail / "in1_label", "VDD_IN")
    write(rail / "in1_input", 5_000)
    write(rail / "curr1_input", 1_500)
    write(rail / "in2_label", "VDD_CPU_GPU_CV")
    with power.EnergyMeter() as meter:
        wait_for(lambda: meter._watts)
    assert meter.power.watts == pytest.approx(7.5) and "INA3221" in meter.power.source


def test_energy_of_a_card_by_nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_POWERCAP", "_HWMON", "_THERMAL"):
        monkeypatch.setattr(power, name, tmp_path)
    spent = iter([1_000_000, 1_012_500])
    nvml = ModuleType("pynvml")
    nvml.nvmlInit = lambda: None  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetHandleByIndex = lambda number: number  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle: next(spent)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with power.EnergyMeter() as meter:
        pass
    assert meter.power.joules == pytest.approx(12.5) and "NVML" in meter.power.source


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system on which nothing can be read, until a test writes it."""
    for name, folder in (("_CPUS", "cpu"), ("_DEVFREQ", "devfreq"), ("_THERMAL", "thermal"), ("_NVPMODEL", "status")):
        monkeypatch.setattr(clocks, name, tmp_path / folder)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return tmp_path


def test_clocks_that_nobody_tells_are_unknown(board: Path) -> None:
    assert clocks.read_clocks() == clocks.Clocks(None, None, None, None, None, None, None)


def test_clocks_of_a_jetson(board: Path) -> None:
    for core, now in ((0, 729_600), (1, 1_510_400)):
        write(board / "cpu" / f"cpu{core}" / "cpufreq" / "scaling_cur_freq", now)
        write(board / "cpu" / f"cpu{core}" / "cpufreq" / "cpuinfo_max_freq", 1_510_400)
        write(board / "cpu" / f"cpu{core}" / "cpufreq" / "scaling_governor", "schedutil")
    write(board / "devfreq" / "17000000.gpu" / "cur_freq", 305_000_000)
    write(board / "devfreq" / "17000000.gpu" / "max_freq", 624_750_000)
    write(board / "devfreq" / "15340000.vic" / "cur_freq", 999_000_000)
    write(board / "status", "pmode:0002")
    write(board / "thermal" / "cooling_device0" / "type", "pwm-fan")
    write(board / "thermal" / "cooling_device0" / "cur_state", 3)
    write(board / "thermal" / "cooling_device1" / "type", "cpufreq-cpu0")
    write(board / "thermal" / "cooling_device1" / "cur_state", 0)
    found = clocks.read_clocks()
    assert found == clocks.Clocks(1510.4, 1510.4, "schedutil", 305.0, 624.75, "0002", False), "a fan slows nothing down"
    write(board / "thermal" / "cooling_device1" / "cur_state", 2)
    assert clocks.read_clocks().throttled is True


def test_throttling_that_has_passed_is_seen_by_its_count(board: Path) -> None:
    count = board / "cpu" / "cpu0" / "thermal_throttle" / "package_throttle_count"
    write(count, 7)
    before = clocks.throttle_count()
    assert before == 7 and clocks.read_clocks(before).throttled is False
    write(count, 9)
    assert clocks.read_clocks(before).throttled is True


@pytest.mark.parametrize("reasons, throttled", [(0, False), (1, False), (0x40, True), (0x4 | 1, True)])
def test_clocks_of_a_card_by_nvml(board: Path, monkeypatch: pytest.MonkeyPatch, reasons: int, throttled: bool) -> None:
    nvml = ModuleType("pynvml")
    values = {
        "NVML_CLOCK_SM": 1,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetClockInfo": lambda card, kind: 1410,
        "nvmlDeviceGetMaxClockInfo": lambda card, kind: 1980,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda card: reasons,
    }
    for name, value in values.items():
        setattr(nvml, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = clocks.read_clocks()
    assert (found.card_mhz, found.card_most_mhz, found.throttled) == (1410, 1980, throttled)


def test_a_slowed_down_board_is_warned_of(tiny_bundle: Path, video: Path, board: Path) -> None:
    write(board / "thermal" / "cooling_device0" / "type", "Processor")
    write(board / "thermal" / "cooling_device0" / "cur_state", 1)
    found, _ = measured(tiny_bundle, video)
    assert any("throttled" in line for line in found.warnings) and found.as_dict()["summary"]["throttled"] is True


class Paced(SyntheticSource):
    """A camera: the drawn stream, ten times as fast as it should be."""

    live = True

    def frames(self) -> Iterator[Frame]:
        for frame in super().frames():
            time.sleep(self.period / 10)
            yield frame


def test_a_camera_s_frames_have_an_age(tiny_bundle: Path, video: Path) -> None:
    probe = Probe()
    found = profile(Model(tiny_bundle, probe=probe), Paced(12), probe)
    summary = found.as_dict()["summary"]
    assert 0 < summary["frame_age_p50"] <= summary["frame_age_p95"] < 10_000
    assert len(probe.ages) == found.totals.windows and not probe._completed_at
    assert found.frames == 360 and summary["frames_a_second"] > 0
    of_a_file, _ = measured(tiny_bundle, video)
    assert of_a_file.as_dict()["summary"]["frame_age_p95"] is None, "a file is read ahead, and is as old as it is"


def test_the_page_holds_everything_itself(tiny_bundle: Path, video: Path) -> None:
    found, probe = measured(tiny_bundle, video)
    found.texts.append((1.0, "</script><b>not mark-up</b>"))
    page = views.page(found, probe, 0.85)
    assert not re.search(r"(src|href)=|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    data = json.loads(re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[0])
    assert data["texts"][-1][1] == "</script><b>not mark-up</b>" and data["threshold"] == 0.85
    assert {row["stage"] for row in data["stages"]} == set(data["samples"])
    assert data["spans"] and all(start <= end for _, start, end in data["spans"])


def test_the_trace_is_one_that_perfetto_reads(tiny_bundle: Path, video: Path) -> None:
    found, probe = measured(tiny_bundle, video)
    events = json.loads(views.trace(found, probe))["traceEvents"]
    whole = [event for event in events if event["ph"] == "X"]
    assert len(whole) == len(probe.spans) and min(event["ts"] for event in whole) == 0
    assert {"vision_encoder", "capture", "decoder, token"} <= {event["name"] for event in whole}
    lanes = {event["tid"] for event in events if event["ph"] == "M"}
    assert lanes == {event["tid"] for event in whole} and len(lanes) == 3, "capture, encoder and decoder overlap"
    by_lane: dict[int, list[tuple[float, float]]] = {}
    for event in whole:
        by_lane.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in by_lane.values():  # one thread does one thing at a time
        spans.sort()
        assert all(a[1] <= b[0] + 1 for a, b in pairwise(spans))


def test_the_command(tiny_bundle: Path, video: Path, tmp_path: Path) -> None:
    page, trace = tmp_path / "page.html", tmp_path / "trace.json"
    done = vlj_edge("profile", tiny_bundle, video, "--json", "--html", page, "--trace", trace)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["totals"]["windows"] > 20 and page.stat().st_size > 10_000 and json.loads(trace.read_text())
    table = vlj_edge("profile", tiny_bundle, video, "--every-window", "--no-overlap")
    assert all(text in table.stdout for text in ("vision_encoder", "peak megabytes: ", "overlap: no", "gates: none"))
    md = vlj_edge("profile", tiny_bundle, video, "--md")
    assert "windows/s" in md.stdout.splitlines()[0] and "\n| stage | calls |" in md.stdout
    ratios = vlj_edge("profile", tiny_bundle, video, "--against", tiny_bundle, "--rounds", "2", "--json")
    assert json.loads(ratios.stdout)["milliseconds a window"]["ratio"] > 0
    refused = vlj_edge("profile", tiny_bundle, video, "--against", tiny_bundle, "--html", page)
    assert "leave --html" in error_of(refused, 2)
    assert "is no bundle" in error_of(vlj_edge("profile", tmp_path))


def test_one_argument_is_a_source_unless_it_is_a_folder_without_images(video: Path) -> None:
    done = vlj_edge("profile", video, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["totals"]["windows"] > 20, done.stderr
    assert "rtsp://127.0.0.1:1/x" in error_of(vlj_edge("profile", "rtsp://127.0.0.1:1/x"))


def test_without_a_source_a_stream_is_drawn(tiny_bundle: Path) -> None:
    frames = list(SyntheticSource(9).frames())
    assert len(frames) == 270 and frames[0].image.shape == (480, 640, 3)
    moves = [(a.image != b.image).any() for a, b in pairwise(frames)]
    assert all(moves[:115]) and not any(moves[125:235]) and any(moves[240:])
