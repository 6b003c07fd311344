"""Waiting for what another thread or process does, and a port for it to serve on."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Return once the condition holds; fail if it does not within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing came within {seconds} seconds"
        time.sleep(0.005)


# Systems give higher ones to whoever asks for any, also between free_port() and its use. Each process has its own.
_PORTS = cycle(range(20_000 + os.getpid() % 120 * 100, 20_000 + os.getpid() % 120 * 100 + 100))


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on."""
    for port in _PORTS:
        with socket.socket() as held, suppress(OSError):
            held.bind(("127.0.0.1", port))
            return port
    raise AssertionError
