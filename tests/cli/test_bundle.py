"""vlj-edge inspect and verify, and the error of every command for a changed bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import error_of, run_here, vlj_edge
from vlj_edge.bundle import MANIFEST, SCHEMA_VERSION


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    change(raw)
    (bundle / MANIFEST).write_text(json.dumps(raw), encoding="utf-8")


def test_inspect_shows_what_a_bundle_holds(tiny_bundle: Path) -> None:
    done = vlj_edge("inspect", tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "by-hand",
        "4 frames",
        "describe",
        "vision_encoder",
        "fp32",
        "pixels float32 1x4x3x16x16",
        "meaning gate",
    ):
        assert part in done.stdout


def test_inspect_json_is_the_manifest(tiny_bundle: Path) -> None:
    done = run_here("inspect", tiny_bundle, "--json")
    assert json.loads(done.stdout) == json.loads((tiny_bundle / MANIFEST).read_text(encoding="utf-8"))


def test_inspect_shows_parity_with_torch(bundle: Path) -> None:
    edit(bundle, lambda raw: raw.update(parity={"rows": [{"engine": "predictor", "cosine": 0.9999874}]}))
    assert "0.9999874" in run_here("inspect", bundle).stdout


@pytest.mark.parametrize("parity", [{"rows": 3}, {"rows": [3, {}, {"engine": "decoder", "cosine": None}]}], ids=str)
def test_inspect_bears_with_parity_of_another_form(bundle: Path, parity: dict[str, Any]) -> None:
    edit(bundle, lambda raw: raw.update(parity=parity))
    done = run_here("inspect", bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert "unknown" in done.stdout


def test_inspect_shows_settings_with_brackets_as_they_are(bundle: Path) -> None:
    edit(bundle, lambda raw: raw["engines"]["decoder"].update(kept_fp32=["layers[0].norm: [/] it overflows"]))
    done = run_here("inspect", bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert "layers[0].norm: [/] it overflows" in done.stdout


def test_verify_says_how_much_it_found_right(tiny_bundle: Path) -> None:
    done = run_here("verify", tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tiny_bundle}: 5 files" in done.stdout


# --- not as it was exported


def change_a_byte(bundle: Path) -> str:
    content = bytearray((bundle / "decoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "decoder.onnx").write_bytes(content)
    return "decoder.onnx"


def remove_a_file(bundle: Path) -> str:
    (bundle / "decoder.onnx").unlink()
    return "decoder.onnx is missing"


def link_a_file(bundle: Path) -> str:
    (bundle / "decoder.onnx").rename(bundle.parent / "decoder.onnx")
    (bundle / "decoder.onnx").symlink_to(bundle.parent / "decoder.onnx")
    return "decoder.onnx is a link"


def come_from_the_future(bundle: Path) -> str:
    edit(bundle, lambda raw: raw.update(schema_version=SCHEMA_VERSION + 1))
    return "upgrade vlj-edge"


def leave(bundle: Path) -> str:
    edit(bundle, lambda raw: raw["engines"]["decoder"].update(file="../decoder.onnx"))
    return "../decoder.onnx"


def lose_the_manifest(bundle: Path) -> str:
    (bundle / MANIFEST).unlink()
    return "is no bundle"


FILE_HARMS = [change_a_byte, remove_a_file, link_a_file]
MANIFEST_HARMS = [come_from_the_future, leave, lose_the_manifest]


@pytest.mark.parametrize("harm", FILE_HARMS + MANIFEST_HARMS)
def test_narrate_refuses_in_one_line(harm: Callable[[Path], str], bundle: Path, video: Path, tmp_path: Path) -> None:
    named = harm(bundle)
    done = run_here("narrate", video, "--bundle", bundle, "--srt", tmp_path / "out.srt")
    assert named in error_of(done)
    assert str(bundle) in error_of(done)
    assert done.stdout == ""
    assert not (tmp_path / "out.srt").exists()


@pytest.mark.parametrize("harm", FILE_HARMS + MANIFEST_HARMS)
def test_verify_refuses_in_one_line(harm: Callable[[Path], str], bundle: Path) -> None:
    named = harm(bundle)
    done = run_here("verify", bundle)
    assert named in error_of(done)
    assert done.stdout == ""


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
@pytest.mark.parametrize("harm", MANIFEST_HARMS)
def test_inspect_refuses_in_one_line(harm: Callable[[Path], str], options: list[str], bundle: Path) -> None:
    named = harm(bundle)
    done = run_here("inspect", bundle, *options)
    assert named in error_of(done)
    assert done.stdout == ""


def test_a_damaged_engine_that_narrate_does_not_use_does_not_stop_it(bundle: Path, video: Path) -> None:
    (bundle / "text_encoder.onnx").write_bytes(b"damaged")
    assert run_here("narrate", video, "--bundle", bundle).returncode == 0
