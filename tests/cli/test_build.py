"""vlj-edge build and export --engine tensorrt: ahead-of-time builds by the real TensorRT-RTX, without a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.command import error_of, run_here, vlj_edge, vlj_edge_without
from tests.needs import needs
from vlj_edge.bundle import nano_bundle, verify_bundle
from vlj_edge.runtime.engines.tensorrt.device import driver_found
from vlj_edge.targets import TARGETS

needs_rtx = needs("tensorrt_rtx")
without_card = pytest.mark.skipif(driver_found(), reason="there is a card here, for which it would build")


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano_bundle(), tmp_path / "nano", ignore=shutil.ignore_patterns("engines")))


@needs_rtx
def test_build_ahead_says_what_it_built_and_what_is_current(nano: Path) -> None:
    first = vlj_edge("build", nano, "--target", "sm86", "--engine", "decoder", "--engine", "predictor")
    assert (first.returncode, first.stderr) == (0, "")
    assert "predictor: TensorRT has no fused attention for fp32" in first.stdout
    [folder] = (nano / "engines").iterdir()
    *_, made, following = first.stdout.splitlines()
    assert folder.name.startswith("sm86-tensorrt_rtx-") and made == str(folder)
    assert f"scp -r {nano} " in following and f"--bundle nano --engines nano/engines/{folder.name}" in following
    kept = {path.name for path in folder.iterdir()}
    second = vlj_edge("build", nano, "--target", "sm86", "--engine", "decoder")
    assert "current" in second.stdout and {path.name for path in folder.iterdir()} == kept
    forced = vlj_edge("build", nano, "--target", "sm86", "--engine", "decoder", "--force", "--workspace", "64")
    assert forced.returncode == 0 and "current" not in forced.stdout
    verify_bundle(nano)


@needs_rtx
@needs("torch")
@pytest.mark.slow
def test_export_builds_as_well(tmp_path: Path) -> None:
    out = tmp_path / "both"
    options = ["--fp16", "--engine", "tensorrt", "--target", "sm120", "--skip-parity"]
    done = vlj_edge("export", *options, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("fused") == 4
    assert len(list(out.glob("engines/sm120-*/*.engine"))) == 4


@needs("torch")
@without_card
def test_without_a_card_it_asks_for_a_target(nano: Path) -> None:
    assert "--target sm86" in error_of(run_here("build", nano))
    assert "--target sm86" in error_of(run_here("export", "--engine", "tensorrt", "--out", nano.with_name("out")))
    assert not nano.with_name("out").exists(), "said before the export, not after it"


def test_what_cannot_be_built_is_one_line(nano: Path) -> None:
    unknown = error_of(run_here("build", nano, "--target", "jetson"), 2)
    assert all(name in unknown for name in TARGETS)
    assert "nothing to build" in error_of(run_here("build", nano, "--target", "wearable"), 2)
    assert "has no encoder" in error_of(run_here("build", nano, "--target", "sm86", "--engine", "encoder"), 2)
    assert "is no bundle" in error_of(run_here("build", nano.parent, "--target", "sm86"))


@without_card
def test_a_jetson_s_engines_are_built_on_the_jetson(nano: Path) -> None:
    line = error_of(run_here("build", nano, "--target", "jetson-orin"))
    assert f"scp -r {nano} " in line and "vlj-edge build nano --target jetson-orin" in line


def test_a_missing_tensorrt_names_the_extra(nano: Path) -> None:
    done = vlj_edge_without(["tensorrt", "tensorrt_rtx"], "build", nano, "--target", "sm86")
    assert "pip install 'vlj-edge[rtx]'" in error_of(done)


@needs_rtx
def test_a_bundle_that_was_changed_is_not_built(nano: Path) -> None:
    with (nano / "decoder.onnx").open("ab") as graph:
        graph.write(b"more")
    assert "is not the file that was exported" in error_of(
        run_here("build", nano, "--target", "sm86", "--engine", "decoder")
    )


@needs("torch")
@pytest.mark.slow
def test_targets_set_precision_flavour_and_gates(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.export.tiny_weights import TINY
    from vlj_edge.bundle import read_manifest
    from vlj_edge.presets import PRESETS

    monkeypatch.setitem(PRESETS, "tiny", TINY)
    out = tmp_path / "orin"
    target = ("--target", "jetson-orin-nano", "--skip-parity")
    done = run_here("export", tiny_weights, "--preset", "tiny", *target, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "vlj-edge build orin --target jetson-orin-nano" in done.stdout.splitlines()[-1]
    manifest = read_manifest(out)
    assert manifest.gates.memory.capacity == 128 and manifest.engines["decoder"].opset <= 20
    assert {name: spec.precision for name, spec in manifest.engines.items()} == {
        "vision_encoder": "fp16",
        "predictor": "fp16",
        "decoder": "fp16",
        "text_encoder": "bf16",
    }
    assert manifest.on_cpu["text_encoder"].precision == "int8w"  # for labels, made on a desk
    labelled = run_here("labels", "a drawer,a door", "--bundle", out, "--out", tmp_path / "bank.npz")
    assert labelled.returncode == 0, labelled.stderr
