"""A fake GPU that enforces the rules of real ones; fake_runtime.py is the TensorRT on it.

Work stays queued until the host waits, so that reading too early returns old bytes. What causes an error, a hang or
wrong results on a real GPU raises BrokenRule here. Rules: CUDA C++ Programming Guide (streams, stream
capture, graphs, asynchronous copies), TensorRT's developer guide (enqueueV3, tensor addresses, capture after a first
run, aliased key-value caches).
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.export.kernels import host
from vlj_edge.runtime.engines.tensorrt.device import Buffer, raise_driver_error

Action = Callable[[], None]


class BrokenRule(AssertionError):
    """A call that is an error, a hang or undefined behaviour on a real GPU."""


class FakeCard:
    """A stand-in for device.Device. `counted` holds the number of calls of each kind."""

    name, sm = "Fake Card 3060", "sm86"

    def __init__(self, memory: int = 1 << 30) -> None:
        self.memory, self.live = memory, dict[int, np.ndarray]()
        self.pins: list[np.ndarray] = []
        self.queues: dict[int, list[Action]] = {}
        self.queued: Counter[int] = Counter()
        self.done: Counter[int] = Counter()
        self.recordings: dict[int, tuple[int, list[Action]]] = {}  # captured stream -> capturing thread, recorded work
        self.current = {threading.get_ident()}  # threads in which the context is current
        self.lock = threading.RLock()
        self.counted: Counter[str] = Counter()
        self.to_host, self.from_host = set[int](), set[int]()  # addresses of copies, captured or not
        self.lost_at: int | None = None  # number of launches after which the GPU is lost
        self.lost = False
        self.capture_fails = False

    def use(self) -> None:
        self.current.add(threading.get_ident())

    def free_memory(self) -> int:
        return self.memory - sum(len(raw) for raw in self.live.values())

    def allocate(self, size: int) -> Buffer:
        self._forbid_in_capture("allocated")
        if size > self.free_memory():
            raise_driver_error(f"{size / 1e6:.1f} MB", "CUDA_ERROR_OUT_OF_MEMORY from cuMemAlloc", self.free_memory())
        self.counted["allocate"] += 1
        address = 0x7F0000000000 + 0x1000000 * self.counted["allocate"]
        self.live[address] = np.zeros(max(size, 1), np.uint8)
        return Buffer(address, size)

    def free(self, buffer: Buffer) -> None:
        self._forbid_in_capture("freed")
        if any(self.queues.values()):
            raise BrokenRule("memory was freed while work was queued")
        if self.live.pop(buffer.address, None) is None:
            raise BrokenRule("memory was freed that is not allocated")
        buffer.address = 0

    def pinned(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        self._forbid_in_capture("pinned")
        self.counted["pinned"] += 1
        self.pins.append(np.zeros(tuple(shape), dtype))
        return self.pins[-1]

    def stream(self) -> int:
        self._require_context()
        handle = 0x5000 + len(self.queues)
        self.queues[handle] = []
        return handle

    def synchronise(self, stream: int) -> None:
        self._forbid_in_capture("synchronised", stream)
        self._run(stream, self.queued[stream])

    def copy_in(self, buffer: Buffer, array: np.ndarray, stream: int) -> None:
        self._require_pinned(array)
        address = buffer.address
        self.bytes_at(address, array.nbytes)
        self.counted["copy_in"] += 1
        self.from_host.add(address)
        self._queue(stream, lambda: self._put(address, array.view(np.uint8).reshape(-1)))

    def copy_out(self, array: np.ndarray, buffer: Buffer, stream: int) -> None:
        self._require_pinned(array)
        address = buffer.address
        self.bytes_at(address, array.nbytes)
        self.counted["copy_out"] += 1
        self.to_host.add(address)
        flat = array.view(np.uint8).reshape(-1)
        self._queue(stream, lambda: np.copyto(flat, self.bytes_at(address, flat.size)))

    def copy(self, target: Buffer, source: Buffer, stream: int) -> None:
        to, origin, size = target.address, source.address, source.size
        self.bytes_at(to, size)
        self._queue(stream, lambda: self._put(to, self.bytes_at(origin, size)))

    def event(self) -> Any:
        self._require_context()
        return {"stream": 0, "after": 0}

    def record(self, event: Any, stream: int) -> None:
        self._forbid_in_capture("recorded an event", stream)
        self._require_stream(stream)
        event.update(stream=stream, after=self.queued[stream])

    def wait(self, event: Any) -> None:
        self._forbid_in_capture("waited", event["stream"])
        self.counted["wait"] += 1
        if event["stream"]:
            self._run(event["stream"], event["after"])

    def milliseconds(self, first: Any, second: Any) -> float:
        return float(second["after"] - first["after"])

    def begin_capture(self, stream: int) -> None:
        self._forbid_in_capture("began a capture", stream)
        self._require_stream(stream)
        self.counted["capture"] += 1
        self.recordings[stream] = (threading.get_ident(), [])

    def end_capture(self, stream: int) -> Any:
        if stream not in self.recordings:
            raise BrokenRule("a capture was ended that had not begun")
        _, graph = self.recordings.pop(stream)
        if self.capture_fails:
            raise_driver_error("capturing a graph", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED from cuStreamEndCapture")
        return graph

    def launch(self, graph: list[Action], stream: int) -> None:
        self.counted["launch"] += 1
        self._queue(stream, lambda: [action() for action in graph] and None)

    def load_kernel(self, code: bytes, name: str) -> str:
        self._require_context()
        if code[:4] != b"\x7fELF" or name.encode() not in code:
            raise BrokenRule(f"this is no cubin with {name} in it")
        self.counted["kernel"] += 1
        return name

    def start(
        self, kernel: str, grid: tuple[int, int, int], threads: int, arguments: Sequence[Any], stream: int
    ) -> None:
        """Queue the kernel's own source, compiled for the CPU. Addresses are resolved when it runs."""
        arguments = list(arguments)
        self.counted["start"] += 1

        def run() -> None:
            host.start(kernel, grid, threads, [self._argument(one) for one in arguments])

        self._queue(stream, run)

    def _argument(self, one: Any) -> Any:
        if one is None:
            return ctypes.c_void_p(None)
        return one if isinstance(one, int) else self.bytes_at(one.address, one.size)

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        """Return allocated device memory; the address may lie inside an allocation."""
        first = max((at for at in self.live if at <= address), default=None)
        if first is None or address - first >= len(self.live[first]):
            raise BrokenRule(f"nothing is allocated at {address:#x}")
        left = self.live[first][address - first :]
        if size > len(left):
            raise BrokenRule(f"{size} bytes do not fit into {len(left)}")
        return left[:size]

    def queue_execution(self, stream: int, action: Action) -> None:
        """Queue the work of an engine."""
        self.counted["execute"] += 1
        self._queue(stream, action)

    def _put(self, address: int, values: np.ndarray) -> None:
        np.copyto(self.bytes_at(address, values.size), values)

    def _queue(self, stream: int, action: Action) -> None:
        self._require_stream(stream)
        if stream in self.recordings:
            thread, recording = self.recordings[stream]
            if thread != threading.get_ident():
                raise BrokenRule("a thread queued work on a stream that another thread is capturing")
            recording.append(action)
            return
        if self._capturing():
            raise BrokenRule("work was queued on a stream other than the captured one")
        with self.lock:
            self.queued[stream] += 1
            self.queues[stream].append(action)

    def _run(self, stream: int, until: int) -> None:
        self._require_stream(stream)
        if self.lost_at is not None and self.counted["launch"] >= self.lost_at:
            self.lost = True
        self._require_context()
        with self.lock:
            while self.done[stream] < until:
                self.queues[stream].pop(0)()
                self.done[stream] += 1

    def _require_context(self) -> None:
        if threading.get_ident() not in self.current:
            raise BrokenRule("the card is not current in this thread")
        if self.lost:  # this error persists until the process ends
            raise_driver_error("waiting for the card", "CUDA_ERROR_ILLEGAL_ADDRESS from cuEventSynchronize")

    def _require_stream(self, stream: int) -> None:
        self._require_context()
        if stream not in self.queues:
            raise BrokenRule(f"{stream} is the default stream, or none at all")

    def _require_pinned(self, array: np.ndarray) -> None:
        if not any(array is pin for pin in self.pins):
            raise BrokenRule("a pageable array was handed to an asynchronous copy")

    def _capturing(self) -> bool:
        return any(thread == threading.get_ident() for thread, _ in self.recordings.values())

    def _forbid_in_capture(self, did: str, stream: int = 0) -> None:
        self._require_context()
        if self._capturing() or stream in self.recordings:
            raise BrokenRule(f"{did} during a capture")
