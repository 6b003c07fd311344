"""Store moments and their embeddings in a LanceDB table, in a folder or in a bucket (s3://, gs://, az://).

docs/library.md explains the choice of LanceDB, with the figures of results/stores.json.

All moments of one video are written in one commit, so that a video is stored completely or not at all. The table's
schema records which weights made the embeddings and with which query.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np

from vlj_edge.bundle import Manifest
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.errors import VljEdgeError, require, without_credentials

from . import columns
from .broken import BrokenVideos
from .lance_errors import one_line
from .moments import Hit, Vectors, Video, VideoMoments, path_literal
from .snapshot import ROWS_PER_PARTITION, Snapshot
from .writer_lock import BucketLease, FolderLock, readers_lock

Result = TypeVar("Result")

_TABLE = "moments"
_INDEX_MIN_ROWS = 50_000  # moments, seven hours of video; fewer are searched exhaustively
_PATIENCE = 5.0  # seconds of a reader whose version is cleaned away while it reads
_KEPT_IN_BUCKETS = timedelta(minutes=10)  # longer than anything is read


class Store:
    """A store of moments and their embeddings, made by one bundle. A context manager.

    Args:
        uri: a folder, or s3://bucket/path and the like; its credentials come from the environment.
        query: the query of the embeddings; None: the store's own, or for a new store the bundle's query for labels.
        write: create the store if it does not exist, and keep other writers off it.

    Raises:
        VljEdgeError: there is no store, it was made with other weights or another query, the folder holds other files,
            another process writes to it, or LanceDB is not installed.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model, vlj_edge.Store("library", model.manifest, write=True) as store:
        ...     for video in vlj_edge.index(store, model, ["videos"]):
        ...         print(video.path.name)
        ...     moments = vlj_edge.search(store, model.embed_text("the robot arm pulls the drawer open"), top=1)
        demo.mp4
        >>> len(moments)
        1
    """

    def __init__(self, uri: str | Path, manifest: Manifest, query: str | None = None, write: bool = False) -> None:
        self.uri = _without_file_scheme(str(uri))
        self._folder = None if "://" in self.uri else Path(self.uri)
        self._shown = without_credentials(self.uri)
        os.environ.setdefault("LANCE_LOG", "error")  # it warns on stderr about its own API
        self._lance, self._arrow = require("lancedb", "store"), require("pyarrow", "store")
        self._lock: FolderLock | BucketLease | None = None
        try:
            with one_line(f"{self._shown} cannot be opened", "check the place and its permissions"):
                self._connect(write)
                self._table = self._open(manifest, query, write)
                self._broken = BrokenVideos(self._database)
        except BaseException:
            self.close()
            raise
        self.query, self.temperature = self._metadata["query"], manifest.labels.temperature
        self.search_floor = manifest.labels.search_floor
        self._check(manifest, query)

    def read(self, ask: Callable[[Snapshot], Result]) -> Result:
        """Return what `ask` finds in the newest version, of which nothing is cleaned away meanwhile.

        In a bucket it may be, if `ask` takes minutes: then it is called again with the version that is the newest now.
        """
        until = time.monotonic() + _PATIENCE
        failed = None  # the version that could not be read: one that fails twice is damaged
        while True:
            version = None
            try:
                with readers_lock(self._folder):
                    with one_line(f"{self._shown} cannot be read", "check the disk"):
                        snapshot = Snapshot(self._reading.open_table(_TABLE), self._shown)
                    version = snapshot.version
                    return ask(snapshot)
            except VljEdgeError:
                if time.monotonic() > until or (version is not None and version == failed):
                    raise
            failed = version
            time.sleep(0.02)

    def __len__(self) -> int:
        """Return the number of stored moments."""
        return self.read(len)

    def videos(self) -> dict[str, Video]:
        """Return all stored videos by path."""
        return self.read(Snapshot.videos)

    def indexed(self) -> dict[str, Video]:
        """Return the videos that were indexed, by path: all but those that a service has recorded."""
        return self.read(lambda seen: seen.videos(indexed=True))

    def nearest(self, embedding: Vectors, count: int, exclude: Hit | None = None) -> list[Hit]:
        """Return the `count` nearest moments, nearest first.

        Args:
            embedding: float32 [embedding], unit length.
            exclude: leave out moments that overlap with this one.
        """
        return self.read(lambda seen: seen.nearest(embedding, count, exclude))

    def embedding_at(self, path: str, time: float) -> tuple[Hit, Vectors] | None:
        """Return the moment of a video at a time (seconds), and its embedding, float32 [embedding]; None if there is no
        such moment. If several overlap, the one whose middle is nearest."""
        return self.read(lambda seen: seen.embedding_at(path, time))

    def put(self, moments: VideoMoments) -> None:
        """Store the moments of a video in place of those stored before, in one commit.

        Raises:
            VljEdgeError: the disk is full, or the store cannot be written; what was stored before stays.
        """
        rows, this_video = columns.rows(moments, self._table.schema), f"path = {path_literal(moments.video.path)}"
        with self._writing():
            if self._table.count_rows(this_video):
                replace = self._table.merge_insert(["path", "number"]).when_matched_update_all()
                replace.when_not_matched_insert_all().when_not_matched_by_source_delete(this_video).execute(rows)
            else:
                self._table.add(rows)
            self._broken.forget(moments.video.path)

    def append(self, moments: VideoMoments, recorded: float) -> None:
        """Store moments of a service, after those of the same video.

        Args:
            recorded: unix time at which they were seen; see forget_recorded().

        Raises:
            VljEdgeError: the disk is full, or the store cannot be written; what was stored before stays.
        """
        last = self.read(lambda seen: seen.last_of(moments.video.path))
        first = 0 if last is None else last.number + 1
        with self._writing():
            self._table.add(columns.rows(moments, self._table.schema, first, round(recorded * 1e9)))

    def recorded_until(self, video: Video) -> float:
        """Return up to which time services have recorded a video, seconds: 0 if they have not, it has changed since, or
        another part of it was recorded; inf if it was indexed."""
        last = self.read(lambda seen: seen.last_of(video.path))
        if last is not None and last.recorded is None:
            return math.inf
        return last.end if last is not None and (last.size, last.modified, last.reading) == video[1:] else 0.0

    def forget_recorded(self, before: float) -> None:
        """Remove what a service recorded before this unix time."""
        old = f"recorded < {round(before * 1e9)}"
        with self._writing():
            if self._table.count_rows(old):
                self._table.delete(old)

    def shrink_recorded(self, most_bytes: float) -> None:
        """Remove the oldest of what services recorded until that is a tenth below a size, if it is above it."""
        times, sizes = self.read(Snapshot.recorded)
        if sizes.sum() > most_bytes:
            oldest_first = np.argsort(times)
            left = sizes.sum() - np.cumsum(sizes[oldest_first])
            last = oldest_first[int(np.argmax(left <= 0.9 * most_bytes))]
            self.forget_recorded((times[last] + 1) / 1e9)

    def broken(self) -> dict[Video, str]:
        """Return the files that could not be read, as they were then, and why. Of a store opened for writing."""
        with one_line(f"{self._shown} cannot be read", "check the disk"):
            return self._broken.all()

    def put_broken(self, video: Video, problem: str) -> None:
        """Remember that nothing of a file can be read; its moments, if it was readable before, stay.

        Raises:
            VljEdgeError: the disk is full, or the store cannot be written.
        """
        with self._writing():
            self._broken.remember(video, problem)

    def remove(self, path: str) -> None:
        """Remove a video, and what is known of a broken one."""
        with self._writing():
            self._broken.forget(path)
            # counted first: a deletion is a commit even if there is nothing to delete
            if self._table.count_rows(f"path = {path_literal(path)}"):
                self._table.delete(f"path = {path_literal(path)}")

    def compact(self) -> None:
        """Merge the small files of many commits, and build an index once the store is too large for exhaustive search.

        Raises:
            VljEdgeError: the disk is full, or the store cannot be written; what was stored stays.
        """
        with self._writing():
            self._table.optimize()
            self._clean_up()
            count = self._table.count_rows()
            if count >= _INDEX_MIN_ROWS and not self._table.list_indices():
                indices = require("lancedb.index", "store")
                settings = indices.IvfRq(distance_type="cosine", num_partitions=max(1, count // ROWS_PER_PARTITION))
                self._table.create_index("embedding", config=settings)
                for column in ("path", "number"):  # for around()
                    self._table.create_index(column, config=indices.BTree())

    def close(self) -> None:
        """Let others write. May be called twice."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def _metadata(self) -> dict[str, str]:
        raw = self._table.schema.metadata or {}
        named = {key.decode(): value.decode() for key, value in raw.items()}
        return {name: named.get(f"vlj_edge.{name}", "") for name in ("space", "query", "bundle")}

    def _connect(self, write: bool) -> None:
        if self._folder is not None:
            if write:
                self._lock = FolderLock(self._folder, _TABLE)
            elif not (self._folder / f"{_TABLE}.lance").is_dir():
                raise VljEdgeError(f"{self.uri} is no store: make one with vlj-edge index VIDEOS --store {self.uri}")
        self._database = self._lance.connect(self.uri, read_consistency_interval=timedelta(0))
        self._reading = self._lance.connect(self.uri)  # whose tables stay at the version at which they are opened
        if write and self._folder is None:
            self._lock = BucketLease(self._database, self._shown)

    def _open(self, manifest: Manifest, query: str | None, write: bool) -> Any:
        if _TABLE in self._database.list_tables().tables:
            table = self._database.open_table(_TABLE)
            missing = {name: value for name, value in columns.ADDED.items() if name not in table.schema.names}
            if write and missing:
                table.add_columns(missing)
            return table
        if not write:
            raise VljEdgeError(f"{self._shown} is no store: make one with vlj-edge index VIDEOS --store {self._shown}")
        asked = query or manifest.labels.query or manifest.default_query
        about = {"space": embedding_space(manifest), "query": asked, "bundle": manifest.preset}
        about = {f"vlj_edge.{name}": value for name, value in about.items()}
        return self._database.create_table(_TABLE, schema=columns.schema(manifest.embedding, about))

    def _check(self, manifest: Manifest, query: str | None) -> None:
        about = self._metadata
        wrong = None
        if about["space"] != embedding_space(manifest):
            made_by, ours = about["bundle"] or "another model", manifest.preset
            which = f"other weights of {ours}" if made_by == ours else f"{made_by}, and the bundle is {ours}"
            wrong = f"{self._shown} was made with {which}: name its --bundle, or another --store"
        elif query is not None and query != about["query"]:
            wrong = f"{self._shown} was made with the query '{about['query']}': use that, or another store"
        if wrong is not None:
            self.close()
            raise VljEdgeError(wrong)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._lock is not None:
            self._lock.check()
        with one_line(f"{self._shown} cannot be written", "check the disk", "; what it held before stays"):
            yield

    def _clean_up(self) -> None:
        """Delete old versions and what a killed writer has left, or the disk would hold everything twice. Versions that
        may be read at this moment are left for the next time: in a folder all if one is, in a bucket the youngest."""
        kept = timedelta(0) if self._folder is not None else _KEPT_IN_BUCKETS
        with readers_lock(self._folder, exclusive=True) as unread, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is for the only writer, which this is
            for table in (self._table, self._broken.table) if unread else ():
                if table is not None:
                    table.optimize(cleanup_older_than=kept, delete_unverified=True)


def _without_file_scheme(uri: str) -> str:
    return unquote(uri[len("file://") :]) if uri.startswith("file:///") else uri
