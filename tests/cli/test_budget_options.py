"""--texts-per-hour and --encodes-per-minute, in every command that has them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import run_here

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"


def totals_of(*arguments: str | Path) -> dict[str, Any]:
    done = run_here(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["totals"]
    return found


@pytest.fixture(scope="module")
def free() -> dict[str, Any]:
    """The totals of the demo without a budget."""
    return totals_of("narrate", DEMO, "--end", "60")


def test_fewer_texts_are_made_and_the_totals_say_so(free: dict[str, Any]) -> None:
    tight = totals_of("narrate", DEMO, "--end", "60", "--texts-per-hour", "180")
    texts = tight["decoder_runs"] + tight["memory_hits"]
    assert 2 <= texts <= 180 * tight["video_seconds"] / 3600 + 1 < free["decoder_runs"] + free["memory_hits"]
    assert tight["changes_left_out"] > 0 == free["changes_left_out"] == tight["looks_left_out"]


def test_the_encoder_runs_less_often(free: dict[str, Any]) -> None:
    tight = totals_of("narrate", DEMO, "--end", "60", "--encodes-per-minute", "12")
    most = 12 * tight["video_seconds"] / 60 + 6  # half a minute's runs are saved up at first
    assert tight["encoder_runs"] <= most < free["encoder_runs"]
    assert tight["looks_left_out"] > 0 == free["looks_left_out"]


def test_a_budget_that_is_large_enough_changes_nothing(video: Path, tiny_bundle: Path) -> None:
    plain = run_here("narrate", video, "--bundle", tiny_bundle)
    ample = run_here("narrate", video, "--bundle", tiny_bundle, "--texts-per-hour", 1e6, "--encodes-per-minute", 1e6)
    assert ample.stdout.splitlines()[:-1] == plain.stdout.splitlines()[:-1]
    assert "0 changes left out, 0 looks left out" in ample.stdout and "left out" not in plain.stdout


def test_several_sources_have_a_budget_each(video: Path, tiny_bundle: Path) -> None:
    arguments = ("narrate", f"a={video}", f"b={video}", "--bundle", tiny_bundle, "--texts-per-hour", "1")
    lines = [line for line in run_here(*arguments).stdout.splitlines() if "windows" in line]
    assert len(lines) == 2 and all("1 decoder runs" in line and "2 changes left out" in line for line in lines)
    assert not any("looks" in line for line in lines)


def test_embed_repeats_an_embedding_that_the_budget_does_not_allow(
    video: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found.jsonl"
    arguments = ("embed", video, "--bundle", tiny_bundle, "--out", out, "--encodes-per-minute", "4")
    done = run_here(*arguments)
    assert done.returncode == 0 and "looks left out" in done.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found[0]["encoded"] and 2 <= sum(each["encoded"] for each in found) <= 3, "two are saved up"
    for earlier, later in pairwise(found):
        if not later["encoded"]:
            np.testing.assert_array_equal(earlier["embedding"], later["embedding"])


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "many", "1e7"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("narrate", "--texts-per-hour"),
        ("narrate", "--encodes-per-minute"),
        ("serve", "--texts-per-hour"),
        ("embed", "--encodes-per-minute"),
    ],
)
def test_what_is_no_limit_is_refused(command: str, option: str, value: str) -> None:
    done = run_here(command, DEMO, option, value)
    assert done.returncode == 2 and option in done.stderr and "Traceback" not in done.stderr


def test_a_budget_and_every_window_exclude_each_other(video: Path) -> None:
    done = run_here("narrate", video, "--every-window", "--texts-per-hour", "3")
    assert done.returncode == 2 and "--every-window" in done.stderr


def test_explain_says_what_a_change_would_have_to_be() -> None:
    arguments = ("narrate", DEMO, "--end", "40", "--texts-per-hour", "180", "--explain")
    done = run_here(*arguments, "--json")
    windows = [json.loads(line)["window"] for line in done.stdout.splitlines() if line.startswith('{"window"')]
    meaning = [each for window in windows for each in window["decisions"] if each["gate"] == "meaning"]
    refused = [each for each in meaning if each["verdict"] == "refused"]
    assert refused
    for decision in refused:
        last = decision["checks"][-1]
        assert last["name"] in ("texts_per_hour", "price") and not last["holds"]
    lines = run_here(*arguments).stderr
    assert " refused " in lines and "texts saved up" in lines
