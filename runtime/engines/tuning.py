"""Backend, threads and arithmetic on this machine's CPU: measured once by `vlj-edge tune`, never guessed.

Kept in the bundle's engines/<processor>-onnxruntime-<version>/tuning.json: what is fast here says nothing of another
machine, other versions, or other graphs.
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
from vlj_edge.bundle import BUILT_ENGINES, Manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import is_installed

from ..video.clips import spread_clips
from ..video.synthetic import SyntheticSource
from ..words.tokenizer import FixedLengthTokenizer
from . import openvino
from .base import Engine, open_engine, usable_cores

LEAST_COSINE = 0.999  # as for int8 (issue 6): below it, gates and labels that were calibrated no longer fit
_TIMED = ("vision_encoder", "predictor")
_ROUNDS, _RUNS, _ROUND_SECONDS = 4, 5, 2.0  # rounds each way; windows a round, fewer where a window is slow
_CLIPS, _STREAM = 6, 24.0  # windows that embeddings are compared on, and seconds of the drawn stream they are from


@dataclass(frozen=True)
class Tuning:
    """How the engines of a frame's way are run on the CPU.

    Attributes:
        threads: of one engine.
        spin: threads wait for work without sleeping: faster, and the cores are never idle.
        backend: "onnxruntime" or "openvino".
        bf16: products in bf16.
    """

    threads: int
    spin: bool
    backend: str = "onnxruntime"
    bf16: bool = False


@dataclass(frozen=True)
class TuningResult:
    """One setting and what a window takes with it.

    Attributes:
        wall, cpu: median milliseconds of wall and of CPU time.
        cosine: of its embeddings to those of ONNX Runtime, the lowest over the windows of a stream.
    """

    tuning: Tuning
    wall: float
    cpu: float
    cosine: float

    @property
    def accepted(self) -> bool:
        """Do its embeddings mean the same?"""
        return self.cosine >= LEAST_COSINE


def tune(
    directory: Path, manifest: Manifest, progress: Callable[[str], None] = lambda step: None
) -> list[TuningResult]:
    """Run encoder and predictor with every sensible setting, there and back; keep the best and return all, best first.

    The fastest setting wins whose embeddings are those of ONNX Runtime; of those within 3 % of it, the one that takes
    the least CPU time.

    Raises:
        VljEdgeError: ONNX Runtime is not installed, or the bundle cannot be run or written to.
    """
    settings = _settings(manifest)
    clips = spread_clips(SyntheticSource(_STREAM), manifest.clip, manifest.preprocess, _CLIPS)
    question = FixedLengthTokenizer(directory, manifest, "query").encode(manifest.default_query)
    times: dict[Tuning, list[tuple[float, float]]] = {setting: [] for setting in settings}
    embeddings: dict[Tuning, np.ndarray] = {}
    # There and back: what else the machine does, and its clocks, meet every setting twice. One setting's engines at a
    # time, since those of 24 layers take gigabytes.
    for setting in (*settings, *settings[::-1]):
        progress(f"{setting.backend}, {setting.threads} threads{', bf16' if setting.bf16 else ''}")
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
    """All that can be tried here; ONNX Runtime, which the others are compared with, first."""
    cores = usable_cores()
    counts = sorted({1, *(n for n in (2, 4, 6, 8, 12, 16) if n < cores), cores})
    settings = [Tuning(n, spin) for n in counts for spin in ((False, True) if n > 1 else (False,))]
    if is_installed("openvino") and not any("16" in manifest.engines[name].precision for name in _TIMED):
        halves = (False, True) if openvino.has_bf16() else (False,)
        settings += [Tuning(n, False, "openvino", half) for n in counts for half in halves]
    return settings


def _open(
    directory: Path, manifest: Manifest, setting: Tuning, question: tuple[np.ndarray, np.ndarray]
) -> tuple[Engine, Engine]:
    options: dict[str, Any] = asdict(setting)
    encoder = open_engine(directory, manifest, "vision_encoder", **options)
    predictor = open_engine(directory, manifest, "predictor", inputs_from={"visual_tokens": encoder}, **options)
    predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = question
    return encoder, predictor


def _embed(engines: tuple[Engine, Engine], clips: list[np.ndarray]) -> np.ndarray:
    """The clips' embeddings, float64 [clips, width]."""
    encoder, predictor = engines
    rows = []
    for clip in clips:
        encoder.inputs["pixels"][...] = clip
        _run(engines)
        rows.append(predictor.outputs["embedding"][0].astype(np.float64))
    return np.stack(rows)


def _time(engines: tuple[Engine, Engine], clip: np.ndarray) -> list[tuple[float, float]]:
    """Milliseconds of wall and of CPU time a window, once for every round."""
    engines[0].inputs["pixels"][...] = clip  # the same both ways
    start = time.perf_counter()
    _run(engines)  # caches and clocks settle on this setting
    runs = max(1, min(_RUNS, int(_ROUND_SECONDS / (time.perf_counter() - start))))
    found = []
    for _ in range(_ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(runs):
            _run(engines)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found.append((wall / runs * 1e3, cpu / runs * 1e3))
    return found


def _run(engines: tuple[Engine, Engine]) -> None:
    for engine in engines:
        engine.run()


def _cosines(embeddings: dict[Tuning, np.ndarray]) -> dict[Tuning, float]:
    """Lowest cosine of each setting's embeddings to the first setting's."""
    first = next(iter(embeddings.values()))
    return {setting: float((rows * first).sum(axis=1).min()) for setting, rows in embeddings.items()}


def read_tuning(directory: Path, manifest: Manifest) -> Tuning | None:
    """What tune() kept for this bundle, machine and version; None where there is nothing that fits."""
    try:
        raw = json.loads(_path(directory).read_text(encoding="utf-8"))
        tuning = Tuning(**raw["tuning"])
        fits = raw["bundle"] == _identity(manifest) and raw["cores"] == usable_cores()
        fits = fits and (tuning.backend == "onnxruntime" or raw["openvino"] == _openvino_version())
        sound = type(tuning.threads) is int and 1 <= tuning.threads <= 1024
        sound = sound and type(tuning.spin) is bool and type(tuning.bf16) is bool
    except (OSError, ValueError, KeyError, TypeError, importlib.metadata.PackageNotFoundError):
        return None
    return tuning if fits and sound else None


def _write(directory: Path, manifest: Manifest, best: TuningResult) -> None:
    path = _path(directory)
    best = replace(best, wall=round(best.wall, 3), cpu=round(best.cpu, 3), cosine=round(best.cosine, 6))
    here = {"bundle": _identity(manifest), "cores": usable_cores(), "openvino": _openvino_version()}
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
    name = re.sub(r"[^a-z0-9]+", "-", (_processor() or platform.machine()).lower()).strip("-")
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


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")


def _identity(manifest: Manifest) -> str:
    """Of the graphs that are run: sha256 over their own."""
    files = [manifest.engines[name].file for name in _TIMED]
    return hashlib.sha256("".join(manifest.files[file].sha256 for file in files).encode()).hexdigest()
