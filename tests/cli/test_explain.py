"""vlj-edge narrate --explain: a line for every window, with the numbers that the gates decided on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.command import after_backend_warning, run_here
from vlj_edge.decision_words import check_text
from vlj_edge.decisions import Check

TRUE = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}


def test_each_window_has_a_line_on_stderr_and_the_results_stay_as_they_are(video: Path, tiny_bundle: Path) -> None:
    plain = run_here("narrate", video, "--bundle", tiny_bundle)
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--explain")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:-1] == plain.stdout.splitlines()[:-1]  # the last has the speed
    lines = after_backend_warning(done.stderr).splitlines()
    windows = [line for line in lines if " s  from the " not in line]
    assert [float(line.split(" s  ")[0]) for line in windows] == sorted(
        float(line.split(" s  ")[0]) for line in windows
    )
    assert len(windows) == 17  # as the totals say
    texts = [line for line in windows if " TEXT " in line]
    assert len(texts) == len(lines) - len(windows) == 3
    compared = re.findall(r"(-?[\d.]+)(?: s| cells| windows)?(?: since the \w+)? ([<>]=?) ([\d.]+)", "\n".join(windows))
    assert len(compared) >= len(windows)
    assert all(TRUE[operator](float(value), float(bound)) for value, operator, bound in compared), "as it turned out"


def test_json_has_an_object_for_each_window_and_each_text(video: Path, tiny_bundle: Path) -> None:
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--explain", "--json")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    totals = objects[-1]["totals"]
    windows = [each["window"] for each in objects if "window" in each]
    memory = [each["memory"] for each in objects if "memory" in each]
    assert [window["index"] for window in windows] == list(range(totals["windows"]))
    assert {window["source"] for window in windows} == {totals["source"]}
    decisions = [decision for window in windows for decision in window["decisions"]]
    encoded = [each for each in decisions if each["gate"] == "scene" and each["verdict"] == "encoded"]
    assert len(encoded) == totals["encoder_runs"]
    assert sum(each["decision"]["verdict"] == "decoded" for each in memory) == totals["decoder_runs"]
    for check in (check for decision in decisions for check in decision["checks"] if check["value"] is not None):
        assert TRUE[check["operator"]](float(check["value"]), float(check["bound"])) == check["holds"]
    assert len([each for each in objects if "text" in each]) == totals["narrations"]


@pytest.mark.parametrize("arguments", [["another.mp4"], ["--out", "."]])
def test_it_is_for_one_source(video: Path, arguments: list[str]) -> None:
    done = run_here("narrate", video, *arguments, "--explain")
    assert done.returncode == 2 and "--explain is for one source" in done.stderr


def test_gates_that_are_off_are_explained_too(video: Path, tiny_bundle: Path) -> None:
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--explain", "--every-window")
    lines = after_backend_warning(done.stderr).splitlines()
    assert sum("rest off" in line and "encoded" in line and "TEXT" in line for line in lines) == 17


def test_numbers_that_are_near_each_other_are_told_apart() -> None:
    assert check_text(Check("same", 0.96999, ">=", 0.97, 0.97)) == "cosine 0.96999 < 0.97 same"
    assert check_text(Check("same", 0.97, ">=", 0.97, 0.97)) == "cosine 0.97 >= 0.97 same"
    lowered = check_text(Check("speak_below", 0.91, "<", 0.9, 0.965), noise=0.967)
    assert lowered == "cosine 0.91 >= 0.9 speak_below (set to 0.965, noise 0.967)"
