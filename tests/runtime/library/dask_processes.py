"""A Dask cluster as docs/library.md starts one: `dask scheduler` and `dask worker`, processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_DEADLINE = 60.0  # seconds for a busy machine


class Cluster(NamedTuple):
    folder: Path  # in which its processes run
    address: str
    scheduler: subprocess.Popen[bytes]
    nanny: subprocess.Popen[bytes]  # which starts the workers, again if one is killed; all are in its process group


@contextmanager
def dask_cluster(folder: Path, workers: int = 2, preload: str = "") -> Iterator[Cluster]:
    """Run a scheduler and workers of one thread each.

    Args:
        preload: Python that every worker executes before it starts.
    """
    about, code, log = folder / "scheduler.json", folder / "preload.py", folder / "dask.log"
    code.write_text(preload)
    places = ["--no-dashboard", "--host", "127.0.0.1"]
    with log.open("wb") as stderr:

        def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "dask", *map(str, arguments), *places]
            return subprocess.Popen(command, stdout=stderr, stderr=stderr, cwd=folder, start_new_session=True)

        scheduler = start("scheduler", "--port", "0", "--scheduler-file", about)
        several = ("--nworkers", str(workers), "--nthreads", "1", "--preload", code, "--local-directory", folder)
        nanny = start("worker", "--scheduler-file", about, *several)
        try:
            address = _wait_for_workers(about, workers, log)
            yield Cluster(folder, address, scheduler, nanny)
        finally:
            for process in (nanny, scheduler):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_for_workers(about: Path, count: int, log: Path) -> str:
    import distributed

    until = time.monotonic() + _DEADLINE
    while time.monotonic() < until:
        with suppress(OSError, ValueError):
            address: str = json.loads(about.read_text())["address"]
            with distributed.Client(address, timeout=_DEADLINE) as client:
                client.wait_for_workers(count, timeout=_DEADLINE)
            return address
        time.sleep(0.05)
    raise AssertionError(log.read_text())
