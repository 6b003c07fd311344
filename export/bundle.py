"""Weights -> verified bundle. This is the main path of `vlj-edge export`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vlj_edge.bundle import (
    CaptionMemorySettings,
    EngineSpec,
    GateSettings,
    LabelSettings,
    Manifest,
    MeaningGateSettings,
    RestSettings,
    SceneGateSettings,
    nano_bundle,
    seal,
    write_manifest,
)
from vlj_edge.errors import VljEdgeError
from vlj_edge.memory import require_memory
from vlj_edge.presets import Preset
from vlj_edge.targets import Target, with_gates

from . import parity
from .engines import export_engine
from .models import VLJepa
from .onnx import graph as onnx_graph
from .onnx.precision import PRECISIONS, select_precision
from .weights.sources import Weights, WeightSources, open_weights, shipped_weights
from .weights.tokenizers import write_tokenizers

CAPTIONS = "captions.txt"
GATES_FILE = "gates.json"  # beside the weights: thresholds that were calibrated with them
PREFIX_FILE = "prefix.npy"  # axes, int8 or float [embedding, axes], on which short embeddings keep the most
LABELS_FILE = "labels.json"  # the same for what texts are compared with
_ORDER = ("vision_encoder", "predictor", "text_encoder", "decoder")  # each makes inputs for those after it
# Peak of `export --preset vl-jepa-1.6b` (results/paper-scale.json): the libraries, and copies of the largest part.
_BASE_MEMORY, _COPIES = 1_500_000_000, 2
_VERSIONS_OF = ("vlj-edge", "torch", "onnx", "onnxscript", "onnxruntime", "transformers", "tokenizers", "numpy")


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
    """What an export made; `on_native` are the engines whose parity is that of their native graph (_compare)."""

    bundle: Path
    engines: list[ExportedEngine]
    parity: list[parity.ParityRow]
    on_native: tuple[str, ...] = ()


def export_bundle(
    sources: WeightSources | Path,
    preset: Preset,
    out: Path,
    *,
    precision: str | None = None,
    flavour: str = "native",
    check_parity: bool = True,
    clips: list[npt.NDArray[np.float32]] | None = None,
    target: Target | None = None,
    overwrite: bool = False,
    command: str = "",
    progress: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Export, check and seal a bundle at `out`. It appears there whole or not at all. One part is in memory at a time.

    Args:
        sources: where the weights are; a path alone is a vlj-edge weights directory.
        precision: as for precision.choose().
        flavour: as for engines.export_engine().
        check_parity: run every engine beside torch; without it the manifest says that parity was not measured.
        clips: encoder inputs, float32 (1, frames, 3, crop, crop), from real video. The first 4 are judged instead of
            seeded blobs, the others set the scales of int8 activations, which cannot do without.

        target: whose gate settings go before those that were calibrated with the weights.

    Raises:
        VljEdgeError: `out` exists, the weights do not fit the preset or the memory, an engine misses its parity bar, or
            the disk is full.
    """
    sources = WeightSources(sources) if isinstance(sources, Path) else sources
    with _beside(out, overwrite) as directory:
        progress("reading weights")
        weights = open_weights(sources, preset)
        chosen = select_precision(weights.preset, precision, weights.text.holds_fp16, flavour)
        observed = {name for name in weights.load if PRECISIONS[chosen[name]].int8_activations}
        _check_clips(clips, observed)
        _require_memory(weights.preset)
        tokenizers = write_tokenizers(weights, directory)
        cases = parity.make_cases(weights.preset, tokenizers, [torch.from_numpy(clip) for clip in clips or ()])
        specs: dict[str, EngineSpec] = {}
        engines, rows = list[ExportedEngine](), list[parity.ParityRow]()
        for name in (name for name in _ORDER if name in weights.load):
            progress(f"exporting {name}")
            needed = cases if check_parity or observed else None
            specs[name], exported = _export_part(name, weights, chosen[name], flavour, directory, needed)
            engines.append(exported)
            if check_parity:
                progress(f"comparing {name} with torch")
                rows += _compare(name, weights, chosen[name], directory, specs[name], cases)
                parity.judge(rows, chosen)
        if weights.captions is not None:
            (directory / CAPTIONS).write_text("\n".join(weights.captions) + "\n", encoding="utf-8")
        prefix = _prefix(weights.directory, directory)
        on_native = tuple(name for name, spec in specs.items() if spec.plugins and check_parity)
        progress("sealing")
        manifest = Manifest(
            preset=preset.name,
            embedding=preset.embedding,
            preprocess=preset.preprocess,
            clip=preset.clip,
            default_query=preset.default_query,
            engines=specs,
            tokenizers=tokenizers.specs(),
            labels=_labels(weights.directory),
            prefix=prefix,
            gates=_gates(weights.directory) if target is None else with_gates(_gates(weights.directory), target),
            files={path.name: seal(path) for path in sorted(directory.iterdir())},
            receipt=_receipt(weights, sources, command),
            captions=CAPTIONS if weights.captions is not None else None,
            parity={
                "rows": [row.as_dict() for row in rows],
                "lowest_cosine": parity.LOWEST_COSINE,
                "on_native_graphs": list(on_native),
            },
        )
        write_manifest(directory, manifest)
    return Exported(out, engines, rows, on_native)


def _check_clips(clips: list[npt.NDArray[np.float32]] | None, observed: set[str]) -> None:
    if observed and (clips is None or len(clips) <= parity.JUDGED):
        raise VljEdgeError(
            f"int8 activations ({', '.join(sorted(observed))}) take their scales from real video: name one with"
            f" --calibrate-on that has more than {parity.JUDGED} windows, or choose int8w"
        )


def _export_part(
    name: str, weights: Weights, chosen: str, flavour: str, directory: Path, cases: parity.Cases | None
) -> tuple[EngineSpec, ExportedEngine]:
    """Load one part, run it in torch where there are cases, write its graph, and let go of it."""
    module = weights.load[name]()
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
def _beside(out: Path, overwrite: bool) -> Iterator[Path]:
    """A directory beside `out` that becomes `out` when the block ends well, and is removed when it does not."""
    if out.exists() and not overwrite:
        raise VljEdgeError(f"{out} exists: name another --out, or add --overwrite")
    if out.exists() and not (out / "manifest.json").is_file():
        raise VljEdgeError(f"{out} exists and is no bundle, so it is not overwritten: name another --out")
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


def _gates(directory: Path | None) -> GateSettings:
    if directory is None or not (directory / GATES_FILE).is_file():
        return GateSettings()
    path = directory / GATES_FILE
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        scene, meaning = SceneGateSettings(**raw["scene"]), MeaningGateSettings(**raw["meaning"])
        return GateSettings(scene, meaning, CaptionMemorySettings(**raw["memory"]), RestSettings(**raw["rest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise VljEdgeError(f"{path} holds no gate settings ({error!r}): remove it, or calibrate again") from error


def _prefix(weights: Path | None, directory: Path) -> str | None:
    if weights is None:
        return None
    # The package ships nano's once, in the bundle.
    path = (nano_bundle() if weights == shipped_weights() else weights) / PREFIX_FILE
    if not path.is_file():
        return None
    shutil.copyfile(path, directory / PREFIX_FILE)
    return PREFIX_FILE


def _labels(directory: Path | None) -> LabelSettings:
    if directory is None or not (directory / LABELS_FILE).is_file():
        return LabelSettings()
    path = directory / LABELS_FILE
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return LabelSettings(**raw | {"templates": tuple(raw["templates"])})
    except (ValueError, KeyError, TypeError) as error:
        raise VljEdgeError(f"{path} holds no settings of labels ({error!r}): remove it, or calibrate again") from error


def _receipt(weights: Weights, sources: WeightSources, command: str) -> dict[str, Any]:
    return {
        "weights": {path.name: seal(path).sha256 for path in weights.files},
        "random_weights": sources.random,  # seed of what had no weights; such a bundle shows size and speed alone
        "command": command,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: _version(name) for name in _VERSIONS_OF},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
