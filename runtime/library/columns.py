"""The columns of the table of moments, and moments as its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlj_edge.errors import require

from .moments import VideoMoments, stored_path

# Columns that stores of earlier versions lack: SQL of what their rows get.
ADDED = {
    "reading": "''",
    "recorded": "CAST(NULL AS BIGINT)",
    "bytes": "CAST(NULL AS INT)",
    "thumbnail": "CAST(NULL AS BINARY)",
}


def schema(embedding: int, about: dict[str, str]) -> Any:
    """Return the table's Arrow schema.

    Args:
        embedding: width of the embeddings.
        about: metadata.
    """
    arrow = require("pyarrow", "store")
    fields = [
        ("path", arrow.string()),
        ("size", arrow.int64()),
        ("modified", arrow.int64()),
        ("reading", arrow.string()),
        ("number", arrow.int32()),
        ("start", arrow.float64()),
        ("end", arrow.float64()),
        ("embedding", arrow.list_(arrow.float16(), embedding)),
        (
            "recorded",
            arrow.int64(),
        ),  # ns since 1970 when `serve` saw it, which forgets the oldest; null of indexed videos
        ("bytes", arrow.int32()),  # of such a moment
        ("thumbnail", arrow.binary()),  # JPEG; null where there is none
    ]
    return arrow.schema(fields, metadata=about)


def rows(moments: VideoMoments, schema: Any, first: int = 0, recorded: int | None = None) -> Any:
    """Return moments as an Arrow table. Arrays are copied where Arrow's alignment, without which LanceDB panics, is not
    theirs.

    Args:
        first: number of the first of these moments within its video.
        recorded: when they were seen, ns since 1970; None: indexed.
    """
    arrow, (count, width) = require("pyarrow", "store"), moments.embeddings.shape
    jpegs = moments.thumbnails or [None] * count
    sizes = [2 * width + len(jpeg or b"") for jpeg in jpegs]
    halves = arrow.array(np.require(moments.embeddings, np.float16, ["C", "ALIGNED"]).reshape(-1))
    columns = {
        "path": [stored_path(moments.video.path)] * count,
        "size": [moments.video.size] * count,
        "modified": [moments.video.modified] * count,
        "reading": [moments.video.reading] * count,
        "number": np.arange(first, first + count),
        "start": np.require(moments.start, np.float64, ["C", "ALIGNED"]),
        "end": np.require(moments.end, np.float64, ["C", "ALIGNED"]),
        "embedding": arrow.FixedSizeListArray.from_arrays(halves, width),
        "recorded": [recorded] * count,
        "bytes": sizes if recorded is not None else [None] * count,
        "thumbnail": list(jpegs),
    }
    return arrow.table({name: columns[name] for name in schema.names}, schema=schema)
