"""Threads and spinning for ONNX Runtime on this machine: measured once by `vlj-edge tune`, never guessed.

Kept in the bundle's engines/<processor>-onnxruntime-<version>/tuning.json: what is fast here says nothing of another
machine, another version, or other graphs.
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

from vlj_edge.bundle import BUILT_ENGINES, Manifest
from vlj_edge.errors import VljEdgeError

from .engine import Engine, open_engine, usable_cores

_ROUNDS, _RUNS = 7, 5


@dataclass(frozen=True)
class Tuning:
    """How the engines of a frame's way are run on the CPU.

    Attributes:
        threads: of one engine.
        spin: threads wait for work without sleeping: faster, and the cores are never idle.
    """

    threads: int
    spin: bool


@dataclass(frozen=True)
class Tried:
    """One setting and what a window takes with it: median milliseconds of wall and of CPU time."""

    tuning: Tuning
    wall: float
    cpu: float


def tune(directory: Path, manifest: Manifest, progress: Callable[[str], None] = lambda step: None) -> list[Tried]:
    """Run encoder and predictor with every sensible setting, all in turn, and keep the best; returns all, best first.

    The fastest setting wins; of those within 3 % of it, the one that takes the least CPU time.

    Raises:
        VljEdgeError: ONNX Runtime is not installed, or the bundle cannot be run or written to.
    """
    cores = usable_cores()
    counts = sorted({1, *(n for n in (2, 4, 6, 8, 12, 16) if n < cores), cores})
    settings = [Tuning(n, spin) for n in counts for spin in ((False, True) if n > 1 else (False,))]
    engines = {setting: _open(directory, manifest, setting) for setting in settings}
    times: dict[Tuning, list[tuple[float, float]]] = {setting: [] for setting in settings}
    for round_ in range(_ROUNDS):
        progress(f"round {round_ + 1} of {_ROUNDS}")
        for setting in settings[:: 1 if round_ % 2 == 0 else -1]:
            _run(engines[setting])  # caches and clocks settle on this setting
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(_RUNS):
                _run(engines[setting])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            times[setting].append((wall / _RUNS * 1e3, cpu / _RUNS * 1e3))
    tried = [Tried(setting, *np.median(np.array(values), axis=0).tolist()) for setting, values in times.items()]
    fastest = min(one.wall for one in tried)
    tried.sort(key=lambda one: (one.wall > 1.03 * fastest, one.cpu if one.wall <= 1.03 * fastest else one.wall))
    _write(directory, manifest, tried[0])
    return tried


def read_tuning(directory: Path, manifest: Manifest) -> Tuning | None:
    """What tune() kept for this bundle, machine and version; None where there is nothing that fits."""
    try:
        raw = json.loads(_path(directory).read_text(encoding="utf-8"))
        tuning = Tuning(**raw["tuning"])
        fits = raw["bundle"] == _identity(manifest) and raw["cores"] == usable_cores()
        sound = type(tuning.threads) is int and 1 <= tuning.threads <= 1024 and type(tuning.spin) is bool
    except (OSError, ValueError, KeyError, TypeError, importlib.metadata.PackageNotFoundError):
        return None
    return tuning if fits and sound else None


def _open(directory: Path, manifest: Manifest, setting: Tuning) -> tuple[Engine, Engine]:
    options: dict[str, Any] = asdict(setting)
    encoder = open_engine(directory, manifest, "vision_encoder", **options)
    return encoder, open_engine(directory, manifest, "predictor", inputs_from={"visual_tokens": encoder}, **options)


def _run(engines: tuple[Engine, Engine]) -> None:
    for engine in engines:
        engine.run()


def _write(directory: Path, manifest: Manifest, best: Tried) -> None:
    path = _path(directory)
    best = replace(best, wall=round(best.wall, 3), cpu=round(best.cpu, 3))
    kept = asdict(best) | {"bundle": _identity(manifest), "cores": usable_cores()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        scratch.replace(path)
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


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")


def _identity(manifest: Manifest) -> str:
    """Of the graphs that are run: sha256 over their own."""
    files = [manifest.engines[name].file for name in ("vision_encoder", "predictor")]
    return hashlib.sha256("".join(manifest.files[file].sha256 for file in files).encode()).hexdigest()
