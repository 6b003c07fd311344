"""The conditions of a measurement: machine, versions, bundle, source and command, so that two can be told apart."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

from vlj_edge.errors import without_credentials, without_secrets

from ..engines.base import usable_cores
from ..engines.tuning import processor
from ..model import Model
from .sysfs import read_text

_BOARD = (Path("/proc/device-tree/model"), Path("/sys/class/dmi/id/product_name"))
_DRIVER = Path("/proc/driver/nvidia/version")
_MEMINFO = Path("/proc/meminfo")
_PACKAGES = (
    *("vlj-edge", "numpy", "av", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13"),
    *("pycuda", "cuda-python", "nvidia-ml-py"),
)

Conditions: TypeAlias = dict[str, Any]


def conditions(model: Model, source: str, command: str = "") -> Conditions:
    """Return the conditions of a measurement in plain JSON types; None for what the system does not say.

    Args:
        source: its name. Secrets in its address, and in those of the command, are replaced.
        command: the command line that began it.
    """
    card = _card()
    manifest = model.directory / "manifest.json"
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": next((board for board in map(_board, _BOARD) if board), None),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": processor() or None,
        "cores": usable_cores(),
        "memory_megabytes": _memory(),
        "gpu": card[0],
        "driver": card[1] or _driver(),
        "versions": {"python": platform.python_version()} | _versions(),
        "bundle": str(model.directory),
        "bundle_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "model": f"{model.manifest.family} {model.manifest.preset}",
        "precision": {name: spec.precision for name, spec in model.manifest.engines.items()},
        "backend": model.backend.description,
        "threads": model.chain.threads,
        "tokens": model.tokens,
        "source": without_credentials(source),
        "command": without_secrets(command),
    }


def condition_texts(found: Conditions) -> dict[str, str | None]:
    """Return conditions as texts for tables: lists on one line, the hash shortened; None for what is unknown."""
    texts: dict[str, str | None] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            texts[name] = ", ".join(f"{key} {each}" for key, each in value.items())
        elif name == "bundle_sha256":
            texts[name] = str(value)[:16]
        else:
            texts[name] = None if value in (None, "") else str(value)
    return texts


def _board(path: Path) -> str | None:
    return (read_text(path) or "").strip("\0 ") or None


def _memory() -> int | None:
    text = read_text(_MEMINFO) or ""
    kilobytes = next((line.split()[1] for line in text.splitlines() if line.startswith("MemTotal:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024 // 1_000_000


def _card() -> tuple[str | None, str | None]:
    """Return the name of NVML's first card and the version of its driver."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        found = (nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(0)), nvml.nvmlSystemGetDriverVersion())
        name, driver = (each.decode() if isinstance(each, bytes) else str(each) for each in found)
        return name, driver
    except Exception:  # pynvml has its own error classes, and any of them means that there is no NVML
        return None, None


def _driver() -> str | None:
    """Return the first line of the NVIDIA kernel module's version, for a Tegra or without NVML."""
    return next(iter((read_text(_DRIVER) or "").splitlines()), None)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
