"""The shipped archive of kernels matches their sources, and a changed archive is not loaded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from vlj_edge.cuda import cubins
from vlj_edge.cuda.attention import HEAD_DIMS
from vlj_edge.cuda.launch import check_dtype
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.kernels import compile as compiling
from vlj_edge.presets import ENCODERS, PRESETS

ROOT = Path(__file__).parents[3]
REPORT = json.loads((ROOT / "results" / "kernels.json").read_text(encoding="utf-8"))["kernels"]
KERNELS = {
    "attention": {
        f"attention_{rotation}_{dtype}_{head_dim}"
        for rotation in ("axes", "halves")
        for dtype in ("fp16", "bf16")
        for head_dim in HEAD_DIMS
    },
    "pixels": {"pixels_bgr_fp32", "pixels_bgr_fp16", "pixels_nv12_fp32", "pixels_nv12_fp16", "luminance"},
}
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


def test_the_archive_was_made_of_these_sources() -> None:
    assert cubins.seal()["sources"] == compiling.source_hashes(), "run make kernels"


def test_every_kernel_exists_for_every_card() -> None:
    assert cubins.compiled_for() == compiling.CARDS
    for source in compiling.SOURCES:
        for card in compiling.CARDS:
            code = cubins.cubin(source, card)
            assert code[:4] == b"\x7fELF"
            names = {name.decode() for name in re.findall(rb"\.text\.(\w+)", code)}
            assert names == {name for name in KERNELS[source] if card != "sm75" or "bf16" not in name}
    assert set(REPORT) == KERNELS["attention"] | KERNELS["pixels"]


def test_the_attention_is_compiled_for_the_heads_that_presets_have() -> None:
    encoders = [*ENCODERS.values(), *(preset.vision for preset in PRESETS.values())]
    sizes = {encoder.width // encoder.heads for encoder in encoders}
    assert sizes | {preset.predictor.head_dim for preset in PRESETS.values()} == set(HEAD_DIMS)


def test_no_attention_spills_and_all_fits_into_48_kib() -> None:
    for name, cards in REPORT.items():
        assert set(cards) == set(compiling.CARDS) - ({"sm75"} if "bf16" in name else set())
        for used in cards.values():
            assert used["shared"] <= 48 << 10 and used["registers"] <= 255
            assert not name.startswith("attention") or used["spilled"] == used["reloaded"] == 0


@pytest.mark.parametrize(
    "sm, runs", [("sm86", "sm86"), ("sm88", "sm87"), ("sm89", "sm89"), ("sm103", "sm100"), ("sm121", "sm121")]
)
def test_a_cubin_runs_on_newer_gpus_of_its_generation(sm: str, runs: str) -> None:
    assert cubins.card_of(sm) == runs


@pytest.mark.parametrize("sm", ["sm70", "sm72", "sm130"])
def test_a_gpu_without_code_is_an_error(sm: str) -> None:
    with pytest.raises(VljEdgeError, match=f"not for {sm}"):
        cubins.cubin("attention", sm)


def test_bf16_on_turing_is_refused() -> None:
    check_dtype("bfloat16", "sm80")
    with pytest.raises(VljEdgeError, match=r"sm75.*fp16"):
        check_dtype("bfloat16", "sm75")


def test_a_changed_archive_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "kernels.tar.xz"
    raw = bytearray(cubins.ARCHIVE.read_bytes())
    raw[len(raw) // 2] ^= 1
    changed.write_bytes(raw)
    monkeypatch.setattr(cubins, "ARCHIVE", changed)
    cubins._archive.cache_clear()
    with pytest.raises(VljEdgeError, match=r"kernels\.tar\.xz.*install vlj-edge again"):
        cubins.cubin("pixels", "sm86")
    cubins._archive.cache_clear()


@needs_nvcc
@pytest.mark.parametrize("card", ["sm87", *(pytest.param(card, marks=pytest.mark.slow) for card in ("sm75", "sm110"))])
def test_the_sources_compile(card: str) -> None:
    """For three of the ten; the same nvcc gives the same code, byte for byte."""
    for source in compiling.SOURCES:
        code, report = compiling.compile_one(source, card)
        assert report and set(report) <= set(REPORT)
        if compiling.nvcc_version() == cubins.seal()["nvcc"]:
            assert all(report[name] == REPORT[name][card] for name in report)
            assert code == cubins.cubin(source, card)


@needs_nvcc
def test_registers_that_spill_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in compiling.HERE.glob("*.cu*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    source = (tmp_path / "attention.cu").read_text(encoding="utf-8")
    (tmp_path / "attention.cu").write_text(source.replace("(THREADS, 2)", "(THREADS, 6)"), encoding="utf-8")
    monkeypatch.setattr(compiling, "HERE", tmp_path)
    with pytest.raises(VljEdgeError, match="spills registers on sm86"):
        compiling.compile_one("attention", "sm86")


def test_without_nvcc_the_error_names_the_cuda_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VljEdgeError, match="CUDA toolkit"):
        compiling.nvcc()
