"""What a test may leave behind in its process: threads, child processes, signal handlers, the working directory."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE_SECONDS = 10.0
# Processes that Python and libraries start once and keep for the next use.
KEPT = ("resource_tracker", "forkserver", "playwright")
LIBRARY_POOL = "ThreadPoolExecutor-"  # the default name: OpenVINO's telemetry has one. Pools of this project have names
SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP, signal.SIGCHLD) if hasattr(signal, "SIGHUP") else ()))


@dataclass(frozen=True)
class Leftovers:
    threads: frozenset[threading.Thread]
    children: frozenset[int]
    handlers: dict[int, Any]
    directory: str

    @classmethod
    def now(cls) -> Leftovers:
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        return cls(frozenset(threading.enumerate()), frozenset(_children()), handlers, os.getcwd())

    def new_ones(self) -> list[str]:
        """What is there now and was not then. Threads and processes that are about to end get time to do so."""
        until = time.monotonic() + GRACE_SECONDS
        while (left := self._running()) and time.monotonic() < until:
            gc.collect()  # what nothing refers to any more closes itself
            time.sleep(0.02)
        for number, handler in self.handlers.items():
            if signal.getsignal(number) is not handler:
                left.append(f"handler of {signal.Signals(number).name}: {signal.getsignal(number)}")
                signal.signal(number, handler)
        if os.getcwd() != self.directory:
            left.append(f"working directory {os.getcwd()}")
            os.chdir(self.directory)
        return left

    def _running(self) -> list[str]:
        threads = [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread not in self.threads
            and (not thread.daemon or _is_ours(thread))
            and not thread.name.startswith(LIBRARY_POOL)
        ]
        return threads + [
            f"process {number}: {line}"
            for number in _children() - self.children
            if (line := _command_line(number)) and not any(name in line for name in KEPT)
        ]


def _is_ours(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) or type(thread).__module__
    return str(module).startswith("vlj_edge")


def _children() -> set[int]:
    """Child processes of this one; empty where the system does not list them under /proc."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, path.read_text().split()))
        except OSError:  # that thread has just ended
            continue
    return found


def _command_line(number: int) -> str:
    """The command of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
