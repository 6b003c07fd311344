"""What a reverse proxy, such as one that adds TLS, says about the request that it passes on."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.request import parse_http_list

from starlette.datastructures import Headers
from starlette.types import Scope

from vlj_edge.errors import WrongCall

LOOPBACK = ("127.0.0.0/8", "::1")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?|\*", re.ASCII)


def host_and_scheme(scope: Scope, trusted: Sequence[str]) -> tuple[str, str]:
    """Return the host, with its port, and the scheme that the client asked for.

    Forwarded (RFC 7239), X-Forwarded-Host and X-Forwarded-Proto count if the connection comes from a trusted proxy: of
    several proxies, what the last one says.

    Args:
        trusted: IP addresses and networks of proxies.
    """
    headers = Headers(scope=scope)
    host, scheme = headers.get("host", ""), str(scope.get("scheme", "http"))
    if not _is_in(scope["client"][0] if scope.get("client") else "", trusted):
        return host.lower(), scheme
    said = _last_element(headers.getlist("forwarded"))
    host = said.get("host") or _last(headers, "x-forwarded-host") or host
    forwarded = said.get("proto") or _last(headers, "x-forwarded-proto")
    return host.lower(), forwarded.lower() if forwarded.lower() in ("http", "https") else scheme


def host_name(host: str) -> str:
    """Return a host without its port."""
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


def check_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """Return names of hosts, with or without a port, in lower case.

    Raises:
        VljEdgeError: one is no name of a host.
    """
    for host in hosts:
        if not _HOST.fullmatch(host.lower()):
            raise WrongCall(f"--allowed-host {host} is no name of a host: give it as in edge.example, or [::1]:8443")
    return tuple(host.lower() for host in hosts)


def check_networks(networks: Sequence[str]) -> tuple[str, ...]:
    """Return IP addresses and networks as they are.

    Raises:
        VljEdgeError: one is none.
    """
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            line = f"--trusted-proxy {network} is no IP address or network ({error}): give it as in 172.17.0.0/16"
            raise WrongCall(line) from None
    return tuple(networks)


def _is_in(address: str, networks: Sequence[str]) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ipaddress.ip_network(network) for network in networks)


def _last_element(forwarded: list[str]) -> dict[str, str]:
    """Return what the last proxy says in a Forwarded header: `for=1.2.3.4, for=5.6.7.8;host=a;proto=https`."""
    elements = parse_http_list(forwarded[-1]) if forwarded else []
    pairs = (pair.partition("=") for pair in elements[-1].split(";")) if elements else ()
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _last(headers: Headers, name: str) -> str:
    values = headers.getlist(name)
    return values[-1].rpartition(",")[2].strip() if values else ""
