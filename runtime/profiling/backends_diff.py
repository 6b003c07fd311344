"""Compare two backends on the same video: each engine alone, then the final embedding and the decoded texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import acos, cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import DECODER, EngineSpec, Manifest
from vlj_edge.errors import require

from ..engines.base import NO_BF16, Array, Engine, backend_and_settings, open_engine
from ..model import Model
from ..video.clips import spread_clips
from ..video.source import Source

CLIPS = 4
_CACHES = ("key_cache_", "value_cache_")
# Largest difference of a value, relative to the output's largest: both backends round to the bundle's precision. TF32
# has fp16's mantissa.
_TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "tf32": 2e-2, "bf16": 6e-2}
# Of these, ONNX Runtime on the CPU also rounds what the weights are multiplied with to 8 bits, and others do not.
_ROUNDED_INPUTS = ("int8w", "int4w")


@dataclass(frozen=True)
class ComparisonRow:
    """The result for one engine, or for the chain of all.

    Attributes:
        cases: number of inputs that were compared.
        cosine: lowest cosine between the outputs of the two backends.
        torch_cosine: lowest cosine of the exported graph to torch in fp32, from the manifest; None if not measured.
        agrees: of an engine, whether Polygraphy accepts every output; of the chain, and of an engine that ONNX Runtime
            runs in another precision or with rounded inputs, whether the cosine reaches the manifest's threshold.
    """

    engine: str
    precision: str
    cases: int
    cosine: float
    torch_cosine: float | None
    agrees: bool


@dataclass(frozen=True)
class Comparison:
    """One row for each engine, one for the chain, and pairs of texts: (ONNX Runtime, the other backend).

    Attributes:
        described: the other backend, its card and how it multiplies.
    """

    rows: list[ComparisonRow]
    texts: list[tuple[str, str]]
    described: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all rows agree and all texts are equal."""
        return all(row.agrees for row in self.rows) and all(a == b for a, b in self.texts)


def compare_backends(
    directory: Path,
    manifest: Manifest,
    video: Path | Source,
    backend: str,
    engines: Path | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """Compare `backend` with ONNX Runtime on clips of a video, or of a source that ends.

    Raises:
        VljEdgeError: the video cannot be read, a backend does not work, or Polygraphy is not installed.
    """
    require("polygraphy", "export")
    backend_name, settings = backend_and_settings(backend)
    clips = spread_clips(video, manifest.clip, manifest.preprocess, CLIPS)
    with (
        Model(directory, backend, threads, engines) as other,
        Model(directory, "onnxruntime", threads) as reference,
    ):
        recorded = _record(reference, clips)
        rows = []
        for name, inputs in recorded.items():
            progress(f"comparing {name}")
            one, two = (
                open_engine(directory, manifest, name, backend=b, engines=e, threads=threads)
                for b, e in (("onnxruntime", None), (backend, engines))
            )
            arithmetic = next((each for each in ("tf32", "bf16") if settings.get(each)), None)
            rows.append(_engine_row(manifest, name, inputs, one, two, arithmetic))
            on_cpu = manifest.on_cpu.get(name) if backend_name not in NO_BF16 else None
            if on_cpu is not None or manifest.engines[name].precision in _ROUNDED_INPUTS:
                rows[-1] = _judged_by_cosine(manifest, rows[-1], on_cpu or manifest.engines[name])
        progress("comparing the chain")
        embeddings = [[_embedding(model, clip) for clip in clips] for model in (reference, other)]
        rows.append(_chain_row(manifest, *embeddings))
        texts = []
        if DECODER in manifest.engines:
            texts = [(reference.chain.decode(a)[0], other.chain.decode(b)[0]) for a, b in zip(*embeddings, strict=True)]
        described = other.backend.description
    return Comparison(rows, texts, described)


def _record(model: Model, clips: list[npt.NDArray[np.float32]]) -> dict[str, list[dict[str, Array]]]:
    """Return the inputs of each engine when `model` runs on the clips: engine -> inputs of each case."""
    vision = model.chain.vision
    recorded: dict[str, list[dict[str, Array]]] = {name: [] for name in model.manifest.engines}
    for clip in clips:
        _embedding(model, clip)
        for name, engine in vision.engines.items():
            recorded[name].append({key: array.copy() for key, array in engine.inputs.items()})
        if DECODER in recorded:
            decoder = model.manifest.engines[DECODER]
            case = {t.name: np.zeros(t.shape, t.dtype) for t in decoder.inputs}
            recorded[DECODER].append(case | {"embedding": vision.last.outputs["embedding"].astype(np.float32)})
    if not model.manifest.embeds_texts:
        return recorded
    engine, tokens = model.chain.text_encoder
    for text in ("a robot arm opens a drawer", "nothing moves"):
        ids, mask = tokens.encode(text, truncate=True)
        recorded["text_encoder"].append({"text_ids": ids, "text_mask": mask})
    return recorded


def _engine_row(
    manifest: Manifest,
    name: str,
    cases: list[dict[str, Array]],
    reference: Engine,
    other: Engine,
    arithmetic: str | None,
) -> ComparisonRow:
    """Compare one engine; `arithmetic` is that of fp32 products on the other side, if it is another."""
    from polygraphy.comparator import Comparator, IterationResult, RunResults, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    results, found = [], []
    for label, engine in (("onnxruntime", reference), ("other", other)):
        outputs = [_outputs(engine, case) for case in cases]
        results.append((label, [IterationResult(output, runner_name=label) for output in outputs]))
        found.append(outputs)
    precision = manifest.engines[name].precision
    rounding = precision.rpartition("-")[2]
    if arithmetic is not None and rounding not in ("fp16", "bf16"):
        rounding, precision = arithmetic, f"{precision} in {arithmetic.upper()}"
    tolerance = _TOLERANCE.get(rounding, _TOLERANCE["fp32"])
    largest = max(float(np.abs(o.astype(np.float64)).max()) for output in found[0] for o in output.values())
    judge = SimpleCompareFunc(atol=tolerance * max(largest, 1e-6), rtol=0.0)
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):  # it logs to stdout, which is for results
        agrees = bool(Comparator.compare_accuracy(RunResults(results), compare_func=judge))
    cosine = min(_cosine(a[key], b[key]) for a, b in zip(*found, strict=True) for key in a)
    return ComparisonRow(name, precision, len(cases), cosine, _torch_cosine(manifest, name), agrees)


def _judged_by_cosine(manifest: Manifest, row: ComparisonRow, reference: EngineSpec) -> ComparisonRow:
    """Return the row of an engine that ONNX Runtime computes otherwise, as `reference`: each may be as far from torch
    as an export allows, so the two may be apart by both angles."""
    forms = (manifest.engines[row.engine], reference)
    thresholds = manifest.parity.get("lowest_cosine", {})
    apart = sum(acos(float(thresholds.get(form.precision, 0.99))) for form in forms)
    precisions = " and ".join(dict.fromkeys([row.precision, reference.precision]))
    return replace(row, precision=precisions, agrees=row.cosine >= cos(min(apart, pi)))


def _outputs(engine: Engine, case: dict[str, Array]) -> dict[str, Array]:
    """Run one case and return the outputs as float32, without caches."""
    for name, array in case.items():
        if name in engine.inputs:  # caches stay on the device and start empty
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
    precisions = {manifest.engines[name].precision for name in manifest.vision_engines}
    thresholds = manifest.parity.get("lowest_cosine", {})
    threshold = min(float(thresholds.get(precision, 0.999)) for precision in precisions)
    to_torch = _torch_cosine(manifest, "chain" if manifest.takes_query else "vision_encoder")
    return ComparisonRow("chain", ", ".join(sorted(precisions)), len(ours), cosine, to_torch, cosine >= threshold)


def _embedding(model: Model, clip: npt.NDArray[np.float32]) -> Array:
    vision = model.chain.vision
    vision.encoder.inputs["pixels"][...] = clip
    vision.set_query(model.chain.query(None))
    vision.run()
    vision.last.wait()
    embedding: Array = vision.last.outputs["embedding"][0].copy()
    return embedding


def _torch_cosine(manifest: Manifest, name: str) -> float | None:
    rows: Any = manifest.parity.get("rows") or []
    return next((float(row["cosine"]) for row in rows if row.get("engine") == name), None)


def _cosine(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-300))
