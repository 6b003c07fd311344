"""The engine cache: matching engines are found, others are refused with a remedy, and writers do not interfere."""

from __future__ import annotations

import json
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.bundle import BUILT_ENGINES, FileSeal, Manifest, read_manifest, verify_bundle
from vlj_edge.bundle.engine_cache import (
    BuiltEngine,
    Receipt,
    RuntimeId,
    engine_sources,
    find_engine,
    is_up_to_date,
    read_engine,
    store_engine,
)
from vlj_edge.errors import VljEdgeError
from vlj_edge.targets import TARGETS, target, with_gates

CARD = RuntimeId("tensorrt", "10.3.0", "sm87", "Orin (nvgpu)")
AHEAD = RuntimeId("tensorrt_rtx", "1.7.1.116", "sm86", None)
CARD_3060 = replace(AHEAD, device="NVIDIA GeForce RTX 3060")
OPTIONS: dict[str, Any] = {"workspace_mb": 512}


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def bundle(tmp_path: Path, tiny_bundle: Path) -> tuple[Path, Manifest]:
    import shutil

    directory = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, directory)
    return directory, read_manifest(directory)


def put(directory: Path, manifest: Manifest, runtime: RuntimeId = CARD, plan: bytes = b"plan", **others: Any) -> Path:
    sources = engine_sources(manifest, "predictor")
    receipt = Receipt("predictor", "", FileSeal(0, ""), sources, OPTIONS, runtime, {"layers": 3})
    return store_engine(directory, replace(receipt, **others), plan)


def test_what_was_built_is_found_and_the_bundle_stays_valid(bundle: tuple[Path, Manifest]) -> None:
    directory, manifest = bundle
    path = put(directory, manifest, plan=b"first")
    assert path.parent == directory / BUILT_ENGINES / "orin-nvgpu-sm87-tensorrt-10.3.0"
    assert read_engine(find_engine(directory, manifest, "predictor", CARD)) == b"first"
    put(directory, manifest, plan=b"second")
    assert read_engine(find_engine(directory, manifest, "predictor", CARD)) == b"second"
    assert len(list(path.parent.glob("*.engine"))) == 1, "the one that was replaced is gone"
    assert is_up_to_date(directory, manifest, "predictor", CARD, OPTIONS)
    assert not is_up_to_date(directory, manifest, "predictor", CARD, {"workspace_mb": None})
    verify_bundle(directory)


def test_an_engine_built_ahead_serves_every_card_of_its_capability(bundle: tuple[Path, Manifest]) -> None:
    directory, manifest = bundle
    put(directory, manifest, AHEAD, b"ahead")
    assert read_engine(find_engine(directory, manifest, "predictor", CARD_3060)) == b"ahead"
    with pytest.raises(VljEdgeError, match="vlj-edge build"):
        find_engine(directory, manifest, "predictor", replace(CARD_3060, sm="sm89"))
    put(directory, manifest, CARD_3060, b"own")
    assert read_engine(find_engine(directory, manifest, "predictor", CARD_3060)) == b"own", "the card's own comes first"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": replace(CARD, version="10.13.2")}, "predictor engine"),
        ({"sources": {"predictor.onnx": "0" * 64}}, "another graph"),
        ({"engine": "decoder"}, "predictor engine"),
    ],
)
def test_what_was_built_from_or_for_something_else_is_refused(
    bundle: tuple[Path, Manifest], change: dict[str, Any], message: str
) -> None:
    directory, manifest = bundle
    put(directory, manifest, **change)
    with pytest.raises(VljEdgeError, match=message) as error:
        find_engine(directory, manifest, "predictor", CARD)
    assert "vlj-edge build" in str(error.value)


def test_an_engine_from_elsewhere_has_to_be_named(
    bundle: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, manifest = bundle
    folder = put(directory, manifest).parent
    for home in ("elsewhere", "fresh"):  # with a key of its own, and before it ever made one
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / home))
        if home == "elsewhere":
            put(directory, manifest, replace(CARD, sm="sm72"))
        with pytest.raises(VljEdgeError, match="--engines"):
            find_engine(directory, manifest, "predictor", CARD)
        assert read_engine(find_engine(directory, manifest, "predictor", CARD, engines=folder)) == b"plan"
    with pytest.raises(VljEdgeError, match=re.escape("10.13.2")):
        find_engine(directory, manifest, "predictor", replace(CARD, version="10.13.2"), engines=folder)


def test_a_damaged_key_is_said(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    key = tmp_path / "data" / "vlj-edge" / "machine.key"
    put(*bundle)
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_bytes(b"short")
    with pytest.raises(VljEdgeError, match=r"machine\.key"):
        put(*bundle)


@given(data=st.data())
def test_no_field_of_a_receipt_can_be_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    from tests.runtime import tiny_bundle

    directory = tiny_bundle.build(tmp_path_factory.mktemp("signed") / "bundle")
    manifest = read_manifest(directory)
    path = put(directory, manifest).parent / "predictor.json"
    raw = json.loads(path.read_text())
    where = data.draw(
        st.sampled_from(["file", "sealed", "options", "runtime", "report", "signature", "version", "engine"])
    )
    values = st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.text()))
    raw[where] = data.draw(values.filter(lambda value: value != raw[where]))
    path.write_text(json.dumps(raw))
    with pytest.raises(VljEdgeError):
        find_engine(directory, manifest, "predictor", CARD)


@given(place=st.integers(0, 63), value=st.integers(0, 255))
def test_no_byte_of_an_engine_can_be_changed(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    plan = bytes(range(64))
    path = tmp_path_factory.mktemp("engine") / "x.engine"
    path.write_bytes(plan[:place] + bytes([value]) + plan[place + 1 :])
    import hashlib

    found = BuiltEngine(path, FileSeal(64, hashlib.sha256(plan).hexdigest()))
    if value == plan[place]:
        assert read_engine(found) == plan
    else:
        with pytest.raises(VljEdgeError, match=r"x\.engine"):
            read_engine(found)


def test_missing_and_linked_engines_are_refused(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    directory, manifest = bundle
    path = put(directory, manifest)
    moved = path.rename(tmp_path / "moved.engine")
    with pytest.raises(VljEdgeError, match=r"predictor-.*missing"):
        read_engine(find_engine(directory, manifest, "predictor", CARD))
    path.symlink_to(moved)
    with pytest.raises(VljEdgeError, match=r"predictor-.*missing"):
        read_engine(find_engine(directory, manifest, "predictor", CARD))


def _store_often(directory: Path, letter: bytes, times: int) -> None:
    manifest = read_manifest(directory)
    for number in range(times):
        put(directory, manifest, plan=letter * 100_000 + str(number).encode())


def test_two_builders_at_once_leave_one_whole_engine(bundle: tuple[Path, Manifest]) -> None:
    directory, manifest = bundle
    put(directory, manifest, plan=b"before")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_store_often, args=(directory, letter, 30)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    read = 0
    while any(writer.is_alive() for writer in writers):
        try:
            content = read_engine(find_engine(directory, manifest, "predictor", CARD))
        except VljEdgeError as error:
            assert "missing" in str(error)  # replaced between the receipt and the engine: said, never mixed
            continue
        assert content == b"before" or set(content[:100_000]) in ({ord("a")}, {ord("b")})
        read += 1
    assert [writer.exitcode for writer in writers] == [0, 0] and read
    assert read_engine(find_engine(directory, manifest, "predictor", CARD))[-2:] == b"29"
    assert len(list((directory / BUILT_ENGINES / CARD.folder).glob("*.engine"))) == 1


def test_a_bundle_that_cannot_be_written_says_so(bundle: tuple[Path, Manifest]) -> None:
    directory, manifest = bundle
    (directory / BUILT_ENGINES).write_text("in the way")
    with pytest.raises(VljEdgeError, match=BUILT_ENGINES):
        put(directory, manifest)


def test_targets_are_data_that_the_rest_understands() -> None:
    from vlj_edge.bundle import ENGINE_NAMES, GateSettings
    from vlj_edge.export.precisions import select_precision
    from vlj_edge.presets import PRESETS

    for chosen in TARGETS.values():
        with_gates(GateSettings(), chosen)
        for preset in PRESETS.values():
            assert set(select_precision(preset, chosen.precision, chosen.flavour)) == set(ENGINE_NAMES)
    assert target("sm89").sm == "sm89" and target("sm89").precision == TARGETS["rtx"].precision
    assert with_gates(GateSettings(), target("jetson-orin-nano")).memory.capacity == 128
    with pytest.raises(VljEdgeError, match="jetson-orin-nano"):
        target("jetson")
