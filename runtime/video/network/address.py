"""Addresses of network sources: credentials, the form that may be shown, and the protocols that FFmpeg may use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from vlj_edge.errors import WrongCall, without_credentials

# By scheme: the protocols that FFmpeg may use for it, also after a redirect. None of them can open a local file.
_RTSP = "rtp,srtp,udp,tcp,tls,http,https"
_RTMP = "rtmp,rtmpe,rtmps,rtmpt,rtmpte,rtmpts,ffrtmpcrypt,ffrtmphttp,tcp,tls,http,https"
STREAM_PROTOCOLS = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "rtmp": _RTMP,
    "rtmps": _RTMP,
    "rtmpt": _RTMP,
    "srt": "srt,udp",
    "udp": "udp",
    "rtp": "rtp,udp",
}
HTTP_SCHEMES = ("http", "https")

_IN_USERINFO = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2}|[^\x00-\x7f]")
_HOST = re.compile(r"([^\s:\[\]]*|\[[0-9A-Fa-f:.%]+\])(:\d*)?")


@dataclass(frozen=True)
class NetworkAddress:
    """An address without its credentials.

    Attributes:
        url: without user and password.
        user, password: percent-decoded; None if the address has none.
        shown: for messages; parameters that may be secret are replaced too.
    """

    url: str = field(repr=False)
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    shown: str

    def with_credentials(self) -> str:
        """Return the address as FFmpeg takes it."""
        if self.user is None:
            return self.url
        secret = quote(self.user, safe="")
        if self.password is not None:
            secret += ":" + quote(self.password, safe="")
        return self.url.replace("://", f"://{secret}@", 1)


def with_plain_scheme(text: str) -> str:
    """Return an address with its scheme in lower case; people also write RTSP://."""
    return re.sub(r"\A[A-Za-z][A-Za-z0-9+.\-]*(?=://)", lambda scheme: scheme[0].lower(), text)


def network_address(text: str) -> NetworkAddress:
    """Parse an address.

    Raises:
        VljEdgeError: its user or password holds characters that must be percent-encoded, or it names no host.
    """
    shown = without_credentials(text)
    scheme, _, rest = text.partition("://")
    end = re.search(r"[/?#]|\Z", rest)
    assert end is not None
    authority, path = rest[: end.start()], rest[end.start() :]
    userinfo, at, host = authority.rpartition("@")
    problem = _unencoded(userinfo) if at else []
    if _hides_credentials(host, path):
        problem += _unencoded(userinfo + at + host + path.rpartition("@")[0])
    if problem:
        written = ", ".join(f"{_named(c)} as {quote(c, safe='')}" for c in dict.fromkeys(problem))
        raise WrongCall(f"{shown}: the user or password holds characters that must be percent-encoded: write {written}")
    if not _HOST.fullmatch(host) or not (host or scheme in ("udp", "rtp", "srt")):
        raise WrongCall(f"{shown} names no host: write {scheme}://HOST/PATH")
    if scheme in ("udp", "rtp") and not re.search(r":\d+\Z", host):
        raise WrongCall(f"{shown} names no port: write {scheme}://{host.rstrip(':')}:5000, with the sender's port")
    port = host[host.rindex(":") + 1 :] if re.search(r":\d+\Z", host) else ""
    if port and not 0 < int(port) < 1 << 16:
        raise WrongCall(f"{shown}: no server has the port {port[:20]}: give one from 1 to 65535")
    user, colon, password = userinfo.partition(":")
    url = f"{scheme}://{host}{path}"
    return NetworkAddress(url, unquote(user) if at else None, unquote(password) if colon else None, shown)


def _unencoded(userinfo: str) -> list[str]:
    """Return the characters of USER:PASSWORD that must be percent-encoded."""
    without_separator = userinfo.replace(":", "", 1)
    return list(_IN_USERINFO.sub("", without_separator))


def _hides_credentials(host: str, path: str) -> bool:
    """Return whether the text after the host contains the rest of a password: '/', '?' or '#' in a password ends the
    host."""
    before, at, after = path.rpartition("@")
    if not at:
        return False
    if "#" in before or not _HOST.fullmatch(host):
        return True
    if "?" in before:
        return "=" not in before.partition("?")[2]
    # "/@home/a.mp4" and "/photo@2x.mp4" are paths; "/word@camera/a.mp4" is the end of a password, a host, and a path
    return not before.endswith("/") and re.search(r"[/:]", after) is not None


def _named(character: str) -> str:
    return "a space" if character == " " else character


def url_for_http(url: str) -> str:
    """Return a URL in which what HTTP does not allow, such as spaces, is percent-encoded; without
    fragment and credentials."""
    parts = urlsplit(url)
    path, query = quote(parts.path, safe="%/:@!$&'()*+,;=~"), quote(parts.query, safe="%/:@!$&'()*+,;=~?")
    host = parts.netloc.rpartition("@")[2]
    host = host if host.isascii() else host.encode("idna").decode()
    return f"{parts.scheme}://{host}{path or '/'}{query and '?'}{query}"
