"""Two backends on the same real video: every engine alone, then the final embedding and the decoded texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import DECODER, Manifest
from vlj_edge.errors import require

from ..engines.base import Array, Engine, open_engine
from ..model import Model
from ..video.clips import spread_clips

CLIPS = 4
_CACHES = ("key_cache_", "value_cache_")
# Of single values, in units of the output's own largest: both compute in the bundle's precision, and round differently.
_TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 6e-2}


@dataclass(frozen=True)
class ComparisonRow:
    """One engine, or the chain.

    Attributes:
        cases: inputs that were compared.
        cosine: lowest between the backends' outputs.
        to_torch: the manifest's figure for the exported graph, lowest cosine to torch in fp32; None: not measured.
        agrees: the verdict: Polygraphy's, of every output of an engine, or that the cosine is above the manifest's bar.
    """

    engine: str
    precision: str
    cases: int
    cosine: float
    to_torch: float | None
    agrees: bool


@dataclass(frozen=True)
class Comparison:
    """What compare() found: a row an engine, one for the chain, and the texts of both backends, side by side."""

    rows: list[ComparisonRow]
    texts: list[tuple[str, str]]

    @property
    def agrees(self) -> bool:
        """Every row does, and every text is the same."""
        return all(row.agrees for row in self.rows) and all(a == b for a, b in self.texts)


def compare_backends(
    directory: Path,
    manifest: Manifest,
    video: Path,
    backend: str,
    engines: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """`backend` beside ONNX Runtime, on clips and embeddings of the video.

    Raises:
        VljEdgeError: the video cannot be read, a backend does not work, or Polygraphy is not installed.
    """
    require("polygraphy", "export")
    clips = spread_clips(video, manifest.clip, manifest.preprocess, CLIPS)
    reference, other = Model(directory, "onnxruntime"), Model(directory, backend, engines=engines)
    recorded = _record(reference, clips)
    rows = []
    for name, inputs in recorded.items():
        progress(f"comparing {name}")
        pair = [
            open_engine(directory, manifest, name, backend=b, engines=e)
            for b, e in (("onnxruntime", None), (backend, engines))
        ]
        rows.append(_engine_row(manifest, name, inputs, *pair))
    progress("comparing the chain")
    embeddings = [[_embedding(model, clip) for clip in clips] for model in (reference, other)]
    rows.append(_chain_row(manifest, *embeddings))
    texts = []
    if DECODER in manifest.engines:
        texts = [(reference.chain.decode(a)[0], other.chain.decode(b)[0]) for a, b in zip(*embeddings, strict=True)]
    return Comparison(rows, texts)


def _record(model: Model, clips: list[npt.NDArray[np.float32]]) -> dict[str, list[dict[str, Array]]]:
    """What each engine is given when the reference runs on the clips: engine -> inputs of each case."""
    encoder, _, predictor = model.chain.vision
    recorded: dict[str, list[dict[str, Array]]] = {name: [] for name in model.manifest.engines}
    for clip in clips:
        _embedding(model, clip)
        for name, engine in (("vision_encoder", encoder), ("predictor", predictor)):
            recorded[name].append({key: array.copy() for key, array in engine.inputs.items()})
        if DECODER in recorded:
            say = model.manifest.engines[DECODER]
            case = {t.name: np.zeros(t.shape, t.dtype) for t in say.inputs}
            recorded[DECODER].append(case | {"embedding": predictor.outputs["embedding"].astype(np.float32)})
    engine, tokens = model.chain.text_encoder
    for text in ("a robot arm opens a drawer", "nothing moves"):
        ids, mask = tokens.encode(text, truncate=True)
        recorded["text_encoder"].append({"text_ids": ids, "text_mask": mask})
    return recorded


def _engine_row(
    manifest: Manifest, name: str, cases: list[dict[str, Array]], reference: Engine, other: Engine
) -> ComparisonRow:
    from polygraphy.comparator import Comparator, IterationResult, RunResults, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    results, found = [], []
    for label, engine in (("onnxruntime", reference), ("other", other)):
        outputs = [_outputs(engine, case) for case in cases]
        results.append((label, [IterationResult(output, runner_name=label) for output in outputs]))
        found.append(outputs)
    precision = manifest.engines[name].precision
    tolerance = _TOLERANCE[precision.rpartition("-")[2] if precision.rpartition("-")[2] in _TOLERANCE else "fp32"]
    largest = max(float(np.abs(o.astype(np.float64)).max()) for output in found[0] for o in output.values())
    judge = SimpleCompareFunc(atol=tolerance * max(largest, 1e-6), rtol=0.0)
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):  # it logs to stdout, which is for results
        agrees = bool(Comparator.compare_accuracy(RunResults(results), compare_func=judge))
    cosine = min(_cosine(a[key], b[key]) for a, b in zip(*found, strict=True) for key in a)
    return ComparisonRow(name, precision, len(cases), cosine, _to_torch(manifest, name), agrees)


def _outputs(engine: Engine, case: dict[str, Array]) -> dict[str, Array]:
    """What an engine makes of one case, numbers as float32; what it keeps for itself is left out."""
    for name, array in case.items():
        if name in engine.inputs:  # caches lie on the device, and begin empty
            engine.inputs[name][...] = array
    engine.run()
    engine.wait()
    return {
        name: array.astype(np.float32)
        for name, array in engine.outputs.items()
        if not name.startswith(_CACHES) and np.issubdtype(array.dtype, np.floating)
    }


def _chain_row(manifest: Manifest, ours: list[Array], theirs: list[Array]) -> ComparisonRow:
    cosine = min(_cosine(a, b) for a, b in zip(ours, theirs, strict=True))
    precisions = {manifest.engines[name].precision for name in ("vision_encoder", "predictor")}
    bars = manifest.parity.get("lowest_cosine", {})
    bar = min(float(bars.get(precision, 0.999)) for precision in precisions)
    return ComparisonRow(
        "chain", ", ".join(sorted(precisions)), len(ours), cosine, _to_torch(manifest, "chain"), cosine >= bar
    )


def _embedding(model: Model, clip: npt.NDArray[np.float32]) -> Array:
    encoder, _, predictor = model.chain.vision
    query_ids, query_mask = model.chain.query(model.manifest.default_query)
    encoder.inputs["pixels"][...] = clip
    predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = query_ids, query_mask
    encoder.run()
    predictor.run()
    predictor.wait()
    embedding: Array = predictor.outputs["embedding"][0].copy()
    return embedding


def _to_torch(manifest: Manifest, name: str) -> float | None:
    rows: Any = manifest.parity.get("rows") or []
    return next((float(row["cosine"]) for row in rows if row.get("engine") == name), None)


def _cosine(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-300))
