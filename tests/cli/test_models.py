"""vlj-edge models: what it lists is true of this version and of the installed transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vlj_edge
from tests.cli.command import run_here
from vlj_edge.export.families.find import architectures
from vlj_edge.export.hub import Name, open_vljepa, parse_name

ROWS: list[dict[str, Any]] = json.loads((Path(vlj_edge.__file__).parent / "models.json").read_text(encoding="utf-8"))
OTHERS = {"VL-JEPA", "EfficientNet-Lite0, MiniLM"}  # that are not one class of transformers
KEYS = {
    "repository",
    "architecture",
    "million_parameters",
    "licence",
    "gated",
    "input",
    "texts",
    "labels",
    "search",
    "ask",
}


def test_rows_are_of_one_form() -> None:
    names = [row["repository"] for row in ROWS]
    assert len(set(names)) == len(names)
    for row in ROWS:
        assert set(row) == KEYS
        assert row["repository"] == "things" or parse_name(row["repository"]) == Name(row["repository"])
        assert row["gated"] in (True, False, None, "parts")


def test_what_is_listed_can_be_exported_and_what_can_be_exported_is_listed() -> None:
    done = run_here("models", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert {row["architecture"] for row in listed} - OTHERS == set(architectures())
    assert [row for row in listed if row["repository"] == open_vljepa.REPOSITORY]


def test_the_table_shows_each_row_whole() -> None:
    out = run_here("models").stdout
    for row in json.loads(run_here("models", "--json").stdout):
        [line] = [line for line in out.splitlines() if f" {row['repository']} " in line]
        assert (row["licence"] or "none named") in line
        assert row["million_parameters"] is None or f"{row['million_parameters']:,} M" in line


def test_what_was_measured_is_what_the_benchmark_found() -> None:
    results = json.loads((Path(__file__).parents[2] / "results" / "models.json").read_text(encoding="utf-8"))["models"]
    listed = {row["repository"]: row["measured"] for row in json.loads(run_here("models", "--json").stdout)}
    assert {name for name, found in listed.items() if found} == set(results)
    out = run_here("models").stdout
    for name, found in results.items():
        [line] = [line for line in out.splitlines() if f" {name} " in line]
        for precision, row in listed[name].items():
            assert row["megabytes"] == round(sum(found[precision]["megabytes"].values()))
            if times := found[precision].get("ms_a_window"):
                assert row["milliseconds"] == round(min(times.values()))
            assert row.get("cosine") == found[precision].get("cosine")
        assert f" {listed[name]['fp16']['megabytes']:,} " in line


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["repository"]))
def test_architectures_are_classes_of_transformers(row: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    if row["architecture"] not in {*OTHERS, "PE-Core"}:
        assert hasattr(transformers, row["architecture"])
