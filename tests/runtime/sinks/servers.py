"""Servers that accept connections and then do as a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Serve = Callable[[socket.socket, threading.Event], None]


def silent(connection: socket.socket, stopping: threading.Event) -> None:
    """Read what comes, and never answer."""
    with suppress(OSError):
        while connection.recv(65_536):
            pass


def dripping(answer: bytes, pause: float = 0.02) -> Serve:
    """Return a server that sends the answer a byte at a time, and then blanks for ever."""

    def drip(connection: socket.socket, stopping: threading.Event) -> None:
        with suppress(OSError):
            for at in range(1 << 30):
                if stopping.wait(pause):
                    return
                connection.sendall(answer[at : at + 1] or b" ")

    return drip


@contextmanager
def server(serve: Serve) -> Iterator[int]:
    """Serve each connection in a thread of its own; the port is the value."""
    stopping, threads, connections = threading.Event(), [], []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connections.append(listening.accept()[0])
                    threads.append(threading.Thread(target=serve, args=(connections[-1], stopping), daemon=True))
                    threads[-1].start()

        threads.append(threading.Thread(target=accept, daemon=True))
        threads[-1].start()
        yield listening.getsockname()[1]
        stopping.set()
        listening.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    for thread in threads:
        thread.join(60)
