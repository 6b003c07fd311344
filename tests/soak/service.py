"""`vlj-edge serve` in a process of its own, and what it takes of the machine."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

DESCRIPTORS = 1024  # of the service: many systems allow no more


@dataclass(frozen=True)
class Reading:
    """What the service takes at one moment.

    Attributes:
        memory: megabytes, resident, of its main process.
        children: processes that it started.
    """

    memory: float
    descriptors: int
    threads: int
    children: int


class Service:
    """A running service.

    Attributes:
        lines: of its log.
    """

    def __init__(self, config: Path, port: int) -> None:
        self.url, self.lines = f"http://127.0.0.1:{port}", list[str]()
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vlj_edge", "serve", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # by which its children are found, also when their parent has gone
            preexec_fn=lambda: self._limit(resource.RLIMIT_NOFILE, DESCRIPTORS),
        )
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def state(self) -> dict[str, Any]:
        """Return what /api/state says."""
        found: dict[str, Any] = self.client.get("/api/state").raise_for_status().json()
        return found

    def sources(self) -> dict[str, dict[str, Any]]:
        """Return the sources of state() by name."""
        return {source["name"]: source for source in self.state()["sources"]}

    def sinks(self) -> dict[str, dict[str, Any]]:
        """Return the sinks of state() by name."""
        return {sink["name"].partition(" ")[0]: sink for sink in self.state()["sinks"]}

    def children(self) -> list[int]:
        """Return the processes of its session but itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == self.pid and fields[0] != "Z" and (number := int(path.parent.name)) != self.pid:
                found.append(number)
        return found

    def readers(self) -> list[int]:
        """Return its processes that read cameras."""
        return [number for number in self.children() if "camera_process" in _command_line(number)]

    def reading(self) -> Reading:
        """Return what it takes now."""
        here = Path(f"/proc/{self.pid}")
        pages = int((here / "statm").read_text().split()[1])
        return Reading(
            round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
            len(os.listdir(here / "fd")),
            len(os.listdir(here / "task")),
            len(self.children()),
        )

    def limit(self, what: int, most: int | None) -> None:
        """Set one of its limits, or take it away."""
        hard = resource.prlimit(self.pid, what)[1]
        if most is None:
            most = DESCRIPTORS if what == resource.RLIMIT_NOFILE else hard
        resource.prlimit(self.pid, what, (most, hard))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float) -> float:
        """Send SIGTERM and return the seconds until it had ended; kill it where that is later than `seconds`."""
        self.client.close()
        begun = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(seconds)
        finally:
            self.process.kill()
            self.process.wait()
        self._reader.join(10)
        return time.monotonic() - begun

    @staticmethod
    def _limit(what: int, most: int) -> None:
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))


def _command_line(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
