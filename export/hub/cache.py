"""The files that were fetched, in the cache of huggingface_hub and laid out as it does: its tools see and delete them.

HF_HUB_CACHE/models--OWNER--NAME/blobs/ETAG                   the content of a file; ETAG.incomplete: its first part
                                /snapshots/COMMIT/FILE        a link to it
                                /refs/REVISION                the commit of a branch or tag when it was last asked for
                                /vlj-edge/COMMIT.json         what the hub said of the commit, for use offline;
                                          COMMIT.small.json   of a download without weights
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlj_edge.atomic_write import atomic_write
from vlj_edge.errors import VljEdgeError

from ..weights.locations import INDEX_FILE
from .listing import Blob, Listing, Wanted, choose_files
from .names import Name, is_commit
from .settings import cache_folder

_MARGIN = 64_000_000  # bytes that stay free on the disk


@dataclass(frozen=True)
class Cache:
    """The folder of one repository."""

    name: Name
    root: Path

    def blob(self, etag: str) -> Path:
        """Where the content of a file is, or will be."""
        return self.root / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """Where its first part is until it is complete."""
        return self.root / "blobs" / f"{etag}.incomplete"

    def snapshot(self, commit: str) -> Path:
        """The folder with the files of a commit."""
        return self.root / "snapshots" / commit

    @contextmanager
    def locked(self, etag: str) -> Iterator[None]:
        """Keep other processes that use huggingface_hub's cache from fetching the same file at the same time."""
        from huggingface_hub.utils import WeakFileLock

        lock = self.root.parent / ".locks" / self.root.name / f"{etag}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            yield

    def link(self, commit: str, blob: Blob) -> None:
        """Make the file of a commit lead to its content."""
        path = self.snapshot(commit) / blob.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(os.path.relpath(self.blob(blob.etag), path.parent))
        except OSError:  # a file system without links
            os.replace(self.blob(blob.etag), path)

    def commit_of(self, revision: str | None) -> str | None:
        """Return the commit of a revision when it was last asked for, None if it never was."""
        if revision is not None and is_commit(revision):
            return revision
        try:
            commit = (self.root / "refs" / (revision or "main")).read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
            return None
        return commit if is_commit(commit) else None

    def remember(self, revision: str | None, listing: Listing, wanted: Wanted) -> None:
        """Keep the commit of a revision, and what the hub said of it. OSError: the cache may not be written to."""
        record = self._record(listing.commit, wanted)
        record.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(record) as stream:
            stream.write(json.dumps(asdict(listing), indent=1).encode())
        if revision is None or not is_commit(revision):
            ref = self.root / "refs" / (revision or "main")
            ref.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(ref) as stream:
                stream.write(listing.commit.encode())

    def recall(self, commit: str, wanted: Wanted) -> Listing | None:
        """Return what the hub said of a commit when it was fetched, or None."""
        try:
            data: Any = json.loads(self._record(commit, wanted).read_text(encoding="utf-8"))
            blobs = [Blob(str(each["file"]), int(each["size"]), str(each["etag"])) for each in data["blobs"]]
            if data["commit"] == commit and all(Path(blob.file).name == blob.file for blob in blobs):
                return Listing(commit, data["licence"], data["gated"], blobs)
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError, KeyError, TypeError):
            pass
        return None

    def _record(self, commit: str, wanted: Wanted) -> Path:
        return self.root / "vlj-edge" / f"{commit}{'' if wanted.weights else '.small'}.json"

    def found(self, commit: str, wanted: Wanted) -> list[Blob]:
        """Return the files of a commit that another program fetched, with the hash that a link names; none if they are
        not whole."""
        folder = self.snapshot(commit)
        links = {path.name: path for path in _files_in(folder) if path.is_symlink()}
        try:
            files = choose_files(links, self.name, wanted)
            shards = json.loads(links[INDEX_FILE].read_text())["weight_map"].values() if INDEX_FILE in files else ()
        except (VljEdgeError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return []
        if not set(shards) <= set(files):
            return []
        return [Blob(file, links[file].stat().st_size, Path(os.readlink(links[file])).name) for file in files]

    def require_space(self, blobs: Sequence[Blob]) -> None:
        """Check that the disk has room for files. VljEdgeError: it has not."""
        have = sum(path.stat().st_size for blob in blobs if (path := self.partial(blob.etag)).exists())
        needed = max(0, sum(blob.size for blob in blobs) - have)
        free = shutil.disk_usage(self.root).free
        if needed and needed + _MARGIN > free:
            raise VljEdgeError(
                f"{self.name} needs {needed / 1e9:.2f} GB and {self.root.parent} has {free / 1e9:.2f} GB free: free"
                " some space, or set HF_HOME to a folder on another disk"
            )


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def cache_of(name: Name) -> Cache:
    """Return the cache of a repository."""
    return Cache(name, cache_folder() / f"models--{name.repository.replace('/', '--')}")
