"""Weights -> verified bundle. This is the main path of `vlj-edge export`."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from vlj_edge.bundle import EngineSpec, Manifest, seal, write_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.memory import require_memory
from vlj_edge.presets import Preset
from vlj_edge.targets import with_gates

from . import parity
from .calibrated import copy_prefix, read_gates, read_labels
from .engines import export_engine
from .models import VLJepa
from .onnx import graph as onnx_graph
from .precisions import select_precision
from .request import ExportRequest, check_clips, check_out, check_request
from .weights.sources import Weights, open_weights
from .weights.tokenizers import BundleTokenizers, write_tokenizers

CAPTIONS = "captions.txt"
_ORDER = ("vision_encoder", "predictor", "text_encoder", "decoder")  # each makes inputs for those after it
# Peak of `export --preset vl-jepa-1.6b` (results/paper-scale.json): the libraries, and copies of the largest part.
_BASE_MEMORY, _COPIES = 1_500_000_000, 2
_RECEIPT_VERSIONS = ("vlj-edge", "torch", "onnx", "onnxscript", "onnxruntime", "transformers", "tokenizers", "numpy")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportedEngine:
    """One line of the summary."""

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
        on_native: engines whose parity is that of their native graph (_compare).
    """

    bundle: Path
    engines: list[ExportedEngine]
    parity: list[parity.ParityRow]
    on_native: tuple[str, ...] = ()


def export_bundle(request: ExportRequest, progress: Progress = lambda step: None) -> Exported:
    """Export, check and seal a bundle. It appears at `request.out` whole or not at all.

    One part of the model is in memory at a time.

    Raises:
        VljEdgeError: see check_request(); the weights do not fit the preset or the memory, an engine misses its parity
            bar, or the disk is full.
    """
    check_request(request)
    check_clips(request)
    with _directory_for(request.out, request.overwrite) as directory:
        progress("reading weights")
        weights = open_weights(request.sources, request.preset)
        _require_memory(weights.preset)
        tokenizers = write_tokenizers(weights, directory)
        specs, engines, rows = _export_engines(request, weights, tokenizers, directory, progress)
        if weights.captions is not None:
            (directory / CAPTIONS).write_text("\n".join(weights.captions) + "\n", encoding="utf-8")
        progress("sealing")
        write_manifest(directory, _manifest(request, weights, tokenizers, specs, rows, directory))
    return Exported(request.out, engines, rows, _compared_as_native(request, specs))


def _export_engines(
    request: ExportRequest, weights: Weights, tokenizers: BundleTokenizers, directory: Path, progress: Progress
) -> tuple[dict[str, EngineSpec], list[ExportedEngine], list[parity.ParityRow]]:
    """Export each engine, and compare it with torch before the next."""
    chosen = select_precision(weights.preset, request.precision, request.flavour)
    cases = parity.make_cases(weights.preset, tokenizers, [torch.from_numpy(clip) for clip in request.clips])
    run_torch = request.check_parity or bool(request.int8_engines)
    specs: dict[str, EngineSpec] = {}
    engines, rows = list[ExportedEngine](), list[parity.ParityRow]()
    for name in (name for name in _ORDER if name in weights.loaders):
        progress(f"exporting {name}")
        specs[name], exported = _export_part(
            name, weights, chosen[name], request.flavour, directory, cases if run_torch else None
        )
        engines.append(exported)
        if request.check_parity:
            progress(f"comparing {name} with torch")
            rows += _compare(name, weights, chosen[name], directory, specs[name], cases)
            parity.require_parity(rows, chosen)
    return specs, engines, rows


def _manifest(
    request: ExportRequest,
    weights: Weights,
    tokenizers: BundleTokenizers,
    specs: dict[str, EngineSpec],
    rows: list[parity.ParityRow],
    directory: Path,
) -> Manifest:
    preset, gates = weights.preset, read_gates(weights.directory)
    prefix = copy_prefix(weights.directory, directory)  # before the files are sealed
    return Manifest(
        preset=preset.name,
        embedding=preset.embedding,
        preprocess=preset.preprocess,
        clip=preset.clip,
        default_query=preset.default_query,
        engines=specs,
        tokenizers=tokenizers.specs(),
        labels=read_labels(weights.directory),
        prefix=prefix,
        gates=gates if request.target is None else with_gates(gates, request.target),
        files={path.name: seal(path) for path in sorted(directory.iterdir())},
        receipt=_receipt(weights, request),
        captions=CAPTIONS if weights.captions is not None else None,
        parity={
            "rows": [row.as_dict() for row in rows],
            "lowest_cosine": parity.LOWEST_COSINE,
            "on_native_graphs": list(_compared_as_native(request, specs)),
        },
    )


def _compared_as_native(request: ExportRequest, specs: dict[str, EngineSpec]) -> tuple[str, ...]:
    return tuple(name for name, spec in specs.items() if spec.plugins and request.check_parity)


def _export_part(
    name: str, weights: Weights, chosen: str, flavour: str, directory: Path, cases: parity.Cases | None
) -> tuple[EngineSpec, ExportedEngine]:
    """Load one part, run it in torch where there are cases, write its graph, and let go of it."""
    module = weights.loaders[name]()
    ranges = parity.run_torch(name, module, cases) if cases is not None else None
    graph = export_engine(name, module, weights.preset, chosen, ranges, flavour)
    files = onnx_graph.save(graph.model, directory / graph.spec.file)
    size = sum((directory / file).stat().st_size for file in files) / 1e6
    spec = graph.spec
    return spec, ExportedEngine(name, chosen, spec.opset, graph.nodes_a_layer, size, spec.kept_fp32)


def _compare(
    name: str, weights: Weights, chosen: str, directory: Path, spec: EngineSpec, cases: parity.Cases
) -> list[parity.ParityRow]:
    """Parity with torch. ONNX Runtime cannot run a fused graph: its native twin, of the same weights in the same
    precision, is measured in its place, and the manifest says so. Of the kernel that shows nothing."""
    if not spec.plugins:
        return parity.compare_with_torch(name, directory, spec, cases)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        twin, _ = _export_part(name, weights, chosen, "native", Path(scratch), cases)
        return parity.compare_with_torch(name, Path(scratch), twin, cases)


def _require_memory(preset: Preset) -> None:
    with torch.device("meta"):
        parts = VLJepa(preset).children()
        largest = max(sum(p.numel() for p in part.parameters()) for part in parts)
    remedy = "close other programs, or export on a machine with more"
    require_memory(_BASE_MEMORY + _COPIES * 4 * largest, f"exporting {preset.name}", remedy)


@contextmanager
def _directory_for(out: Path, overwrite: bool) -> Iterator[Path]:
    """A directory beside `out` that becomes `out` when the block succeeds, and is removed when it fails."""
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


def _receipt(weights: Weights, request: ExportRequest) -> dict[str, Any]:
    return {
        "weights": {path.name: seal(path).sha256 for path in weights.files},
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
