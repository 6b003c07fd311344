"""Whether ONNX Runtime's CUDA provider can run here, and if not, why: in one line, before anything is loaded."""

from __future__ import annotations

import ctypes
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from vlj_edge.errors import VljEdgeError
from vlj_edge.telemetry import import_onnxruntime

from .tensorrt.device import raise_driver_error

PROVIDER = "CUDAExecutionProvider"
_OTHERWISE = "or leave --backend out"


def has_provider() -> bool:
    """Return whether the installed onnxruntime was built with CUDA.

    Raises:
        VljEdgeError: onnxruntime is not installed, or cannot be imported.
    """
    return PROVIDER in import_onnxruntime().get_available_providers()


def find_card() -> str:
    """Return the name of the card on which ONNX Runtime's CUDA provider runs: the first one.

    Raises:
        VljEdgeError: the package has no such provider, there is no driver or no card, or a library of CUDA is missing.
    """
    ort = import_onnxruntime()
    if not has_provider():
        raise VljEdgeError(
            f"this onnxruntime {ort.__version__} is the one without CUDA: pip uninstall -y onnxruntime, then pip"
            f" install 'vlj-edge[gpu]', {_OTHERWISE}"
        )
    name = _name_of_card()
    _load_libraries(ort)
    return name


def card_error(error: str) -> str | None:
    """Return the card's part of an error of ONNX Runtime, which comes after a file and a signature; None if it has
    none."""
    found = re.search(
        r"(?:CUDA|CUDNN|CUBLAS|CUBLASLT|CUFFT|CURAND) failure [^;]+|Failed to allocate memory[^;]*", error
    )
    return None if found is None else " ".join(found[0].split())


def raise_not_loaded(ort: Any, path: Path, error: str) -> NoReturn:
    """Raise why ONNX Runtime did not load a graph on the card.

    Args:
        error: its own, which blames the graph's nodes even if the provider did not start; "" if it gave none.
    """
    of_card = card_error(error)
    if of_card is not None:
        raise_driver_error(f"loading {path}", of_card)
    said = " ".join(error.split())[:200]
    try:  # ONNX Runtime has tried it, and logs the reason, which is for nobody to read
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"))
        reason = "" if said else "it gives no reason"
    except OSError as error:
        reason = " ".join(str(error).split())[-200:]
    if reason:
        raise VljEdgeError(
            f"onnxruntime {ort.__version__} did not start its CUDA provider ({reason}): check that CUDA, cuDNN and the"
            f" driver are of its versions (pip install 'onnxruntime-gpu[cuda,cudnn]=={ort.__version__}'), {_OTHERWISE}"
        )
    raise VljEdgeError(
        f"onnxruntime {ort.__version__} cannot load {path} on the card ({said}): --backend cuda+cpu lets the CPU run"
        f" what CUDA has no kernel for, {_OTHERWISE}"
    )


def _name_of_card() -> str:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise VljEdgeError(
            f"CUDA needs NVIDIA's driver, and there is no libcuda.so.1 here: install the driver, {_OTHERWISE}"
        ) from error
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(driver, driver.cuInit(0))
    _check(driver, driver.cuDeviceGetCount(ctypes.byref(count)))
    if not count.value:
        raise VljEdgeError(f"NVIDIA's driver finds no card: see nvidia-smi and CUDA_VISIBLE_DEVICES, {_OTHERWISE}")
    _check(driver, driver.cuDeviceGet(ctypes.byref(device), 0))
    _check(driver, driver.cuDeviceGetName(name, len(name), device))
    return name.value.decode(errors="replace")


def _check(driver: ctypes.CDLL, code: int) -> None:
    """Raise the error that a function of the driver has returned."""
    if code:
        name = ctypes.c_char_p()
        driver.cuGetErrorName(code, ctypes.byref(name))
        reason = name.value.decode(errors="replace") if name.value else f"error {code}"
        raise VljEdgeError(f"NVIDIA's driver reaches no card ({reason}): see nvidia-smi, {_OTHERWISE}")


def _load_libraries(ort: ModuleType) -> None:
    """Load CUDA's libraries from NVIDIA's packages, else from where the system has them.

    The provider's own library must not be loaded here: it takes a pointer when it is, which ONNX Runtime sets first.
    """
    if not hasattr(ort, "preload_dlls"):  # before 1.21
        return
    said = io.StringIO()
    with redirect_stdout(said):  # which is for results
        ort.preload_dlls()
    missing = re.findall(r"Failed to load ([^\s:]+)", said.getvalue())
    if missing:
        raise VljEdgeError(
            f"ONNX Runtime {ort.__version__} cannot load {', '.join(missing)}: pip install"
            f" 'onnxruntime-gpu[cuda,cudnn]=={ort.__version__}', {_OTHERWISE}"
        )
