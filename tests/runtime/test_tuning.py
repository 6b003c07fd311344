"""vlj-edge tune: kept for this bundle, machine and version, and for nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.commands.command import error_of, vlj_edge
from vlj_edge.bundle import read_manifest, verify_bundle
from vlj_edge.runtime import pipeline, tuning
from vlj_edge.runtime.engine import open_engine, usable_cores
from vlj_edge.runtime.pipeline import Model
from vlj_edge.runtime.tuning import Tuning, read_tuning, tune


@pytest.fixture
def own(tmp_path: Path, tiny_bundle: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_the_best_of_what_was_tried_is_kept_and_used(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(own)
    assert read_tuning(own, manifest) is None
    tried = tune(own, manifest)
    assert read_tuning(own, manifest) == tried[0].tuning
    assert {one.tuning.threads for one in tried} >= {1, usable_cores()}
    fastest = min(one.wall for one in tried)
    assert tried[0].wall <= 1.03 * fastest
    verify_bundle(own)
    wanted: list[dict[str, Any]] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        wanted.append(options)
        return open_engine(*arguments, **options)

    monkeypatch.setattr(pipeline, "open_engine", spy)
    _ = Model(own)._encoder
    assert (wanted[0]["threads"], wanted[0]["spin"]) == (tried[0].tuning.threads, tried[0].tuning.spin)
    _ = Model(own, threads=3)._encoder
    assert wanted[-1]["threads"] == 3 and "spin" not in wanted[-1], "what is asked for goes before what was measured"


def kept_file(own: Path) -> Path:
    tuning._write(own, read_manifest(own), tuning.Tried(Tuning(2, True), 1.0, 2.0))
    [path] = own.glob("engines/*/tuning.json")
    return path


@given(data=st.data())
def test_what_does_not_fit_is_not_used(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    from tests.runtime import tiny_bundle as by_hand

    own = by_hand.build(tmp_path_factory.mktemp("tuned") / "bundle")
    path, manifest = kept_file(own), read_manifest(own)
    assert read_tuning(own, manifest) == Tuning(2, True)
    raw = json.loads(path.read_text())
    where = data.draw(st.sampled_from(["bundle", "cores", "tuning"]))
    raw[where] = data.draw(
        st.one_of(st.none(), st.integers(1000), st.text(), st.dictionaries(st.text(), st.integers()))
    )
    path.write_text(json.dumps(raw))
    assert read_tuning(own, manifest) is None


@pytest.mark.parametrize(
    "wrong", [{"threads": 0, "spin": True}, {"threads": True, "spin": True}, {"threads": 2, "spin": 1}]
)
def test_settings_that_make_no_sense_are_not_used(own: Path, wrong: dict[str, Any]) -> None:
    path = kept_file(own)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tuning": wrong}))
    assert read_tuning(own, read_manifest(own)) is None


def test_another_version_or_processor_has_its_own(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_file(own)
    monkeypatch.setattr(tuning, "_version", lambda: "9.9")
    assert read_tuning(own, read_manifest(own)) is None
    monkeypatch.undo()
    monkeypatch.setattr(tuning, "_processor", lambda: "A Faster One (TM)")
    assert read_tuning(own, read_manifest(own)) is None


def test_the_command(own: Path) -> None:
    done = vlj_edge("tune", own)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("kept") == 1
    shutil.rmtree(own / "engines")
    (own / "engines").write_text("in the way")
    assert "cannot be written" in error_of(vlj_edge("tune", own))
