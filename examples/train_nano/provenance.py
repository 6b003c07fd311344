"""The provenance of results: the header of every file under results/."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

VERSIONS_OF = ("vlj-edge", "numpy", "onnxruntime", "av", "opencv-python-headless", "torch", "transformers", "onnx")


def provenance(command: str) -> dict[str, Any]:
    """Return the command, the machine, package versions and the commit."""
    folder = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=folder, check=False)
    return {
        "command": command,
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {package: version(package) for package in VERSIONS_OF},
        "commit": commit.stdout.strip() or "unknown",
    }


def add_to(path: Path, report: dict[str, Any]) -> None:
    """Merge a report into a result file; entries of other programs stay."""
    existing = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(existing | report, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
