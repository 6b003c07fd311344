"""Keeps requests to this machine away from proxies: what listens here, a proxy cannot reach, and it should not see."""

from __future__ import annotations

import ipaddress
import os
import socket

_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name or address: localhost, 127.0.0.0/8, ::1, 0.0.0.0."""
    name = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # 127.1
        except (OSError, UnicodeError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def reach_loopback_directly() -> None:
    """Add this machine's names to NO_PROXY, for the libraries that follow it (FFmpeg, LanceDB) and child processes."""
    said = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    names = [name.strip() for name in said.split(",") if name.strip()]
    if "*" not in names:
        names += [name for name in _NAMES if name not in names]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
