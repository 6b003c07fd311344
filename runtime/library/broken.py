"""Remember which files are broken, and why, so that they are tried again only when they have changed or on request."""

from __future__ import annotations

from typing import Any

from vlj_edge.errors import require

from .moments import Video, path_literal, real_path, stored_path

_TABLE = "broken"


class BrokenVideos:
    """A table beside the moments, which only the store's writer uses; it turns LanceDB's errors into its own.

    Attributes:
        table: of LanceDB; None until there is a broken file.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self.table = database.open_table(_TABLE) if _TABLE in database.list_tables().tables else None

    def all(self) -> dict[Video, str]:
        """Return the known broken files, in the state in which they were read."""
        rows = self.table.to_arrow().to_pylist() if self.table is not None else []
        problems = [row.pop("problem") for row in rows]
        videos = [Video(**row)._replace(path=real_path(row["path"])) for row in rows]
        return dict(zip(videos, problems, strict=True))

    def remember(self, video: Video, problem: str) -> None:
        """Remember that a file is broken, replacing an earlier entry."""
        arrow = require("pyarrow", "store")
        fields = [("path", arrow.string()), ("size", arrow.int64()), ("modified", arrow.int64())]
        fields += [("reading", arrow.string())]
        if self.table is None:
            self.table = self._database.create_table(
                _TABLE, schema=arrow.schema([*fields, ("problem", arrow.string())])
            )
        row = video._replace(path=stored_path(video.path))._asdict() | {"problem": stored_path(problem)}
        rows = arrow.Table.from_pylist([row], schema=self.table.schema)
        replace = self.table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all()
        replace.execute(rows)

    def forget(self, path: str) -> None:
        """Forget a file."""
        if self.table is not None and self.table.count_rows(f"path = {path_literal(path)}"):
            self.table.delete(f"path = {path_literal(path)}")
