"""The kernels' own source, compiled for the processor, started as the driver starts them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "export" / "kernels"


class HostError(AssertionError):
    """What the block emulation did not let pass."""


@lru_cache(maxsize=2)
def library(turing: bool = False) -> ctypes.CDLL:
    """Built once a run. `turing`: with the tiles that sm75 has."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the kernels for the processor")
    import tempfile

    target = Path(tempfile.mkdtemp(prefix="vlj-edge-kernels-")) / "kernels.so"
    flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-DVLJ_ON_HOST", "-Wall", "-Werror", "-Wno-unknown-pragmas"]
    flags += ["-ffp-contract=off", *(["-D__CUDA_ARCH__=750"] if turing else [])]
    command = [compiler, *flags, f"-I{SOURCES}", f"-I{HERE}", "-o", str(target), str(HERE / "on_host.cpp")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


def start(
    name: str, grid: tuple[int, int, int], threads: int, arguments: list[Any], seed: int = 0, turing: bool = False
) -> None:
    """Run a kernel to its end. Arguments: arrays (their address), ints (int32), floats (float32).

    Raises:
        HostError: a rule of the card was broken.
    """
    kept = [
        ctypes.c_void_p(a.ctypes.data)
        if isinstance(a, np.ndarray)
        else ctypes.c_float(a)
        if isinstance(a, float)
        else a
        if isinstance(a, ctypes.c_void_p)
        else ctypes.c_int32(int(a))
        for a in arguments
    ]
    pointers = (ctypes.c_void_p * len(kept))(*(ctypes.addressof(value) for value in kept))
    why = ctypes.create_string_buffer(400)
    failed = library(turing).launch(name.encode(), *grid, threads, seed, pointers, why, ctypes.c_size_t(len(why)))
    if failed:
        raise HostError(f"{name}: {why.value.decode()}")
