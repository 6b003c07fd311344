"""The main path of `vlj-edge export`: weights become ONNX engines, are compared with torch, and sealed as a bundle."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from math import ceil, isqrt
from pathlib import Path
from typing import Any

import torch

from vlj_edge.bundle import DEFAULT_GATES, TEXT_ENCODER, EngineSpec, LabelHead, Manifest, Tokens, seal, write_manifest
from vlj_edge.bundle.manifest import with_relative_defaults
from vlj_edge.errors import VljEdgeError
from vlj_edge.memory import require_memory
from vlj_edge.presets import Preset
from vlj_edge.targets import with_gates

from . import parity
from .calibrated import copy_known, copy_prefix, has_gates, read_queries
from .engines import export_engine
from .families.find import open_model
from .families.model import FamilyModel
from .models.vl_jepa import visual_tokens
from .onnx import graph as onnx_graph
from .parity_cases import ParityCases, make_cases, run_torch
from .precisions import PRECISIONS, select_precision
from .request import ExportRequest, check_clips, check_out, check_request
from .text_form import NAME as TEXT_FORM
from .text_form import export_text_form
from .weights.tokenizers import write_tokenizers

CAPTIONS, LABELS = "captions.txt", "labels.txt"
_ORDER = (
    "vision_encoder",
    "predictor",
    "text_encoder",
    "decoder",
)  # of comparison: torch's output of one part is the input of the next
# Peak of `export --preset vl-jepa-1.6b` (results/paper-scale.json): the libraries, and copies of the largest part.
_BASE_MEMORY, _COPIES = 1_500_000_000, 2
_RECEIPT_VERSIONS = ("vlj-edge", "torch", "onnx", "onnxscript", "onnxruntime", "transformers", "tokenizers", "numpy")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportedEngine:
    """An engine in the summary of an export."""

    name: str
    precision: str
    opset: int
    nodes_a_layer: int
    megabytes: float
    kept_fp32: tuple[str, ...]


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        compared_as_native: fused engines, whose parity was measured on the native graph of the same weights.
    """

    bundle: Path
    engines: list[ExportedEngine]
    parity: list[parity.ParityRow]
    compared_as_native: tuple[str, ...] = ()


def export_bundle(request: ExportRequest, progress: Progress = lambda step: None) -> Exported:
    """Export, check and seal a bundle. `request.out` is created complete or not at all.

    One part of the model is in memory at a time.

    Raises:
        VljEdgeError: see check_request(); the weights do not fit the preset or the memory, an engine misses its parity
            bar, or the disk is full.
    """
    check_request(request)
    check_clips(request)
    with _atomic_directory(request.out, request.overwrite) as directory:
        progress("reading weights")
        model = open_model(request.sources, request.preset)
        remedy = "close other programs, or export on a machine with more"
        require_memory(_BASE_MEMORY + _COPIES * model.largest, f"exporting {model.shape.name}", remedy)
        write_tokenizers(model.tokenizers, directory)
        specs, engines, rows = _export_engines(request, model, directory, progress)
        text_form = export_text_form(request, model, directory, progress)
        if text_form is not None:
            spec, size = text_form.spec, text_form.megabytes
            nodes = text_form.nodes_a_layer
            engines.append(ExportedEngine(TEXT_FORM, spec.precision, spec.opset, nodes, size, spec.kept_fp32))
            rows += text_form.parity
        on_cpu = {TEXT_ENCODER: text_form.spec} if text_form is not None else {}
        if model.captions is not None:
            (directory / CAPTIONS).write_text("\n".join(model.captions) + "\n", encoding="utf-8")
        if model.shape.labels and "decoder" in specs:
            (directory / LABELS).write_text("\n".join(model.shape.labels) + "\n", encoding="utf-8")
        progress("sealing")
        write_manifest(directory, _manifest(request, model, specs, on_cpu, rows, directory))
    return Exported(request.out, engines, rows, _compared_as_native(request, specs))


def _export_engines(
    request: ExportRequest, model: FamilyModel, directory: Path, progress: Progress
) -> tuple[dict[str, EngineSpec], list[ExportedEngine], list[parity.ParityRow]]:
    """Export each engine, and compare it with torch before the next."""
    precisions = select_precision(model.shape, request.precision, request.flavour)
    if model.captions is not None and not request.preset.own_captions:  # one product, and no layer that is recorded
        precisions["decoder"] = PRECISIONS[precisions["decoder"]].compute
    clips, tokens = [torch.from_numpy(clip) for clip in request.clips], tokens_of(request)
    cases = make_cases(model.shape, model.tokenizers, clips, tokens)
    runs_torch = request.check_parity or bool(request.int8_engines)
    specs: dict[str, EngineSpec] = {}
    engines, rows = list[ExportedEngine](), list[parity.ParityRow]()
    for name in (name for name in _ORDER if name in model.loaders):
        progress(f"exporting {name}")
        specs[name], exported = _export_engine(
            name, model, precisions[name], request.flavour, directory, cases if runs_torch else None, tokens is not None
        )
        engines.append(exported)
        if request.check_parity:
            progress(f"comparing {name} with torch")
            rows += _compare_engine(name, model, precisions[name], directory, specs[name], cases)
            parity.require_parity(rows, precisions, synthetic=not request.clips)
    return specs, engines, rows


def _manifest(
    request: ExportRequest,
    model: FamilyModel,
    specs: dict[str, EngineSpec],
    on_cpu: dict[str, EngineSpec],
    rows: list[parity.ParityRow],
    directory: Path,
) -> Manifest:
    shape, gates = model.shape, model.gates
    prefix, known = copy_prefix(model.directory, directory), copy_known(model.directory, directory)  # before sealing
    manifest = Manifest(
        preset=shape.name,
        family=shape.family,
        embedding=shape.embedding,
        preprocess=shape.preprocess,
        clip=shape.clip,
        default_query=shape.default_query,
        engines=specs,
        on_cpu=on_cpu,
        tokenizers={name: each.spec for name, each in model.tokenizers.items()},
        labels=model.labels,
        prefix=prefix,
        known=known,
        tokens=tokens_of(request),
        queries=read_queries(model.directory),
        gates=gates if request.target is None else with_gates(gates, request.target),
        files={path.name: seal(path) for path in sorted(directory.iterdir())},
        receipt=_receipt(model.files, request) | ({} if has_gates(model.directory) else {"gates": DEFAULT_GATES}),
        label_head=LabelHead(LABELS) if shape.labels and "decoder" in specs else None,
        captions=CAPTIONS if model.captions is not None else None,
        parity={
            "rows": [asdict(row) for row in rows],
            "lowest_cosine": parity.LOWEST_COSINE,
            "on_native_graphs": list(_compared_as_native(request, specs)),
        },
    )
    return with_relative_defaults(manifest)


def tokens_of(request: ExportRequest) -> Tokens | None:
    """Return how the engines will take a part of the tokens; None without `token_shares`."""
    if not request.token_shares:
        return None
    shape = request.preset
    assert isinstance(shape, Preset), "check_request() refuses the others"
    tubelet, tokens = min(shape.vision.tubelet, shape.clip.frames), visual_tokens(shape)
    side = isqrt(tokens * tubelet // shape.clip.frames)
    counts = {max(2, ceil(share * tokens)) for share in request.token_shares} | {tokens}
    return Tokens(tubelet, side, tuple(sorted(counts)))


def _compared_as_native(request: ExportRequest, specs: dict[str, EngineSpec]) -> tuple[str, ...]:
    """Return the fused engines, which _compare_engine() compares as native graphs."""
    return tuple(name for name, spec in specs.items() if spec.plugins and request.check_parity)


def _export_engine(
    name: str,
    model: FamilyModel,
    precision: str,
    flavour: str,
    directory: Path,
    cases: ParityCases | None,
    by_tokens: bool = False,
) -> tuple[EngineSpec, ExportedEngine]:
    """Load one module, run it in torch on the cases, if any, and write its graph."""
    module = model.loaders[name]()
    ranges = run_torch(name, module, cases) if cases is not None else None
    graph = export_engine(name, module, model.shape, precision, ranges, flavour, by_tokens)
    files = onnx_graph.save(graph.model, directory / graph.spec.file)
    size = sum((directory / file).stat().st_size for file in files) / 1e6
    spec = graph.spec
    return spec, ExportedEngine(name, spec.precision, spec.opset, graph.nodes_a_layer, size, spec.kept_fp32)


def _compare_engine(
    name: str, model: FamilyModel, precision: str, directory: Path, spec: EngineSpec, cases: ParityCases
) -> list[parity.ParityRow]:
    """Compare an engine with torch. ONNX Runtime cannot run a fused graph: the native graph of the same weights in the
    same precision is compared instead, which tests all but the kernel. The manifest names these engines."""
    if not spec.plugins:
        return parity.compare_with_torch(name, directory, spec, cases)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        native, _ = _export_engine(name, model, precision, "native", Path(scratch), cases)
        return parity.compare_with_torch(name, Path(scratch), native, cases)


@contextmanager
def _atomic_directory(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a directory beside `out` that is renamed to `out` when the block succeeds, and removed when it fails."""
    check_out(out, overwrite)
    scratch: Path | None = None
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
        yield scratch
        scratch.chmod(0o755)  # mkdtemp makes it private
        if out.exists():
            shutil.rmtree(out)
        scratch.rename(out)
    except OSError as error:
        raise VljEdgeError(
            f"{out} cannot be written ({error.strerror or error}): free some space or name another --out"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _receipt(files: tuple[Path, ...], request: ExportRequest) -> dict[str, Any]:
    return {
        "weights": {path.name: seal(path).sha256 for path in files},
        "repositories": [repository.receipt() for repository in request.repositories],
        "random_weights": request.sources.random,  # seed of parts without weights, which show size and speed only
        "command": request.command,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: _version(name) for name in _RECEIPT_VERSIONS},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
