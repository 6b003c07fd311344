"""HTTP requests that log in, follow redirects to HTTP only, keep the connection, and can be cancelled from another
thread.

urllib cannot keep a connection, which is needed to request a picture several times a second.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import secrets
import socket
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

from vlj_edge.loopback import is_loopback

from .address import HTTP_SCHEMES, NetworkAddress, url_for_http

TIMEOUT = 8.0  # seconds without a byte
_MOST_ANSWERS = 10  # redirects and login challenges for one request
_REDIRECTS = (301, 302, 303, 307, 308)
_HASHES = {"MD5": "md5", "SHA-256": "sha256"}

# Exceptions, besides OSError, of reading a response whose connection was cut.
BROKEN = (OSError, http.client.HTTPException, ValueError, AttributeError)


class _Connection(http.client.HTTPConnection):
    opened: socket.socket | None = None  # .sock is None once a response owns it

    def connect(self) -> None:
        super().connect()
        self.opened = self.sock


class _SecureConnection(http.client.HTTPSConnection):
    opened: socket.socket | None = None

    def connect(self) -> None:
        super().connect()
        self.opened = self.sock


class HttpClient:
    """GET requests to one address, one at a time. Certificates of https are checked.

    Args:
        address: its credentials are sent to its own host only.

    Attributes:
        url: of the latest response, after redirects.
    """

    def __init__(self, address: NetworkAddress) -> None:
        self.url = url_for_http(address.url)
        self._address, self._home = address, _host(self.url)
        self._connection: _Connection | _SecureConnection | None = None
        self._connected_to: tuple[str, str] | None = None
        self._connected_through: str | None = None  # a proxy
        self._log_in: Callable[[str], str] | None = None
        self._closed = False

    def get(self, headers: dict[str, str] | None = None, url: str | None = None) -> http.client.HTTPResponse:
        """Return the response, whatever its status; the caller must read its body.

        Args:
            url: in place of the address.

        Raises:
            OSError: there is no response; its text is for users and contains no credentials.
        """
        try:
            return self._follow(url_for_http(url or self._address.url), headers or {})
        except ValueError:  # e.g. a host name that cannot be encoded
            raise OSError("it is, or leads to, an address that is none") from None

    def _follow(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        demands = 0
        for _ in range(_MOST_ANSWERS):
            if urlsplit(url).scheme not in HTTP_SCHEMES:
                raise OSError("it is redirected to what is not http")
            response = self._send(url, dict(headers))
            moved_to = response.headers["Location"]
            if response.status in _REDIRECTS and moved_to:
                url = url_for_http(urljoin(url, moved_to))
            elif response.status == 401 and demands < 2 and self._store_login(response, url):
                demands += 1
            else:
                self.url = url
                return response
            self._disconnect()
        raise OSError("it is redirected again and again")

    def close(self) -> None:
        """Cut the connection, which ends reads in other threads. Callable from any thread."""
        self._closed = True
        self._cut()

    def _send(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        headers |= {"User-Agent": "vlj-edge", "Accept": "*/*"}
        if self._log_in is not None and _host(url) == self._home:
            headers["Authorization"] = self._log_in(url)
        for fresh in (False, True):  # the server may have closed a kept connection
            kept = self._connection is not None and self._connected_to == _host(url) and not fresh
            try:
                return self._request(self._connect(url, kept), url, headers)
            except (http.client.HTTPException, OSError) as error:
                self._disconnect()
                if not kept or self._closed:
                    raise OSError(_reason(error)) from None
        raise AssertionError

    def _request(
        self, connection: _Connection | _SecureConnection, url: str, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        proxied = self._connected_through is not None and parts.scheme == "http"
        if _host(url) != self._home and self._connected_through is None:
            if connection.sock is None:
                connection.connect()
            self._refuse_way_inwards(connection)
        connection.request("GET", url if proxied else path, headers=headers)
        if self._closed:  # close() may have been called before there was a connection
            self._cut()
        return connection.getresponse()

    def _connect(self, url: str, kept: bool) -> _Connection | _SecureConnection:
        if kept and self._connection is not None:
            return self._connection
        self._disconnect()
        scheme, host = self._connected_to = _host(url)
        name = urlsplit(url).hostname or ""
        proxy = None if is_loopback(name) or urllib.request.proxy_bypass(name) else _proxy(scheme)
        self._connected_through = proxy
        if scheme == "http":
            self._connection = _Connection(proxy or host, timeout=TIMEOUT)
        else:
            context = ssl.create_default_context()
            self._connection = _SecureConnection(proxy or host, timeout=TIMEOUT, context=context)
            if proxy:
                self._connection.set_tunnel(host)
        return self._connection

    def _refuse_way_inwards(self, connection: _Connection | _SecureConnection) -> None:
        """Raises OSError: a server on the internet leads to the local network, or one there to this machine."""
        assert connection.sock is not None
        reached = connection.sock.getpeername()[0]
        home = urlsplit(self._home[0] + "://" + self._home[1])
        try:
            own = socket.getaddrinfo(home.hostname, home.port or self._home[0], type=socket.SOCK_STREAM)
        except OSError:  # it is not known any more
            own = []
        if _nearness(str(reached)) > max([0, *(_nearness(str(place[4][0])) for place in own)]):
            raise OSError(f"it leads to {reached}, which is nearer to this machine than itself: give that address")

    def _cut(self) -> None:
        connection = self._connection
        opened = connection.opened if connection is not None else None
        if opened is not None:
            with suppress(OSError):  # of TCP: shutting down TLS would change the object that another thread reads from
                socket.socket.shutdown(opened, socket.SHUT_RDWR)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _store_login(self, response: http.client.HTTPResponse, url: str) -> bool:
        """Store the login method that a server demands; return False without credentials for it."""
        user, password = self._address.user, self._address.password or ""
        if user is None or _host(url) != self._home:
            return False
        for demand in sorted(response.headers.get_all("WWW-Authenticate", []), key=_is_basic):
            kind, _, rest = demand.strip().partition(" ")
            if kind.lower() == "digest":
                challenge = urllib.request.parse_keqv_list(
                    [item for item in urllib.request.parse_http_list(rest) if "=" in item]
                )
                if challenge.get("algorithm", "MD5").upper() in _HASHES and "nonce" in challenge:
                    self._log_in = _Digest(challenge, user, password).answer
                    return True
            elif kind.lower() == "basic":
                self._log_in = _basic(user, password)
                return True
        return False


def _basic(user: str, password: str) -> Callable[[str], str]:
    header = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    return lambda url: header


class _Digest:
    """Digest authentication for one challenge (RFC 7616)."""

    def __init__(self, challenge: dict[str, str], user: str, password: str) -> None:
        self._challenge, self._user, self._password, self._count = challenge, user, password, 0

    def answer(self, url: str) -> str:
        """Return the header for a GET of this URL."""
        challenge, self._count = self._challenge, self._count + 1
        algorithm = challenge.get("algorithm", "MD5")
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")

        def digest(*items: str) -> str:
            return hashlib.new(_HASHES[algorithm.upper()], ":".join(items).encode()).hexdigest()

        realm, nonce = challenge.get("realm", ""), challenge["nonce"]
        credentials_hash, request_hash = digest(self._user, realm, self._password), digest("GET", path)
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": path}
        unquoted = f"algorithm={algorithm}"
        if "auth" in [item.strip() for item in challenge.get("qop", "").split(",")]:
            count, client_nonce = f"{self._count:08x}", secrets.token_hex(8)
            fields |= {
                "response": digest(credentials_hash, nonce, count, client_nonce, "auth", request_hash),
                "cnonce": client_nonce,
            }
            unquoted += f", qop=auth, nc={count}"
        else:
            fields["response"] = digest(credentials_hash, nonce, request_hash)
        fields |= {"opaque": challenge["opaque"]} if "opaque" in challenge else {}
        quoted = ", ".join(f'{name}="{_escaped(value)}"' for name, value in fields.items())
        return f"Digest {quoted}, {unquoted}".encode().decode("latin-1")  # as http.client writes headers


def status_error(response: http.client.HTTPResponse) -> str | None:
    """Return the error of a response's status; None if it is good."""
    return None if response.status in (200, 206) else f"it answers {response.status} {response.reason}".rstrip()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _is_basic(demand: str) -> bool:
    return demand.strip().lower().startswith("basic")


def _host(url: str) -> tuple[str, str]:
    """Return a URL's scheme, and its host with port."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _nearness(address: str) -> int:
    """Return 0 for an address on the internet, 1 for one of a local network, 2 for this machine and its link."""
    found = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_loopback or found.is_link_local or found.is_unspecified:
        return 2
    return int(not found.is_global)


def _proxy(scheme: str) -> str | None:
    """Return HOST:PORT of the proxy that the environment names for a scheme."""
    found = urllib.request.getproxies().get(scheme)
    return urlsplit(found if "://" in found else f"http://{found}").netloc.rpartition("@")[2] if found else None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted, {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closes the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return "what answers there speaks no HTTP"
    if isinstance(error, ssl.SSLError):
        return f"what answers there speaks no TLS ({error.reason or error}), or not this one: try http://"
    found: Any = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(found)
