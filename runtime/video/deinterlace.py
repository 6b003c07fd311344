"""Deinterlacing by FFmpeg's bwdif filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .pyav import import_av


class Deinterlacer:
    """Makes a whole picture of each interlaced one; progressive ones pass as they are. Each comes out one later.

    Args:
        stream: of the pictures.
    """

    def __init__(self, stream: Any) -> None:
        graph = import_av().filter.Graph()
        source = graph.add_buffer(template=stream)
        # one picture for one, not one for each field
        filter = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = graph.add("buffersink")
        source.link_to(filter)
        filter.link_to(sink)
        graph.configure()
        self._graph = graph

    def pictures(self, picture: Any) -> Iterator[Any]:
        """Take in a picture (av.VideoFrame) and yield those that are ready."""
        self._graph.push(picture)
        yield from self._ready()

    def rest(self) -> Iterator[Any]:
        """Yield what is left at the end."""
        self._graph.push(None)
        yield from self._ready()

    def _ready(self) -> Iterator[Any]:
        error = import_av().error
        while True:
            try:
                yield self._graph.pull()
            except (error.BlockingIOError, error.EOFError):
                return
