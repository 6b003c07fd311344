"""Store moments and their embeddings in a LanceDB table, in a folder or in a bucket (s3://, gs://, az://).

docs/library.md says why LanceDB, with the figures of results/stores.json.

All moments of one video are written in one commit, so that a video is stored completely or not at all. The table's
schema records which weights made the embeddings and with which query.
"""

from __future__ import annotations

import fcntl
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import Manifest
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.errors import VljEdgeError, require, without_credentials

Vectors = npt.NDArray[np.float32]

_TABLE = "moments"
_INDEX_MIN_ROWS = 50_000  # moments, seven hours of video; fewer are searched exhaustively
_ROWS_PER_PARTITION = 4096  # of the index; one partition in eight is searched
_MIN_REFINED = 300  # candidates that are compared exactly, at least, and at least four for each result


class Video(NamedTuple):
    """A stored video: absolute path, size in bytes, and time of the last change in ns since 1970."""

    path: str
    size: int
    modified: int


@dataclass(frozen=True, eq=False)
class VideoMoments:
    """The moments of a video. Consecutive windows with the same embedding are one moment.

    Attributes:
        start, end: float64 [moments], seconds.
        embeddings: float32 [moments, embedding], rows of unit length; stored as float16.
    """

    video: Video
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    embeddings: Vectors


def merge_windows(video: Video, windows: Iterable[tuple[float, float, Vectors]]) -> VideoMoments | None:
    """Merge consecutive windows that share one embedding object, because the scene gate has skipped the encoder.

    Args:
        windows: start and end in seconds, and embedding, in order.

    Returns:
        The moments; None if there are no windows.
    """
    starts, ends, rows = list[float](), list[float](), list[Vectors]()
    for start, end, embedding in windows:
        if rows and embedding is rows[-1]:
            ends[-1] = end
            continue
        starts.append(start)
        ends.append(end)
        rows.append(embedding)
    return VideoMoments(video, np.array(starts), np.array(ends), np.stack(rows)) if rows else None


class Hit(NamedTuple):
    """A stored moment: path, start and end in seconds, cosine (-1..1) to the query, and its index within the video."""

    path: str
    start: float
    end: float
    score: float
    number: int = -1


class Store:
    """A store of moments and their embeddings, made by one bundle. A context manager.

    Args:
        uri: a folder, or s3://bucket/path and the like; its credentials come from the environment.
        query: the query of the embeddings; None: the store's own, or for a new store the bundle's query for labels.
        write: create the store if it does not exist, and lock it against other writers on this machine.

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
        self.uri = str(uri)
        self._shown = without_credentials(self.uri)
        os.environ.setdefault("LANCE_LOG", "error")  # it warns on stderr of its own API's future
        self._lance, self._arrow = require("lancedb", "store"), require("pyarrow", "store")
        self._lock = _WriterLock(Path(self.uri)) if write and "://" not in self.uri else None
        try:
            with self._readable_errors("cannot be opened", "check the place and its permissions"):
                self._database = self._connect(write)
                self._table = self._open(manifest, query, write)
        except BaseException:
            self.close()
            raise
        self.query, self.temperature = self._metadata["query"], manifest.labels.temperature
        self._check(manifest, query)

    def __len__(self) -> int:
        """Return the number of stored moments."""
        with self._readable_errors("cannot be read", "check the disk"):
            return int(self._table.count_rows())

    def videos(self) -> dict[str, Video]:
        """Return all stored videos by path."""
        with self._readable_errors("cannot be read", "check the disk"):
            rows = self._table.search().where("number = 0").select(list(Video._fields)).to_arrow().to_pylist()
        videos = [Video(**row)._replace(path=real_path(row["path"])) for row in rows]
        return {video.path: video for video in videos}

    def put(self, moments: VideoMoments) -> None:
        """Store the moments of a video, replacing those stored before.

        Raises:
            VljEdgeError: the disk is full, or the store cannot be written.
        """
        arrow, count = self._arrow, len(moments.start)
        halves = arrow.array(np.require(moments.embeddings, np.float16, ["C", "ALIGNED"]).reshape(-1))
        columns = {
            "path": [stored_path(moments.video.path)] * count,
            "size": [moments.video.size] * count,
            "modified": [moments.video.modified] * count,
            "number": np.arange(count),
            "start": np.require(moments.start, np.float64, ["C", "ALIGNED"]),  # or LanceDB panics
            "end": np.require(moments.end, np.float64, ["C", "ALIGNED"]),
            "embedding": arrow.FixedSizeListArray.from_arrays(halves, moments.embeddings.shape[1]),
        }
        with self._readable_errors("cannot be written", "free space; what it held before stays"):
            self._delete(moments.video.path)
            self._table.add(arrow.table(columns, schema=self._table.schema))

    def remove(self, path: str) -> None:
        """Remove a video."""
        with self._readable_errors("cannot be written", "check the disk; what it held before stays"):
            self._delete(path)

    def nearest(self, embedding: Vectors, count: int, exclude: Hit | None = None) -> list[Hit]:
        """Return the `count` nearest moments, nearest first.

        Args:
            embedding: float32 [embedding], unit length.
            exclude: leave out moments that overlap with this one.
        """
        with self._readable_errors("cannot be searched", "check the disk"):
            found = self._table.search(embedding, vector_column_name="embedding").distance_type("cosine").limit(count)
            if exclude is not None:
                path, start, end = _path_literal(exclude.path), exclude.start, exclude.end
                found = found.where(f'NOT (path = {path} AND "end" > {start} AND start < {end})', prefilter=True)
            found = found.nprobes(self._probes()).refine_factor(max(4, -(-_MIN_REFINED // count)))
            rows = found.select(["path", "start", "end", "number", "_distance"]).to_arrow().to_pylist()
        return [
            Hit(real_path(row["path"]), row["start"], row["end"], 1 - row["_distance"], row["number"]) for row in rows
        ]

    def neighbours(self, hit: Hit, embedding: Vectors, reach: int) -> list[Hit]:
        """Return a hit's moment and `reach` moments before and after it in its video, in order, with their cosines to
        an embedding."""
        first, last = hit.number - reach, hit.number + reach
        place = f"path = {_path_literal(hit.path)} AND number >= {first} AND number <= {last}"
        with self._readable_errors("cannot be read", "check the disk"):
            rows = self._table.search().where(place).select(["number", "start", "end", "embedding"]).to_arrow()
        vectors = np.stack(rows["embedding"].to_numpy(zero_copy_only=False)).astype(np.float32)
        cosines = vectors @ embedding / np.maximum(np.linalg.norm(vectors, axis=1), 1e-6)
        columns = (rows[name].to_pylist() for name in ("start", "end"))
        found = zip(*columns, cosines.tolist(), rows["number"].to_pylist(), strict=True)
        return sorted((Hit(hit.path, *row) for row in found), key=lambda each: each.number)

    def embedding_at(self, path: str, time: float) -> tuple[Hit, Vectors] | None:
        """Return the moment of a video at a time (seconds), and its embedding, float32 [embedding]; None if there is no
        such moment. If several overlap, the one whose middle is nearest."""
        with self._readable_errors("cannot be read", "check the disk"):
            found = self._table.search().where(f'path = {_path_literal(path)} AND start <= {time} AND "end" >= {time}')
            rows = found.select(["start", "end", "embedding"]).to_arrow().to_pylist()
        if not rows:
            return None
        best = min(rows, key=lambda row: abs((row["start"] + row["end"]) / 2 - time))
        vector = np.asarray(best["embedding"], np.float32)
        return Hit(path, best["start"], best["end"], 1.0), vector / max(float(np.linalg.norm(vector)), 1e-6)

    def compact(self) -> None:
        """Merge the small files of many commits, and build an index once the store is too large for exhaustive search.

        Raises:
            VljEdgeError: the disk is full, or the store cannot be written.
        """
        with self._readable_errors("cannot be written", "free space; what it held before stays"):
            # Old versions are deleted at once, or the disk would hold everything twice: there is no other writer, and
            # readers open the newest version each time. A bucket may have other writers, so its old versions are kept
            # for LanceDB's default of a week.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._table.optimize(cleanup_older_than=timedelta(0) if self._lock is not None else None)
            count = self._table.count_rows()
            if count >= _INDEX_MIN_ROWS and not self._table.list_indices():
                indices = require("lancedb.index", "store")
                settings = indices.IvfRq(distance_type="cosine", num_partitions=max(1, count // _ROWS_PER_PARTITION))
                self._table.create_index("embedding", config=settings)
                for column in ("path", "number"):  # for around()
                    self._table.create_index(column, config=indices.BTree())

    def close(self) -> None:
        """Release the lock for writing. May be called twice."""
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
        return {name: named.get(f"vlj_edge.{name}", "") for name in ("space", "query")}

    def _connect(self, write: bool) -> Any:
        if "://" not in self.uri:
            folder = Path(self.uri)
            if not write and not (folder / f"{_TABLE}.lance").is_dir():
                raise VljEdgeError(f"{self.uri} is no store: make one with vlj-edge index VIDEOS --store {self.uri}")
        return self._lance.connect(self.uri, read_consistency_interval=timedelta(0))

    def _open(self, manifest: Manifest, query: str | None, write: bool) -> Any:
        if _TABLE in self._database.list_tables().tables:
            return self._database.open_table(_TABLE)
        if not write:
            raise VljEdgeError(f"{self._shown} is no store: make one with vlj-edge index VIDEOS --store {self._shown}")
        arrow = self._arrow
        fields = [
            ("path", arrow.string()),
            ("size", arrow.int64()),
            ("modified", arrow.int64()),
            ("number", arrow.int32()),
            ("start", arrow.float64()),
            ("end", arrow.float64()),
            ("embedding", arrow.list_(arrow.float16(), manifest.embedding)),
        ]
        asked = query or manifest.labels.query or manifest.default_query
        about = {"vlj_edge.space": embedding_space(manifest), "vlj_edge.query": asked}
        return self._database.create_table(_TABLE, schema=arrow.schema(fields, metadata=about))

    def _check(self, manifest: Manifest, query: str | None) -> None:
        about = self._metadata
        wrong = None
        if about["space"] != embedding_space(manifest):
            wrong = f"{self._shown} was made with other weights than the bundle has: name that bundle, or another store"
        elif query is not None and query != about["query"]:
            wrong = f"{self._shown} was made with the query '{about['query']}': use that, or another store"
        if wrong is not None:
            self.close()
            raise VljEdgeError(wrong)

    def _delete(self, path: str) -> None:
        # counted first: a deletion is a commit even if there is nothing to delete
        if self._table.count_rows(f"path = {_path_literal(path)}"):
            self._table.delete(f"path = {_path_literal(path)}")

    def _probes(self) -> int:
        return max(8, int(self._table.count_rows()) // _ROWS_PER_PARTITION // 8)

    @contextmanager
    def _readable_errors(self, what: str, remedy: str) -> Iterator[None]:
        """Raise LanceDB's errors, which are of many types and contain source locations, as one line."""
        try:
            yield
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            why = re.split(r", \S*\.rs:|\n", without_credentials(str(error)))[0][:200]
            raise VljEdgeError(f"{self._shown} {what} ({why}): {remedy}") from error


class _WriterLock:
    """A lock file: one writer at a time on a machine."""

    def __init__(self, folder: Path) -> None:
        name, ours = "writer.lock", f"{_TABLE}.lance"
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if folder.is_file() or (ours not in there and there - {name}):
            raise VljEdgeError(f"{folder} holds other files than a store: name a folder that does not exist yet")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise VljEdgeError(f"{folder} cannot be made ({error.strerror}): name another place") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise VljEdgeError(f"{folder} is being written by another process: wait for it, or name another") from error

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _path_literal(path: str) -> str:
    """Return a path, as it is stored, as an SQL literal."""
    return "'" + stored_path(path).replace("'", "''") + "'"


def stored_path(path: str) -> str:
    """Return an absolute path as UTF-8 text: a byte of its names that is none becomes //xFF, which no path contains
    behind its first character."""
    return re.sub("[\udc80-\udcff]", lambda found: f"//x{ord(found[0]) - 0xDC00:02x}", path)


def real_path(stored: str) -> str:
    """Return the path that stored_path() was given."""
    return re.sub("(?<=.)//x([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), stored)
