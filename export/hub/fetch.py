"""The main path: a name -> the files of one commit on this disk, each checked, with what the hub says of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from vlj_edge.errors import VljEdgeError, without_credentials
from vlj_edge.telemetry import opt_out

from . import settings
from .cache import Cache, cache_of
from .download import download, matching_sha256
from .errors import explained, offline, refused_as_gated
from .listing import Blob, Listing, Wanted, is_weights, list_repository
from .names import Name
from .repository import Repository

_ALL = Wanted()


class Watcher(Protocol):
    """Is told how far a download is."""

    def begin(self, name: Name, listing: Listing, missing: int) -> None:
        """Called once before anything is fetched, with the bytes of the files that are not in the cache."""

    def add(self, count: int) -> None:
        """Called for each `count` bytes more; negative where bytes were thrown away."""


def fetch(
    name: Name,
    *,
    wanted: Wanted = _ALL,
    before_weights: Callable[[Path], None] = lambda directory: None,
    watcher: Watcher | None = None,
) -> Repository:
    """Fetch the files of a repository that an export reads, or take them from the cache.

    A whole commit that is in the cache is used without a network. With HF_HUB_OFFLINE=1 so is the commit that the
    revision had when it was last fetched.

    Args:
        before_weights: called with the directory when it has all but the weights, to refuse what cannot be exported.

    Raises:
        VljEdgeError: the repository or revision is not there, needs a licence to be accepted or holds no safetensors;
            the hub, the disk or a file is at fault; or `before_weights` raised it.
    """
    opt_out()
    endpoint, token, is_offline = settings.endpoint(), settings.token(), settings.is_offline()
    cache = cache_of(name)
    with explained(name, endpoint, token, cache.root.parent, _is_cached(cache, wanted)):
        if is_offline or name.is_pinned:
            repository = _from_cache(cache, endpoint, wanted, before_weights, is_offline)
            if repository is not None:
                return repository
            if is_offline:
                raise offline(name)
        listing = list_repository(name, endpoint, wanted)
        with refused_as_gated(name, endpoint, token is not None) if listing.gated else nullcontext():
            return _complete(cache, listing, wanted, endpoint, before_weights, watcher)


def _complete(
    cache: Cache,
    listing: Listing,
    wanted: Wanted,
    endpoint: str,
    before_weights: Callable[[Path], None],
    watcher: Watcher | None,
) -> Repository:
    """Fetch what is missing of a listing."""
    (cache.root / "blobs").mkdir(parents=True, exist_ok=True)
    known = {blob.file: _sha256_in_cache(cache, listing.commit, blob) for blob in listing.blobs}
    missing = [blob for blob in listing.blobs if known[blob.file] is None]
    cache.require_space(missing)
    if watcher is not None:
        watcher.begin(cache.name, listing, sum(blob.size for blob in missing))
    files, checked = dict[str, str](), False
    for blob in listing.blobs:
        if is_weights(blob.file) and not checked:
            before_weights(cache.snapshot(listing.commit))
            checked = True
        files[blob.file] = known[blob.file] or _add(cache, listing.commit, blob, endpoint, watcher)
    cache.remember(cache.name.revision, listing, wanted)
    return _repository(cache, listing.commit, listing.licence, listing.gated, endpoint, files)


def _add(cache: Cache, commit: str, blob: Blob, endpoint: str, watcher: Watcher | None) -> str:
    """Fetch a file and return its sha256. It is in the cache whole or not at all."""
    with cache.locked(blob.etag):
        sha256 = _sha256_in_cache(cache, commit, blob)  # another process may have fetched it meanwhile
        if sha256 is not None:
            return sha256
        partial = cache.partial(blob.etag)
        sha256 = download(cache.name, commit, blob, partial, endpoint, watcher.add if watcher else lambda count: None)
        os.replace(partial, cache.blob(blob.etag))
        cache.link(commit, blob)
    return sha256


def _sha256_in_cache(cache: Cache, commit: str, blob: Blob) -> str | None:
    """Return the sha256 of a file of the cache that matches, and link it; None if there is none."""
    path = cache.snapshot(commit) / blob.file
    if path.exists():
        sha256 = matching_sha256(path, blob)
        if sha256 is not None:
            return sha256
    if not cache.blob(blob.etag).exists():
        return None
    sha256 = matching_sha256(cache.blob(blob.etag), blob)
    if sha256 is not None:
        cache.link(commit, blob)
    return sha256


def _is_cached(cache: Cache, wanted: Wanted) -> bool:
    try:
        commit = cache.commit_of(cache.name.revision)
        return commit is not None and cache.recall(commit, wanted) is not None
    except OSError:
        return False


def _from_cache(
    cache: Cache, endpoint: str, wanted: Wanted, before_weights: Callable[[Path], None], offline_only: bool
) -> Repository | None:
    """Return the revision as it is in the cache, or None if it is not, or not whole.

    Args:
        offline_only: take also what another program fetched, of which nobody knows whether it is all.

    Raises:
        VljEdgeError: a file does not match its hash.
    """
    commit = cache.commit_of(cache.name.revision)
    if commit is None:
        return None
    listing = cache.recall(commit, wanted)
    blobs = listing.blobs if listing is not None else cache.found(commit, wanted) if offline_only else ()
    folder = cache.snapshot(commit)
    if not blobs or not all((folder / blob.file).exists() for blob in blobs):
        return None
    if not set(wanted.also) <= {blob.file for blob in blobs}:
        return None
    before_weights(folder)
    files = dict[str, str]()
    for blob in blobs:
        sha256 = matching_sha256(folder / blob.file, blob)
        if sha256 is None:
            raise VljEdgeError(
                f"{folder / blob.file} does not match its hash: rm {os.path.realpath(folder / blob.file)}, and run this"
                " again with a network"
            )
        files[blob.file] = sha256
    licence, gated = (listing.licence, listing.gated) if listing is not None else (None, None)
    return _repository(cache, commit, licence, gated, endpoint, files)


def _repository(
    cache: Cache, commit: str, licence: str | None, gated: bool | None, endpoint: str, files: dict[str, str]
) -> Repository:
    shown = without_credentials(endpoint)
    return Repository(cache.name, shown, commit, licence, gated, cache.snapshot(commit), files)
