"""The device module on a real GPU: memory, copies, events, and a CUDA graph that launches a kernel."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt.device import Buffer, Device

KERNEL = """
extern "C" __global__ void twice(float* values, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) values[i] *= 2.0f;
}
"""
COUNT = 1000


@pytest.fixture
def launch_twice(card: Device, tmp_path: Path) -> Any:
    """launch_twice(buffer, stream) queues the kernel through the driver API."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).exists():
        pytest.skip("nvcc, which compiles the kernel, is not installed")
    source, binary = tmp_path / "twice.cu", tmp_path / "twice.cubin"
    source.write_text(KERNEL)
    architecture = card.sm.replace("sm", "sm_")
    subprocess.run([nvcc, f"-arch={architecture}", "-cubin", str(source), "-o", str(binary)], check=True)
    driver = ctypes.CDLL("libcuda.so.1")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    assert driver.cuModuleLoad(ctypes.byref(module), str(binary).encode()) == 0
    assert driver.cuModuleGetFunction(ctypes.byref(function), module, b"twice") == 0

    def launch(buffer: Buffer, stream: int) -> None:
        values, count = ctypes.c_void_p(buffer.address), ctypes.c_int(COUNT)
        arguments = (ctypes.c_void_p * 2)(ctypes.addressof(values), ctypes.addressof(count))
        grid = ((COUNT + 127) // 128, 1, 1)
        status = driver.cuLaunchKernel(function, *grid, 128, 1, 1, 0, ctypes.c_void_p(stream), arguments, None)
        assert status == 0

    return launch


def test_new_memory_is_zero_and_copies_return_the_same(card: Device) -> None:
    stream = card.stream()
    buffer, other = card.allocate(4 * COUNT), card.allocate(4 * COUNT)
    there, back = card.pinned((COUNT,), np.float32), card.pinned((COUNT,), np.float32)
    back[...] = 1
    card.copy_out(back, buffer, stream)
    card.synchronise(stream)
    assert not back.any()
    there[...] = np.arange(COUNT)
    card.copy_in(buffer, there, stream)
    card.copy(other, buffer, stream)
    card.copy_out(back, other, stream)
    done = card.event()
    card.record(done, stream)
    card.wait(done)
    np.testing.assert_array_equal(back, there)
    free = card.free_memory()
    card.free(buffer)
    card.free(other)
    assert card.free_memory() >= free


def test_a_graph_replays_the_captured_work(card: Device, launch_twice: Any) -> None:
    stream, buffer = card.stream(), card.allocate(4 * COUNT)
    there, back = card.pinned((COUNT,), np.float32), card.pinned((COUNT,), np.float32)
    there[...] = np.arange(COUNT)

    def work() -> None:
        card.copy_in(buffer, there, stream)
        launch_twice(buffer, stream)
        card.copy_out(back, buffer, stream)

    work()
    card.synchronise(stream)
    np.testing.assert_array_equal(back, 2 * there)
    card.begin_capture(stream)
    work()
    graph = card.end_capture(stream)
    back[...] = -1
    card.synchronise(stream)
    assert (back == -1).all(), "capturing does not run the work"
    first, last = card.event(), card.event()
    for factor in (1, 3, 5):
        there[...] = factor * np.arange(COUNT)  # the graph reads the pinned memory's current content
        card.record(first, stream)
        card.launch(graph, stream)
        card.record(last, stream)
        card.wait(last)
        np.testing.assert_array_equal(back, 2 * there)
        assert card.milliseconds(first, last) >= 0


def test_too_much_memory_is_an_error(card: Device) -> None:
    with pytest.raises(VljEdgeError, match="no memory left for"):
        card.allocate(1 << 50)
    card.free(card.allocate(1 << 20))
