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

from vlj_edge.bundle import (
    ENGINE_NAMES,
    CaptionMemory,
    Gates,
    Manifest,
    MeaningGate,
    Rest,
    SceneGate,
    seal,
    write_manifest,
)
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preset

from . import onnx_graph, parity
from .engines import export_engine
from .tokens import write_tokenizers
from .weights import MODEL_FILE, LoadedWeights, load_weights

GATES_FILE = "gates.json"  # beside the weights: thresholds that were calibrated with them
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
    """What an export made."""

    bundle: Path
    engines: list[ExportedEngine]
    parity: list[parity.Row]


def export_bundle(
    weights_directory: Path,
    preset: Preset,
    out: Path,
    *,
    fp16: bool = False,
    overwrite: bool = False,
    command: str = "",
    progress: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Export, check and seal a bundle at `out`. It appears there whole or not at all.

    Raises:
        VljEdgeError: `out` exists, the weights do not fit, an engine misses its parity bar, or the disk is full.
    """
    with _beside(out, overwrite) as directory:
        progress("reading weights")
        weights = load_weights(weights_directory, preset)
        tokenizers = write_tokenizers(weights, preset, directory)
        engines: list[ExportedEngine] = []
        specs = {}
        for name in ENGINE_NAMES:
            progress(f"exporting {name}")
            graph = export_engine(name, weights, preset, fp16)
            files = onnx_graph.save(graph.model, directory / graph.spec.file)
            size = sum((directory / file).stat().st_size for file in files) / 1e6
            spec = graph.spec
            engines.append(
                ExportedEngine(graph.name, spec.precision, spec.opset, graph.nodes_a_layer, size, spec.kept_fp32)
            )
            specs[graph.name] = spec
        progress("comparing with torch")
        rows = parity.measure(directory, specs, weights, preset, tokenizers)
        manifest = Manifest(
            preset=preset.name,
            embedding=preset.embedding,
            preprocess=preset.preprocess,
            clip=preset.clip,
            default_query=preset.default_query,
            engines=specs,
            tokenizers=tokenizers.specs(),
            gates=_gates(weights.directory),
            files={path.name: seal(path) for path in sorted(directory.iterdir())},
            receipt=_receipt(weights, command),
            parity={"rows": [row.as_dict() for row in rows], "lowest_cosine": parity.LOWEST_COSINE},
        )
        write_manifest(directory, manifest)
    return Exported(out, engines, rows)


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


def _gates(directory: Path) -> Gates:
    path = directory / GATES_FILE
    if not path.is_file():
        return Gates()
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        scene, meaning = SceneGate(**raw["scene"]), MeaningGate(**raw["meaning"])
        return Gates(scene, meaning, CaptionMemory(**raw["memory"]), Rest(**raw["rest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise VljEdgeError(f"{path} holds no gate settings ({error!r}): remove it, or calibrate again") from error


def _receipt(weights: LoadedWeights, command: str) -> dict[str, Any]:
    return {
        "weights": {MODEL_FILE: seal(weights.directory / MODEL_FILE).sha256},
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
