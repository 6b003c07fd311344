"""The bytes of one file: resumed where a download broke off, checked by size and hash, the token for the hub alone.

huggingface_hub's own download begins a file again after Ctrl-C, and takes the token along where a mirror redirects to
huggingface.co; so its client is used, and its requests are made here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from vlj_edge.errors import VljEdgeError

from .listing import Blob
from .names import Name, host_of

OnBytes = Callable[[int], None]  # called with the number of bytes that were added, negative where some were thrown away

_CHUNK = 1 << 20
_ATTEMPTS = 4  # without a byte more, then it is given up
_PAUSE = 1.0  # seconds between two attempts
_BUSY = (408, 429, 500, 502, 503, 504)
_MOST_REDIRECTS = 10
_PORTS = {"http": 80, "https": 443}


class _Transient(Exception):
    """The connection broke off; another attempt may go on."""


def describe(name: Name, commit: str, file: str, endpoint: str) -> tuple[str | None, int | None]:
    """Return the hash and the size (bytes) of a file as its headers say, None where they do not."""
    with _open("HEAD", _address(name, commit, file, endpoint), endpoint) as response:
        _require(response, commit, name)
        etag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag")
        size = response.headers.get("X-Linked-Size") or response.headers.get("Content-Length")
    return (
        etag.removeprefix("W/").strip('"') if etag else None,
        int(size) if size is not None and size.isdigit() else None,
    )


def download(name: Name, commit: str, blob: Blob, partial: Path, endpoint: str, on_bytes: OnBytes) -> str:
    """Complete `partial` and return its sha256. What an earlier call left there is kept, and the rest is asked for.

    Raises:
        VljEdgeError: the file is not the one that was listed, or the connection breaks off again and again.
        OSError: it cannot be written.
        Exception: those of huggingface_hub and its HTTP client, see errors.explained().
    """
    resumed = partial.exists() and partial.stat().st_size <= blob.size
    if resumed:
        on_bytes(partial.stat().st_size)
    else:
        partial.write_bytes(b"")
    _complete(name, commit, blob, partial, endpoint, on_bytes)
    sha256 = matching_sha256(partial, blob)
    if sha256 is None and resumed:  # what was left there may have been something else
        _begin_again(partial, on_bytes)
        _complete(name, commit, blob, partial, endpoint, on_bytes)
        sha256 = matching_sha256(partial, blob)
    if sha256 is None:
        partial.unlink()
        raise VljEdgeError(
            f"{blob.file} of {name} does not match the hash that {host_of(endpoint)} lists, and was thrown away:"
            f" run this again, or look at {name.page}/blob/{commit}/{blob.file}"
        )
    return sha256


def matching_sha256(path: Path, blob: Blob) -> str | None:
    """Return the sha256 of a file, or None if it is not the one that was listed. OSError: it cannot be read."""
    if path.stat().st_size != blob.size:
        return None
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % blob.size, usedforsecurity=False)
    is_git = len(blob.etag) == 40
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha256.update(chunk)
            if is_git:
                git.update(chunk)
    return sha256.hexdigest() if blob.etag == (git if is_git else sha256).hexdigest() else None


def _complete(name: Name, commit: str, blob: Blob, partial: Path, endpoint: str, on_bytes: OnBytes) -> None:
    attempts, most = 0, partial.stat().st_size
    while partial.stat().st_size < blob.size:
        try:
            _add(name, commit, blob, partial, endpoint, on_bytes)
            error: Exception | None = None
        except _Transient as broken:
            error = broken
        have = partial.stat().st_size
        if have >= blob.size:
            break
        attempts, most = (0, have) if have > most else (attempts + 1, most)
        if attempts >= _ATTEMPTS:
            cause = f" ({error})" if error is not None else ""
            raise VljEdgeError(
                f"{blob.file} of {name} broke off after {have:,} of {blob.size:,} bytes{cause}: check the network and"
                " run this again, it goes on from there"
            )
        time.sleep(_PAUSE)
    if partial.stat().st_size > blob.size:
        _begin_again(partial, on_bytes)
        raise VljEdgeError(
            f"{blob.file} of {name} is longer than the {blob.size:,} bytes that {host_of(endpoint)} lists, and was"
            " thrown away: run this again, or use another HF_ENDPOINT"
        )


def _add(name: Name, commit: str, blob: Blob, partial: Path, endpoint: str, on_bytes: OnBytes) -> None:
    """Ask for what is missing of a file and append it, until the connection ends."""
    from huggingface_hub.utils import hf_raise_for_status

    have = partial.stat().st_size
    wanted = {"Range": f"bytes={have}-"} if have else {}
    try:
        with _open("GET", _address(name, commit, blob.file, endpoint), endpoint, **wanted) as response:
            if response.status_code in _BUSY:
                raise _Transient(f"HTTP {response.status_code}")
            if response.status_code != 416:
                hf_raise_for_status(response)
            if have and (response.status_code != 206 or _first_byte(response) != have):
                _begin_again(partial, on_bytes)
                if response.status_code != 200:
                    return
            with partial.open("ab") as stream:
                for chunk in response.iter_bytes():
                    stream.write(chunk)
                    on_bytes(len(chunk))
                    if stream.tell() > blob.size:
                        return
    except http_client().TransportError as error:
        if isinstance(error, (http_client().ProxyError, http_client().UnsupportedProtocol)):
            raise
        raise _Transient(str(error) or type(error).__name__) from error


def _begin_again(partial: Path, on_bytes: OnBytes) -> None:
    on_bytes(-partial.stat().st_size)
    partial.write_bytes(b"")


def _first_byte(response: Any) -> int | None:
    """Return the position of the first byte of a part that was sent, or None if it is not said."""
    said = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0].strip()
    return int(said) if said.isdigit() else None


def _address(name: Name, commit: str, file: str, endpoint: str) -> str:
    return f"{endpoint}/{name.repository}/resolve/{commit}/{quote(file)}"


def _require(response: Any, commit: str, name: Name) -> None:
    from huggingface_hub.utils import hf_raise_for_status

    hf_raise_for_status(response)
    said = response.headers.get("X-Repo-Commit", commit)
    if said != commit:
        raise VljEdgeError(f"commit {said} was sent in place of {commit} of {name}: use another HF_ENDPOINT")


@contextmanager
def _open(method: str, url: str, endpoint: str, **headers: str) -> Iterator[Any]:
    """Yield the response of the hub or, for GET, of whom it redirects to; the token is sent to the hub alone.

    The hub keeps large files elsewhere, and what it says of them is in its redirect.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session

    from vlj_edge import __version__

    hub = build_hf_headers(library_name="vlj-edge", library_version=__version__)
    others = {key: value for key, value in hub.items() if key.lower() != "authorization"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    for _ in range(_MOST_REDIRECTS):
        of_hub = _origin(url) == _origin(endpoint)
        sent = {**(hub if of_hub else others), "Accept-Encoding": "identity", **headers}
        with get_session().stream(method, url, headers=sent, timeout=timeout, follow_redirects=False) as response:
            target = urljoin(url, response.headers.get("Location", "")) if response.has_redirect_location else None
            if target is None or (method == "HEAD" and _origin(target) != _origin(endpoint)):
                yield response
                return
        if urlsplit(target).scheme not in ("https", urlsplit(url).scheme):
            raise VljEdgeError(
                f"{host_of(endpoint)} redirects to {host_of(target)} without encryption: use another HF_ENDPOINT"
            )
        url = target
    raise VljEdgeError(f"{host_of(endpoint)} redirects without end: use another HF_ENDPOINT")


def http_client() -> Any:
    """Return the module of huggingface_hub's HTTP client: httpx, or httpx2 from 2.0 on."""
    import importlib

    from huggingface_hub import errors

    return importlib.import_module(errors.HTTPError.__module__.partition(".")[0])


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
