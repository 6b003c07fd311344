"""A bf16 text encoder has a second form for CPUs, in the smallest precision that its weights bear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.export.tiny_weights import TINY
from vlj_edge.errors import VljEdgeError
from vlj_edge.export import parity, text_form
from vlj_edge.export.families.find import open_model
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.text_form import TextForm, export_text_form
from vlj_edge.export.weights.locations import WeightSources


def form_of(tiny_weights: Path, directory: Path, precision: str) -> TextForm | None:
    request = ExportRequest(WeightSources(tiny_weights), TINY, directory, precision=precision)
    directory.mkdir()
    return export_text_form(request, open_model(request.sources, TINY), directory, lambda step: None)


def test_only_bf16_needs_one(tiny_weights: Path, tmp_path: Path) -> None:
    assert form_of(tiny_weights, tmp_path / "fp16", "fp16") is None
    assert list((tmp_path / "fp16").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("bears_int8", [True, False])
def test_it_is_small_unless_the_weights_do_not_bear_that(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bears_int8: bool
) -> None:
    kept = parity.require_parity

    def judged(rows: Any, precisions: dict[str, str], synthetic: bool = False) -> None:
        if not bears_int8 and "int8w" in precisions.values():
            raise VljEdgeError("too far from torch")
        kept(rows, precisions, synthetic)

    monkeypatch.setattr(text_form.parity, "require_parity", judged)
    form = form_of(tiny_weights, tmp_path / "out", "fp16,text_encoder=bf16")
    assert form is not None and form.spec.precision == ("int8w" if bears_int8 else "fp32")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [form.spec.file]
    assert [row.engine for row in form.parity] == [text_form.NAME]
