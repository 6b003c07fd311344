"""What systemd wants to hear of a service: that it is ready, that it lives, that it stops (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable


def notify(message: str) -> None:
    """Tell systemd, such as "READY=1". Does nothing where systemd has not started this."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    place = "\0" + address[1:] if address.startswith("@") else address  # an abstract one
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect(place)
        out.send(message.encode())


def watchdog(healthy: Callable[[], bool], stop: threading.Event) -> threading.Thread | None:
    """Tell systemd twice in its interval that all is well, for as long as it is; a service that is silent is started
    again. None: systemd does not ask for that."""
    interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    if not interval or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None

    def work() -> None:
        while not stop.wait(interval / 2):
            if healthy():
                notify("WATCHDOG=1")

    thread = threading.Thread(target=work, name="watchdog", daemon=True)
    thread.start()
    return thread
