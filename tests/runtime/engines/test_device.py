"""Choosing between PyCUDA and cuda-python, and driver errors as one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt import device as devices
from vlj_edge.runtime.engines.tensorrt.device import open_device, raise_driver_error


def test_pycuda_is_preferred_and_neither_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def module(name: str, package: str) -> Any:
        opened.append(name)
        return SimpleNamespace(open_device=lambda: name)

    monkeypatch.setattr(devices.importlib, "import_module", module)
    for there, expected in (
        (("pycuda", "cuda.bindings"), ".pycuda_device"),
        (("cuda.bindings",), ".cuda_python_device"),
    ):
        monkeypatch.setattr(devices, "is_installed", there.__contains__)
        open_device.cache_clear()
        assert open_device() == expected
    monkeypatch.setattr(devices, "is_installed", lambda name: False)
    open_device.cache_clear()
    with pytest.raises(VljEdgeError, match=r"vlj-edge\[tensorrt\]"):
        open_device()
    open_device.cache_clear()


def test_a_package_that_does_not_work_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, package: str) -> Any:
        raise ImportError("libcurand.so.10:\ncannot open shared object file")

    monkeypatch.setattr(devices, "is_installed", lambda name: True)
    monkeypatch.setattr(devices.importlib, "import_module", broken)
    open_device.cache_clear()
    with pytest.raises(VljEdgeError, match=r"pycuda .*libcurand\.so\.10"):
        open_device()
    open_device.cache_clear()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY from cuMemAlloc", "no memory left"),
        ("MemoryError: cuMemAlloc failed: out of memory", "no memory left"),
        ("CUDA_ERROR_LAUNCH_FAILED from cuStreamSynchronize", "the card was lost"),
        ("LaunchError: cuStreamSynchronize failed: unspecified launch failure", "the card was lost"),
        ("LaunchError: cuEventSynchronize failed: an illegal memory access was encountered", "the card was lost"),
        ("LaunchError: cuEventSynchronize failed: the launch timed out and was terminated", "the card was lost"),
        ("CUDA_ERROR_LAUNCH_TIMEOUT from cuEventSynchronize", "the card was lost"),
        ("LogicError: cuEventSynchronize failed: invalid program counter", "the card was lost"),
        ("LogicError: cuEventSynchronize failed: misaligned address", "the card was lost"),
        ("LogicError: cuEventSynchronize failed: device-side assert triggered", "the card was lost"),
        ("RuntimeError: cuEventSynchronize failed: uncorrectable ECC error encountered", "the card was lost"),
        ("CUDA_ERROR_INVALID_VALUE from cuMemcpyHtoDAsync", "the card refused while copying"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(error: str, message: str) -> None:
    with pytest.raises(VljEdgeError, match=message) as raised:
        raise_driver_error("copying", error, 1_000_000)
    assert "\n" not in str(raised.value)
