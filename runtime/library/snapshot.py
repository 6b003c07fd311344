"""Read one version of a store: all answers come from that version, even while a writer changes the store."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .lance_errors import one_line
from .moments import Hit, Vectors, Video, path_literal, real_path

ROWS_PER_PARTITION = 4096  # of the index; one partition in eight is searched
_MIN_REFINED = 300  # candidates that are compared exactly, at least, and at least four for each result


class LastMoment(NamedTuple):
    """The last moment of a video: its number, its end (seconds), the video's size, modification time and reading as in
    Video, and when a service recorded it, ns since 1970; None: it was indexed."""

    number: int
    end: float
    size: int
    modified: int
    reading: str = ""
    recorded: int | None = None


class Snapshot:
    """One version of a store.

    Args:
        table: a LanceDB table that stays at its version.
        shown: the store's name in messages.

    Raises (every method):
        VljEdgeError: the store is damaged, or this version was cleaned away; see Store.read().
    """

    def __init__(self, table: Any, shown: str) -> None:
        self._table, self._shown = table, shown
        self.version = int(table.version)

    def __len__(self) -> int:
        """Return the number of moments."""
        with self._errors("cannot be read"):
            return int(self._table.count_rows())

    def videos(self, indexed: bool = False) -> dict[str, Video]:
        """Return all videos by path, or those that were not recorded by a service."""
        first = "number = 0 AND recorded IS NULL" if indexed and self._has("recorded") else "number = 0"
        with self._errors("cannot be read"):
            columns = self._table.schema.names
            there = [name for name in Video._fields if name in columns]  # older stores have no "reading"
            rows = self._table.search().where(first).select(there).to_arrow().to_pylist()
        videos = [Video(**row)._replace(path=real_path(row["path"])) for row in rows]
        return {video.path: video for video in videos}

    def last_of(self, path: str) -> LastMoment | None:
        """Return the last moment of a video; None if it is not stored."""
        names = [name for name in LastMoment._fields if self._has(name)]
        with self._errors("cannot be read"):
            rows = self._table.search().where(f"path = {path_literal(path)}").select(names).to_arrow().to_pylist()
        return LastMoment(**max(rows, key=lambda row: int(row["number"]))) if rows else None

    def recorded(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return when the moments of services were recorded, int64 [moments], ns since 1970, and their sizes in bytes,
        int64 [moments]."""
        with self._errors("cannot be read"):
            rows = self._table.search().where("recorded IS NOT NULL").select(["recorded", "bytes"]).to_arrow()
        return rows["recorded"].to_numpy().astype(np.int64), rows["bytes"].to_numpy().astype(np.int64)

    def nearest(self, embedding: Vectors, count: int, exclude: Hit | None = None) -> list[Hit]:
        """See Store.nearest()."""
        with self._errors("cannot be searched"):
            found = self._table.search(np.require(embedding, np.float32, ["C", "ALIGNED"]), "embedding")
            found = found.distance_type("cosine").limit(count)
            if exclude is not None:
                path, start, end = path_literal(exclude.path), exclude.start, exclude.end
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
        place = f"path = {path_literal(hit.path)} AND number >= {first} AND number <= {last}"
        with self._errors("cannot be read"):
            rows = self._table.search().where(place).select(["number", "start", "end", "embedding"]).to_arrow()
        vectors = np.stack(rows["embedding"].to_numpy(zero_copy_only=False)).astype(np.float32)
        cosines = vectors @ embedding / np.maximum(np.linalg.norm(vectors, axis=1), 1e-6)
        columns = (rows[name].to_pylist() for name in ("start", "end"))
        found = zip(*columns, cosines.tolist(), rows["number"].to_pylist(), strict=True)
        return sorted((Hit(hit.path, *row) for row in found), key=lambda each: each.number)

    def embedding_at(self, path: str, time: float) -> tuple[Hit, Vectors] | None:
        """See Store.embedding_at()."""
        with self._errors("cannot be read"):
            found = self._table.search().where(f'path = {path_literal(path)} AND start <= {time} AND "end" >= {time}')
            rows = found.select(["start", "end", "embedding"]).to_arrow().to_pylist()
        if not rows:
            return None
        best = min(rows, key=lambda row: abs((row["start"] + row["end"]) / 2 - time))
        vector = np.asarray(best["embedding"], np.float32)
        return Hit(path, best["start"], best["end"], 1.0), vector / max(float(np.linalg.norm(vector)), 1e-6)

    def thumbnail(self, path: str, start: float) -> bytes | None:
        """Return the JPEG of the moment that starts there (seconds); None if it has none."""
        if not self._has("thumbnail"):
            return None
        with self._errors("cannot be read"):
            found = self._table.search().where(f"path = {path_literal(path)} AND start = {start!r}")
            rows = found.select(["thumbnail"]).limit(1).to_arrow().to_pylist()
        return rows[0]["thumbnail"] if rows else None

    def _has(self, column: str) -> bool:
        return column in self._table.schema.names

    def _probes(self) -> int:
        return max(8, int(self._table.count_rows()) // ROWS_PER_PARTITION // 8)

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return one_line(f"{self._shown} {what}", "check the disk, or index into a new store")
