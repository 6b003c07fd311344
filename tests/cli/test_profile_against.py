"""vlj-edge profile --against: what it may name, what is printed, and the limit of --fail-over."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import run_here
from tests.needs import needs
from tests.runtime.tiny_bundle import GREEN, RED
from vlj_edge.cli import profile_against
from vlj_edge.cli.options import EngineOptions
from vlj_edge.cli.profile_against import _changed
from vlj_edge.cli.profile_engines import measure_each
from vlj_edge.runtime.engines.base import BACKENDS, WITH_SETTINGS
from vlj_edge.runtime.profiling import compare as comparing
from vlj_edge.runtime.profiling.profile import profile


def against(bundle: Path, video: Path, what: object, *options: str) -> dict[str, Any]:
    done = run_here("profile", bundle, video, "--against", what, "--rounds", "2", "--json", *options)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["milliseconds a window"]["ratio"] > 0
    return found


@pytest.fixture
def short(make_video: Callable[..., Path]) -> Path:
    return make_video([(RED, 2), (GREEN, 2)])


@needs("openvino")
@pytest.mark.parametrize("words", ["openvino", "backend=openvino", "threads=1,openvino"])
def test_a_backend(words: str, tiny_bundle: Path, short: Path) -> None:
    found = against(tiny_bundle, short, words, "--threads", "1")
    ours, theirs = found["differs"]["backend"]
    assert ours.startswith("ONNX Runtime") and theirs.startswith("OpenVINO")
    assert set(found["differs"]) == {"backend"}
    assert found["conditions"]["theirs"]["backend"] == theirs


def test_settings_and_everything_the_same(tiny_bundle: Path, short: Path) -> None:
    assert against(tiny_bundle, short, "threads=2", "--threads", "1")["differs"] == {"threads": ["1", "2"]}
    done = run_here("profile", tiny_bundle, short, "--against", "onnxruntime", "--rounds", "2")
    assert done.returncode == 0 and "the same machine" in done.stdout and "differs" not in done.stdout


def test_a_folder_with_the_name_of_a_backend_is_a_folder(
    tiny_bundle: Path, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "openvino")
    monkeypatch.chdir(tmp_path)
    assert against(tiny_bundle, short, "openvino")["differs"] == {"bundle": [str(tiny_bundle), "openvino"]}


def test_a_saved_profile_of_another_machine(tiny_bundle: Path, short: Path, tmp_path: Path) -> None:
    saved = json.loads(run_here("profile", tiny_bundle, short, "--json").stdout)
    saved["conditions"] |= {"cpu": "Cortex-A78AE", "machine": "NVIDIA Jetson Orin"}
    for row in saved["stages"]:
        of_encoder = row["stage"] == "vision_encoder"
        row |= {"p50": row["p50"] / (1000 if of_encoder else 1e-3), "share": 0.5 if of_encoder else row["share"]}
    saved["totals"]["wall_seconds"] *= 1000
    other = tmp_path / "orin.json"
    other.write_text(json.dumps(saved))
    call = ("profile", tiny_bundle, short, "--against", other, "--rounds", "2")
    done = run_here(*call, "--fail-over", "1.1")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "vision_encoder" in done.stderr and "milliseconds a window" not in done.stderr.replace("CPU mill", "")
    assert "orin.json" in done.stderr and "--fail-over 1.1" in done.stderr
    assert "cpu differs: " in done.stdout and "NVIDIA Jetson Orin" in done.stdout
    assert run_here(*call, "--fail-over", "1e6").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nothing", "tokens=SHARE"),
        ("nothing.json", "profile --json"),
        ("some/where", "a bundle"),
        ("tokens=2", "share"),
        ("threads=0", "threads=0: threads: 0"),
        ("threads=x", "threads=x"),
        ("threads", "threads=NUMBER"),
        ("threads=1,threads=2", "threads=NUMBER"),
        ("words=loud", "tokens=SHARE"),
        ("precision=int8", "--precision int8"),
        ("", "--against"),
        ("x" * 300, "tokens=SHARE"),
    ],
)
def test_what_is_nothing_to_compare_with_is_a_wrong_call(words: str, said: str, tiny_bundle: Path) -> None:
    done = run_here("profile", tiny_bundle, "--against", words)
    assert done.returncode == 2 and said in done.stderr and done.stdout == "", done.stderr


@pytest.mark.parametrize("name", [*BACKENDS, *WITH_SETTINGS])
def test_every_name_of_a_backend_may_be_compared_with(name: str) -> None:
    options = EngineOptions("onnxruntime", None, 1, "all", False)
    for words in (name, f"backend={name}", f"threads=2,{name}"):
        assert _changed(options, words).backend == name


def test_a_setting_that_the_bundle_has_not_is_said(tiny_bundle: Path, short: Path) -> None:
    done = run_here("profile", tiny_bundle, short, "--against", "tokens=0.5")
    assert done.returncode == 2 and "--token-shares" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", [("--seconds", "5"), ("--windows", "5"), ("--repeat", "2"), ("--csv",)])
def test_a_comparison_refuses_what_it_would_ignore(option: tuple[str, ...], tiny_bundle: Path) -> None:
    done = run_here("profile", tiny_bundle, "--against", tiny_bundle, *option)
    assert done.returncode == 2 and option[0] in done.stderr and done.stdout == ""


def test_a_comparison_fails_over_a_ratio(tiny_bundle: Path, make_video: Callable[..., Path]) -> None:
    call = ("profile", tiny_bundle, make_video([(RED, 3)]), "--against", tiny_bundle, "--rounds", "2", "--json")
    for limit, code in (("1e-6", 1), ("1e6", 0)):
        done = run_here(*call, "--fail-over", limit)
        assert done.returncode == code and json.loads(done.stdout)["milliseconds a window"]["ratio"] > 0
        assert done.stderr.count("error: ") == done.stderr.count("\n") == code
    assert run_here("profile", tiny_bundle, "--fail-over", "1.1").returncode == 2


def test_engines_alone_against_settings_a_bundle_and_a_file(tiny_bundle: Path, tmp_path: Path) -> None:
    call = ("profile", "--bundle", tiny_bundle, "--engines-only", "--windows", "3", "--warmup", "0", "--threads", "1")
    told = json.loads(run_here(*call, "--json").stdout)
    names = [f"{row['engine']}, p50" for row in told["engines"]]
    saved = tmp_path / "orin.json"
    saved.write_text(json.dumps(told | {"engines": [row | {"p50": row["p50"] / 1e4} for row in told["engines"]]}))
    for what, differs in (("threads=2", {"threads": ["1", "2"]}), (tiny_bundle, {}), (saved, {})):
        found = json.loads(run_here(*call, "--against", what, "--rounds", "2", "--json").stdout)
        assert [name for name in found if name.endswith("p50")] == names and found["differs"] == differs
    assert found["predictor, p50"]["ratio"] > 100
    failed = run_here(*call, "--against", saved, "--rounds", "2", "--fail-over", "2")
    assert failed.returncode == 1 and "predictor, p50" in failed.stderr and "orin.json" in failed.stderr


@pytest.mark.parametrize("engines_only", [False, True])
def test_whole_windows_and_engines_alone_are_not_compared(
    engines_only: bool, tiny_bundle: Path, tmp_path: Path
) -> None:
    call = ["profile", "--bundle", tiny_bundle, "--windows", "3"]
    calls = [[*call, "--engines-only"], ["profile", tiny_bundle]]
    saved = tmp_path / "saved.json"
    saved.write_text(run_here(*(call if engines_only else calls[0]), "--json").stdout)
    done = run_here(*calls[not engines_only], "--against", saved)
    assert done.returncode == 1 and "saved.json" in done.stderr and done.stderr.count("\n") == 1
    assert ("whole windows" if engines_only else "--engines-only") in done.stderr


@pytest.mark.parametrize("option", [("--tokens", "all"), ("--repeat", "2"), ("--csv",), ("--every-window",)])
def test_engines_alone_refuse_what_they_would_ignore(option: tuple[str, ...], tiny_bundle: Path) -> None:
    done = run_here("profile", "--bundle", tiny_bundle, "--engines-only", "--against", tiny_bundle, *option)
    assert done.returncode == 2 and done.stdout == "" and done.stderr


@pytest.mark.signals
@pytest.mark.parametrize("engines_only", [False, True])
def test_ctrl_c_prints_the_rounds_that_were_measured(
    engines_only: bool, tiny_bundle: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = 0
    measure = measure_each if engines_only else profile

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal measured
        measured += 1
        if measured == 5:  # the first of the third round
            signal.raise_signal(signal.SIGINT)
        return measure(*args, **options)

    monkeypatch.setattr(*((profile_against, "measure_each") if engines_only else (comparing, "profile")), counted)
    words = ("--engines-only", "--windows", "2", "--bundle", tiny_bundle) if engines_only else (tiny_bundle, short)
    done = run_here("profile", *words, "--against", "threads=1", "--json")
    assert done.returncode == 130 and "2 of 5" in done.stderr, done.stderr
    assert json.loads(done.stdout)["vision_encoder, p50"]["ratio"] > 0


def test_another_part_of_the_same_recording_is_said(tiny_bundle: Path, short: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    saved.write_text(run_here("profile", tiny_bundle, short, "--repeat", "2", "--json").stdout)
    assert against(tiny_bundle, short, saved)["differs"] == {}
    assert set(against(tiny_bundle, short, saved, "--duration", "3")["differs"]) == {"video_seconds"}
