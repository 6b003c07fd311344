"""Comparisons of two sides, and of one with a saved profile: ratios, what differs, and what a limit is put on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.tiny_bundle import GREEN, RED
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.profiling import compare
from vlj_edge.runtime.profiling.compare import CPU, WINDOW, Side, compare_saved, compare_sides, read_saved
from vlj_edge.runtime.profiling.probe import Probe
from vlj_edge.runtime.profiling.profile import profile
from vlj_edge.runtime.video.synthetic import SyntheticSource


@pytest.fixture(scope="module")
def measured_once(tiny_bundle: Path) -> str:
    probe = Probe()
    with Model(tiny_bundle, probe=probe) as model:
        return json.dumps(profile(model, SyntheticSource(3), probe).as_dict())


@pytest.fixture
def saved(measured_once: str) -> dict[str, Any]:
    """What profile --json prints."""
    found: dict[str, Any] = json.loads(measured_once)
    return found


def written(folder: Path, found: Any) -> Path:
    path = folder / "other.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    return path


def test_two_sides_are_measured_in_both_orders(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    measuring = compare.profile

    def measured(model: Model, *arguments: Any, **options: Any) -> Any:
        order.append(model.chain.threads)
        return measuring(model, *arguments, **options)

    monkeypatch.setattr(compare, "profile", measured)
    sides = Side(tiny_bundle, {"threads": 1}), Side(tiny_bundle, {"threads": 2})
    found = compare_sides(*sides, lambda: SyntheticSource(2), rounds=4)
    assert order == [1, 2, 2, 1, 1, 2, 2, 1]
    assert {WINDOW, CPU, "vision_encoder, p50"} <= set(found.ratios)
    for row in found.ratios.values():
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"]) and row["low"] <= row["high"]
    assert found.differs == {"threads": ("1", "2")}
    with pytest.raises(VljEdgeError, match="2 or more"):
        compare_sides(*sides, lambda: SyntheticSource(2), rounds=1)


def test_other_files_of_a_bundle_differ(tiny_bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    (other / "manifest.json").write_text((tiny_bundle / "manifest.json").read_text() + "\n")
    found = compare_sides(Side(tiny_bundle), Side(other), lambda: SyntheticSource(2), rounds=2)
    assert set(found.differs) == {"bundle", "bundle_sha256"}


def test_a_saved_profile_stands_for_the_other_side(
    tiny_bundle: Path, tmp_path: Path, saved: dict[str, Any], make_video: Callable[..., Path]
) -> None:
    for row in saved["stages"]:
        row["p50"] = 1e-3 if row["stage"] == "vision_encoder" else 1e6
    saved["conditions"] |= {"cpu": "a Cortex-A78AE", "versions": {"python": "3.10.12"}}
    their = read_saved(written(tmp_path, saved))
    found = compare_saved(Side(tiny_bundle), their, make_video([(RED, 2), (GREEN, 2)]), rounds=2)
    assert found.ratios[WINDOW]["theirs"] == pytest.approx(
        1e3 * saved["totals"]["wall_seconds"] / saved["totals"]["windows"]
    )
    assert found.ratios["vision_encoder, p50"]["ratio"] > 1 > found.ratios["meaning gate, p50"]["ratio"]
    assert found.differs["cpu"][1] == "a Cortex-A78AE" and found.differs["versions"][1] == "python 3.10.12"
    assert found.differs["source"][1] == "a generated video"
    assert found.conditions["theirs"]["cpu"] == "a Cortex-A78AE" != found.conditions["ours"]["cpu"]


def test_a_camera_has_no_time_for_a_window(saved: dict[str, Any], tmp_path: Path) -> None:
    recording = read_saved(written(tmp_path, saved)).quantities
    live = saved | {"summary": saved["summary"] | {"frame_age_p50": 12.0}}
    camera = read_saved(written(tmp_path, live)).quantities
    assert set(recording) - set(camera) == {WINDOW}
    unknown = saved | {"summary": saved["summary"] | {"cpu_seconds_a_minute": None}}
    assert set(recording) - set(read_saved(written(tmp_path, unknown)).quantities) == {CPU}


def test_a_limit_is_put_on_what_costs_and_is_no_chance(saved: dict[str, Any], tmp_path: Path) -> None:
    for row in saved["stages"]:
        row["share"] = {"vision_encoder": 0.6, "predictor": 0.3}.get(row["stage"], 0.01)
    our = read_saved(written(tmp_path, saved))
    sure = {"ours": 12.0, "theirs": 10.0, "ratio": 1.2, "low": 1.1, "high": 1.3}
    rows = {
        WINDOW: sure,
        CPU: sure | {"ratio": 1.05},
        "vision_encoder, p50": sure | {"ratio": 1.5},
        "predictor, p50": sure | {"low": 0.8},
        "meaning gate, p50": sure,
    }
    found = compare.Comparison(rows, {}, {}, our.judged)
    assert list(found.slower(1.1)) == ["vision_encoder, p50", WINDOW]
    assert set(found.slower(1.0)) == {"vision_encoder, p50", WINDOW, CPU}
    assert found.slower(2) == {} and "predictor, p50" in found.slower(0.5)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"totals": 1e999}', "[" * 100_000, '{"engines": []}', "\xff\x00"],
    ids=["empty", "list", "nothing", "infinite", "nested", "engines only", "binary"],
)
def test_what_is_no_profile_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(VljEdgeError, match=r"some\.json.*profile --json") as caught:
        read_saved(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "place", [("totals", "windows"), ("totals", "wall_seconds"), ("stages", 0, "p50"), ("stages", 0, "share")]
)
@pytest.mark.parametrize("value", [-1, "12", None, float("nan"), [1]])
def test_values_that_no_profile_has_are_refused(
    place: tuple[Any, ...], value: Any, saved: dict[str, Any], tmp_path: Path
) -> None:
    inner: Any = saved
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(VljEdgeError, match=str(place[-1])):
        read_saved(written(tmp_path, saved))
