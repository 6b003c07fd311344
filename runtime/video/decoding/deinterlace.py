"""Deinterlacing by FFmpeg's bwdif filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .pyav import import_av


class Deinterlacer:
    """Converts interlaced pictures to progressive ones; progressive ones are unchanged. The output is one picture
    late."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._kind: tuple[Any, ...] = ()

    def pictures(self, picture: Any) -> Iterator[Any]:
        """Take in a picture (av.VideoFrame) and yield those that are ready."""
        kind = (picture.width, picture.height, picture.format.name)
        if kind != self._kind:
            yield from self.rest()
            self._graph, self._kind = _graph(picture), kind
        self._graph.push(picture)
        yield from self._ready()

    def rest(self) -> Iterator[Any]:
        """Yield the remaining pictures at the end."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()

    def _ready(self) -> Iterator[Any]:
        error = import_av().error
        while True:
            try:
                yield self._graph.pull()
            except (error.BlockingIOError, error.EOFError):
                return


def _graph(picture: Any) -> Any:
    """Return a filter for pictures like this one."""
    graph = import_av().filter.Graph()
    like = {"width": picture.width, "height": picture.height, "format": picture.format}
    source = graph.add_buffer(**like, time_base=picture.time_base)
    # one picture for each, not one for each field
    filter = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(filter)
    filter.link_to(sink)
    graph.configure()
    return graph
