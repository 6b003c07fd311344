"""Importing TensorRT or TensorRT-RTX, two packages with the same Python interface.

Versions differ widely (10.3 on JetPack 6 to 11, and TensorRT-RTX 1.x). Version numbers are not compared: callers test
for features with hasattr.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from .errors import VljEdgeError

PACKAGES = ("tensorrt", "tensorrt_rtx")  # the first that is installed is used
NUMPY_NAMES = {  # of the members of DataType
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "BOOL": "bool",
}
_EXTRA = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


@dataclass(frozen=True)
class TensorRtPackage:
    """An imported TensorRT: the module, its name in PACKAGES, and its version."""

    module: Any
    package: str
    version: str


def installed() -> list[str]:
    """Return the PACKAGES that are installed, working or not, without importing them."""
    return [name for name in PACKAGES if is_installed(name)]


def is_installed(module: str) -> bool:
    """Return whether a module is installed, without importing it; the packages around it are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # "cuda.bindings" where there is no "cuda"
        return False


def import_tensorrt(package: str | None = None) -> TensorRtPackage:
    """Import TensorRT.

    Args:
        package: a name in PACKAGES; None: the first that is installed.

    Raises:
        VljEdgeError: it is not installed or does not work.
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
        _ = module.Logger  # without its libraries the package can be imported, but is empty
    except ModuleNotFoundError as error:
        if error.name != name:
            raise _broken(name, error) from error
        raise VljEdgeError(f"{name} is not installed: pip install 'vlj-edge[{_EXTRA[name]}]'") from error
    except Exception as error:  # without libnvinfer: OSError, ImportError, RuntimeError or AttributeError
        raise _broken(name, error) from error
    return TensorRtPackage(module, name, version)


def _broken(name: str, error: Exception) -> VljEdgeError:
    return VljEdgeError(
        f"{name} is installed but does not work ({error}): reinstall it (pip install --force-reinstall"
        f" 'vlj-edge[{_EXTRA[name]}]'), or run with --backend onnxruntime"
    )
