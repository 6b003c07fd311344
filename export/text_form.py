"""A second form of a bf16 text encoder, for CPUs: a bundle for a card then embeds labels and searches on a desk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vlj_edge.bundle import TEXT_ENCODER, EngineSpec
from vlj_edge.errors import VljEdgeError

from . import parity
from .engines import export_engine
from .families.model import FamilyModel
from .onnx import graph as onnx_graph
from .parity_cases import make_cases, run_torch
from .precisions import select_precision, text_form_for_cpu
from .request import ExportRequest

NAME = "text_encoder on a CPU"  # in the summary and among the figures of parity
_FILE = "text_encoder_cpu.onnx"


@dataclass(frozen=True)
class TextForm:
    """The exported form: its entry in the manifest, its size and its figures of parity."""

    spec: EngineSpec
    nodes_a_layer: int
    megabytes: float
    parity: list[parity.ParityRow]


def export_text_form(
    request: ExportRequest, model: FamilyModel, directory: Path, progress: Callable[[str], None]
) -> TextForm | None:
    """Write the form into a bundle that is being made and compare it with torch; None: the bundle needs none.

    It is no larger than the bf16 graph, unless these weights do not bear that: then it is in fp32.

    Raises:
        VljEdgeError: not even fp32 reaches its parity bar, or the disk is full.
    """
    precision = text_form_for_cpu(model.shape, select_precision(model.shape, request.precision, request.flavour))
    if precision is None:
        return None
    try:
        return _export_in(precision, request, model, directory, progress)
    except VljEdgeError:
        for left in directory.glob(f"{_FILE}*"):
            left.unlink()
        return _export_in("fp32", request, model, directory, progress)


def _export_in(
    precision: str, request: ExportRequest, model: FamilyModel, directory: Path, progress: Callable[[str], None]
) -> TextForm:
    progress(f"exporting {NAME}")
    graph = export_engine(TEXT_ENCODER, model.loaders[TEXT_ENCODER](), model.shape, precision)
    spec = replace(graph.spec, file=_FILE)
    size = sum((directory / file).stat().st_size for file in onnx_graph.save(graph.model, directory / _FILE))
    rows: list[parity.ParityRow] = []
    if request.check_parity:
        progress(f"comparing {NAME} with torch")
        cases = make_cases(model.shape, model.tokenizers, [])
        run_torch(TEXT_ENCODER, model.loaders[TEXT_ENCODER](), cases)
        rows = parity.compare_with_torch(TEXT_ENCODER, directory, spec, cases)
        parity.require_parity(rows, {TEXT_ENCODER: precision})
    return TextForm(spec, graph.nodes_a_layer, size / 1e6, [replace(row, engine=NAME) for row in rows])
