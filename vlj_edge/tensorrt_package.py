"""TensorRT, TensorRT-RTX: two packages with one Python interface. Which of them is here, and does it work?

Versions are not compared (10.3 on JetPack 6 to 11, and TensorRT-RTX 1.x): what a version can do is asked with hasattr.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from .errors import VljEdgeError

PACKAGES = ("tensorrt", "tensorrt_rtx")  # in this order: JetPack brings the first, PyPI has the second
_EXTRA = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


@dataclass(frozen=True)
class TensorRtPackage:
    """An imported TensorRT: `package` is a name of PACKAGES, `version` its own."""

    module: Any
    package: str
    version: str


def installed() -> list[str]:
    """The names of PACKAGES that can be found here, working or not. Nothing is imported."""
    return [name for name in PACKAGES if can_be_found(name)]


def can_be_found(module: str) -> bool:
    """Is a module installed? It is not imported, but the package that it lies in is."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # "cuda.bindings" where there is no "cuda"
        return False


def import_tensorrt(package: str | None = None) -> TensorRtPackage:
    """Import the package of this name, or the first of PACKAGES that is installed.

    Raises:
        VljEdgeError: it is not installed, or it is and does not work.
    """
    found = [package] if package is not None else installed()
    if not found:
        raise VljEdgeError(
            "neither tensorrt nor tensorrt_rtx is installed: pip install 'vlj-edge[rtx]' (GeForce and RTX cards), or"
            " on a Jetson make the environment with --system-site-packages"
        )
    name = found[0]
    try:
        module = importlib.import_module(name)
        version = str(module.__version__)
        _ = module.Logger  # the bindings import without their libraries, and then hold nothing
    except ModuleNotFoundError as error:
        if error.name != name:
            raise _broken(name, error) from error
        raise VljEdgeError(f"{name} is not installed: pip install 'vlj-edge[{_EXTRA[name]}]'") from error
    except Exception as error:  # a missing libnvinfer arrives as OSError, ImportError, RuntimeError or AttributeError
        raise _broken(name, error) from error
    return TensorRtPackage(module, name, version)


def _broken(name: str, error: Exception) -> VljEdgeError:
    return VljEdgeError(
        f"{name} is installed but does not work ({error}): reinstall it (pip install --force-reinstall"
        f" 'vlj-edge[{_EXTRA[name]}]'), or run with --backend onnxruntime"
    )
