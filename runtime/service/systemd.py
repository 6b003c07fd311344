"""Messages to systemd: the service is ready, alive, stopping (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


def notify(message: str) -> None:
    """Send systemd a message such as "READY=1". Does nothing if systemd did not start this process; a message that it
    does not take is logged."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    path = "\0" + address[1:] if address.startswith("@") else address  # "@" stands for an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(path)
            out.send(message.encode())
    except OSError as error:  # the service goes on, and systemd may take the next one
        _LOG.warning("systemd does not take %s (%s): check NOTIFY_SOCKET", message, error.strerror or error)


def start_watchdog(healthy: Callable[[], bool], stop: threading.Event) -> threading.Thread | None:
    """Start a thread that reports to systemd twice per watchdog interval while `healthy()` holds.

    systemd restarts a service that stays silent. Returns None if systemd has set no interval (WatchdogSec).
    """
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
