"""`vlj-edge tune`: measure backends, thread counts, bf16 and TF32 on this machine and save the fastest.

The result is saved in the bundle's engines/<processor>-onnxruntime-<version>/tuning.json, and used only on the same
processor, with the same versions, the same graphs and, for CUDA, the same card.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlj_edge.atomic_write import atomic_write
from vlj_edge.bundle import BUILT_ENGINES, PREDICTOR, Manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import is_installed

from ..video.clips import spread_clips
from ..video.synthetic import SyntheticSource
from ..words.tokenizer import FixedLengthTokenizer
from . import cuda_check, openvino
from .base import Engine, open_engine, usable_cores

LEAST_COSINE = 0.999  # the minimum of int8 exports too: below it, calibrated gates and labels no longer fit
_ROUNDS = 4  # in each of the two orders
_RUNS, _ROUND_SECONDS = 5, 2.0  # windows a round, fewer if they would take longer than these seconds
_CLIPS, _STREAM = 6, 24.0  # windows whose embeddings are compared; seconds of the synthetic stream they come from


@dataclass(frozen=True)
class Tuning:
    """Settings for running encoder, predictor and decoder without engines that are built for a card.

    Attributes:
        threads: threads of one engine.
        spin: threads busy-wait for work: faster, but the cores are never idle.
        backend: "onnxruntime", "openvino" or "cuda".
        bf16: multiply in bf16 (OpenVINO).
        tf32: multiply in TF32 (CUDA).
    """

    threads: int
    spin: bool
    backend: str = "onnxruntime"
    bf16: bool = False
    tf32: bool = False


@dataclass(frozen=True)
class TuningResult:
    """One setting and its measurements.

    Attributes:
        wall, cpu: median milliseconds of wall and CPU time a window.
        cosine: lowest cosine of its embeddings to those of ONNX Runtime, over the windows of a stream.
    """

    tuning: Tuning
    wall: float
    cpu: float
    cosine: float

    @property
    def accepted(self) -> bool:
        """Whether its embeddings are close enough to those of ONNX Runtime."""
        return self.cosine >= LEAST_COSINE


def tune(
    directory: Path,
    manifest: Manifest,
    progress: Callable[[str], None] = lambda step: None,
    left_out: Callable[[str], None] = lambda reason: None,
) -> list[TuningResult]:
    """Measure encoder and predictor with every sensible setting, save the best one and return all, best first.

    The best setting is the fastest whose embeddings agree with ONNX Runtime's; among those within 3 % of it, the one
    with the least CPU time.

    Args:
        progress: called with a line about each setting.
        left_out: called with a line about a backend that is installed and cannot run the bundle here.

    Raises:
        VljEdgeError: ONNX Runtime is not installed, or the bundle cannot be run or written to.
    """
    settings = _settings(manifest)
    settings += _cuda_settings(directory, manifest, left_out)
    clips = spread_clips(SyntheticSource(_STREAM), manifest.clip, manifest.preprocess, _CLIPS)
    question = None
    if manifest.takes_query:
        question = FixedLengthTokenizer(directory, manifest, "query").encode(manifest.default_query)
    times: dict[Tuning, list[tuple[float, float]]] = {setting: [] for setting in settings}
    embeddings: dict[Tuning, np.ndarray] = {}
    # In both orders, so that other load and changing clocks affect all settings alike. Only one setting's engines are
    # loaded at a time, since those of large models take gigabytes.
    for setting in (*settings, *settings[::-1]):
        arithmetic = ", bf16" if setting.bf16 else ", TF32" if setting.tf32 else ""
        progress(f"{setting.backend}, {setting.threads} threads{arithmetic}")
        engines = _open(directory, manifest, setting, question)
        if setting not in embeddings:
            embeddings[setting] = _embed(engines, clips)
        times[setting] += _time(engines, clips[0])
        del engines
    cosines = _cosines(embeddings)
    medians = {setting: np.median(np.array(values), axis=0).tolist() for setting, values in times.items()}
    tried = [TuningResult(setting, wall, cpu, cosines[setting]) for setting, (wall, cpu) in medians.items()]
    fastest = min(one.wall for one in tried if one.accepted)
    near = 1.03 * fastest
    tried.sort(key=lambda one: (not one.accepted, one.wall > near, one.cpu if one.wall <= near else one.wall))
    _write(directory, manifest, tried[0])
    return tried


def _settings(manifest: Manifest) -> list[Tuning]:
    """Return the settings to try; ONNX Runtime, the reference of the comparison, first."""
    cores = usable_cores()
    counts = sorted({1, *(n for n in (2, 4, 6, 8, 12, 16) if n < cores), cores})
    settings = [Tuning(n, spin) for n in counts for spin in ((False, True) if n > 1 else (False,))]
    if is_installed("openvino") and not any(
        "16" in manifest.engines[name].precision for name in manifest.vision_engines
    ):
        halves = (False, True) if openvino.has_bf16() else (False,)
        settings += [Tuning(n, False, "openvino", half) for n in counts for half in halves]
    return settings


def _cuda_settings(directory: Path, manifest: Manifest, left_out: Callable[[str], None]) -> list[Tuning]:
    """Return the settings of CUDA to try: none where the package has no CUDA, or it cannot run the bundle here."""
    if not cuda_check.has_provider():
        return []
    settings = [Tuning(1, False, "cuda")]
    if any("fp16" not in manifest.engines[name].precision for name in manifest.vision_engines):
        settings.append(Tuning(1, False, "cuda", tf32=True))
    try:
        for name in manifest.vision_engines:
            open_engine(directory, manifest, name, backend="cuda")
    except VljEdgeError as error:
        left_out(f"cuda is left out: {error}")
        return []
    return settings


def _open(
    directory: Path, manifest: Manifest, setting: Tuning, question: tuple[np.ndarray, np.ndarray] | None
) -> list[Engine]:
    options: dict[str, Any] = asdict(setting)
    encoder = open_engine(directory, manifest, "vision_encoder", **options)
    if question is None:
        return [encoder]
    predictor = open_engine(directory, manifest, PREDICTOR, inputs_from={"visual_tokens": encoder}, **options)
    predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = question
    return [encoder, predictor]


def _embed(engines: list[Engine], clips: list[np.ndarray]) -> np.ndarray:
    """Return the clips' embeddings, float64 [clips, width]."""
    rows = []
    for clip in clips:
        engines[0].inputs["pixels"][...] = clip
        _run(engines)
        rows.append(engines[-1].outputs["embedding"][0].astype(np.float64))
    return np.stack(rows)


def _time(engines: list[Engine], clip: np.ndarray) -> list[tuple[float, float]]:
    """Return milliseconds of wall and CPU time a window, of every round."""
    engines[0].inputs["pixels"][...] = clip  # the same clip in every round
    start = time.perf_counter()
    _run(engines)  # warm-up
    runs = max(1, min(_RUNS, int(_ROUND_SECONDS / (time.perf_counter() - start))))
    found = []
    for _ in range(_ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(runs):
            _run(engines)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found.append((wall / runs * 1e3, cpu / runs * 1e3))
    return found


def _run(engines: list[Engine]) -> None:
    for engine in engines:
        engine.run()


def _cosines(embeddings: dict[Tuning, np.ndarray]) -> dict[Tuning, float]:
    """Return the lowest cosine of each setting's embeddings to the first setting's."""
    first = next(iter(embeddings.values()))
    return {setting: float((rows * first).sum(axis=1).min()) for setting, rows in embeddings.items()}


def read_tuning(directory: Path, manifest: Manifest) -> Tuning | None:
    """Return what tune() saved for this bundle, machine and version; None if missing, malformed or made for another."""
    try:
        raw = json.loads(_path(directory).read_text(encoding="utf-8"))
        tuning = Tuning(**raw["tuning"])
        fits = raw["bundle"] == _graphs_hash(manifest) and raw["cores"] == usable_cores()
        fits = fits and (tuning.backend != "openvino" or raw["openvino"] == _openvino_version())
        sound = type(tuning.threads) is int and 1 <= tuning.threads <= 1024
        sound = sound and all(type(flag) is bool for flag in (tuning.spin, tuning.bf16, tuning.tf32))
        if tuning.backend == "cuda":  # without a card, select_backend() says why
            fits = fits and _card() in (None, raw["card"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError, importlib.metadata.PackageNotFoundError):
        return None
    return tuning if fits and sound else None


def _write(directory: Path, manifest: Manifest, best: TuningResult) -> None:
    path = _path(directory)
    best = replace(best, wall=round(best.wall, 3), cpu=round(best.cpu, 3), cosine=round(best.cosine, 6))
    here: dict[str, Any] = {"bundle": _graphs_hash(manifest), "cores": usable_cores(), "openvino": _openvino_version()}
    here["card"] = _card() if best.tuning.backend == "cuda" else None
    kept = asdict(best) | here
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            stream.write((json.dumps(kept, indent=1) + "\n").encode())
    except OSError as error:
        raise VljEdgeError(
            f"{path} cannot be written ({error.strerror or error}): copy the bundle to a place of your own"
        ) from error


def _path(directory: Path) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", (processor() or platform.machine()).lower()).strip("-")
    return directory / BUILT_ENGINES / f"{name}-onnxruntime-{_version()}" / "tuning.json"


def _version() -> str:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise importlib.metadata.PackageNotFoundError("onnxruntime")


def _openvino_version() -> str | None:
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


def _card() -> str | None:
    try:
        return cuda_check.find_card()
    except VljEdgeError:
        return None


def processor() -> str:
    """Return the name of the CPU; "" if the system does not say it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")


def _graphs_hash(manifest: Manifest) -> str:
    """Return a hash that identifies the encoder's and the predictor's graphs."""
    files = [manifest.engines[name].file for name in manifest.vision_engines]
    return hashlib.sha256("".join(manifest.files[file].sha256 for file in files).encode()).hexdigest()
