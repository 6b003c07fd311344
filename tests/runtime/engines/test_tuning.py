"""vlj-edge tune: its result is used for the same bundle, machine and versions only."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import error_of, vlj_edge
from tests.needs import needs
from vlj_edge.bundle import read_manifest, verify_bundle
from vlj_edge.runtime import chain
from vlj_edge.runtime.engines import tuning
from vlj_edge.runtime.engines.base import open_engine, usable_cores
from vlj_edge.runtime.engines.tuning import Tuning, read_tuning, tune
from vlj_edge.runtime.model import Model


@pytest.fixture
def own(tmp_path: Path, tiny_bundle: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@needs("openvino")
def test_the_best_of_what_was_tried_is_kept_and_used(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(own)
    assert read_tuning(own, manifest) is None
    tried = tune(own, manifest)
    assert read_tuning(own, manifest) == tried[0].tuning
    assert {one.tuning.threads for one in tried} >= {1, usable_cores()}
    assert {one.tuning.backend for one in tried} == {"onnxruntime", "openvino"}
    fastest = min(one.wall for one in tried if one.accepted)
    assert tried[0].accepted and tried[0].wall <= 1.03 * fastest
    assert all(one.cosine > 0.99999 for one in tried if not one.tuning.bf16)
    verify_bundle(own)
    wanted: list[dict[str, Any]] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        wanted.append(options)
        return open_engine(*arguments, **options)

    monkeypatch.setattr(chain, "open_engine", spy)
    _ = Model(own).chain.vision
    best = tried[0].tuning
    assert [wanted[0][key] for key in ("backend", "threads", "spin", "bf16")] == [
        best.backend,
        best.threads,
        best.spin,
        best.bf16,
    ]
    _ = Model(own, threads=3).chain.vision
    assert wanted[-1]["threads"] == 3 and "spin" not in wanted[-1], "what is asked for goes before what was measured"


def test_the_engines_of_one_setting_are_loaded_at_a_time(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    opened = tuning._open

    def watched(*arguments: Any) -> Any:
        assert not any(engine() for engine in alive), "24 layers twice do not fit where they fit once"
        engines = opened(*arguments)
        alive.extend(weakref.ref(engine) for engine in engines)
        return engines

    pixels: list[np.ndarray] = []
    timed = tuning._time

    def seen(engines: Any, clip: Any) -> Any:
        found = timed(engines, clip)
        pixels.append(engines[0].inputs["pixels"].copy())
        return found

    monkeypatch.setattr(tuning, "_open", watched)
    monkeypatch.setattr(tuning, "_time", seen)
    tried = tune(own, read_manifest(own))
    assert all(np.array_equal(one, pixels[0]) and one.any() for one in pixels), "all are timed on the same clip"
    assert len(alive) == 2 * 2 * len(tried)


def kept_file(own: Path) -> Path:
    tuning._write(own, read_manifest(own), tuning.TuningResult(Tuning(2, True), 1.0, 2.0, 1.0))
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
    "wrong",
    [
        {"threads": 0, "spin": True},
        {"threads": True, "spin": True},
        {"threads": 2, "spin": 1},
        {"threads": 2, "spin": False, "bf16": 1},
    ],
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
    monkeypatch.setattr(tuning, "processor", lambda: "A Faster One (TM)")
    assert read_tuning(own, read_manifest(own)) is None


@needs("openvino")
def test_what_means_something_else_is_refused_however_fast(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.openvino, "has_bf16", lambda: True)
    real = tuning._cosines

    def off(*arguments: Any) -> dict[Tuning, float]:
        found = real(*arguments)
        return {setting: 0.998 if setting.bf16 else cosine for setting, cosine in found.items()}

    opened = tuning._open  # what is loaded computes in fp32: not every processor that runs this has bf16
    monkeypatch.setattr(tuning, "_open", lambda d, m, s, q: opened(d, m, Tuning(s.threads, s.spin, s.backend), q))
    monkeypatch.setattr(tuning, "_cosines", off)
    tried = tune(own, read_manifest(own))
    refused = [one for one in tried if not one.accepted]
    assert refused and all(one.tuning.bf16 for one in refused)
    assert tried[-len(refused) :] == refused and not tried[0].tuning.bf16


@needs("openvino")
def test_openvinos_choice_goes_with_its_version(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(own)
    chosen = Tuning(1, False, "openvino")
    tuning._write(own, manifest, tuning.TuningResult(chosen, 1.0, 2.0, 1.0))
    assert read_tuning(own, manifest) == chosen
    model = Model(own)
    assert model.backend.name == "openvino" and "vlj-edge tune" in model.backend.reason
    assert "a text decoder by ONNX Runtime" in model.backend.description
    assert Model(own, backend="onnxruntime").backend.tuning is None
    for version in (None, "2031.1"):
        monkeypatch.setattr(tuning, "_openvino_version", lambda version=version: version)
        assert read_tuning(own, manifest) is None and Model(own).backend.name == "onnxruntime"


def test_the_command(own: Path) -> None:
    done = vlj_edge("tune", own)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("kept") == 1
    shutil.rmtree(own / "engines")
    (own / "engines").write_text("in the way")
    assert "cannot be written" in error_of(vlj_edge("tune", own))
