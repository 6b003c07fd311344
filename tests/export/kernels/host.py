"""Run the kernels' own source, compiled for the CPU, with the arguments of a CUDA launch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "export" / "kernels"


class HostError(AssertionError):
    """The emulated thread block found an error."""


@lru_cache(maxsize=2)
def library(turing: bool = False) -> ctypes.CDLL:
    """Compile the kernels; once per process. `turing`: with the tile sizes of sm75."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++, which compiles the kernels for the CPU, is not installed")
    flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-DVLJ_ON_HOST", "-Wall", "-Werror", "-Wno-unknown-pragmas"]
    flags += ["-ffp-contract=off", *(["-D__CUDA_ARCH__=750"] if turing else [])]
    with tempfile.TemporaryDirectory(prefix="vlj-edge-kernels-") as scratch:
        target = Path(scratch) / "kernels.so"
        command = [compiler, *flags, f"-I{SOURCES}", f"-I{HERE}", "-o", str(target), str(HERE / "on_host.cpp")]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(target))  # stays loaded without its file


def start(
    name: str, grid: tuple[int, int, int], threads: int, arguments: list[Any], seed: int = 0, turing: bool = False
) -> None:
    """Run a kernel to its end. Arguments: arrays (passed by address), c_void_p, ints (int32).

    Raises:
        HostError: the emulated block found an error.
    """
    values = [_as_ctype(argument) for argument in arguments]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    why = ctypes.create_string_buffer(400)
    failed = library(turing).launch(name.encode(), *grid, threads, seed, pointers, why, ctypes.c_size_t(len(why)))
    if failed:
        raise HostError(f"{name}: {why.value.decode()}")


def _as_ctype(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    return argument if isinstance(argument, ctypes.c_void_p) else ctypes.c_int32(int(argument))
