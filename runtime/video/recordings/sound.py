"""The sound of a recording, ready to be encoded as AAC."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..decoding.decoder import start_of
from ..decoding.pyav import import_av, open_container

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class Sound:
    """The sound of a part of a recording, without gaps: with silence where it begins late, pauses, or is damaged.

    Args:
        place, shown, options: see open_container(); an object is closed by close().
        start, end: seconds from the start of the container; None: up to the end.

    Attributes:
        exists: False if there is no sound that can be decoded.
        rate: samples a second, one that AAC has.
        layout: "mono" or "stereo", to which more channels are mixed.

    Raises:
        VljEdgeError: the container cannot be opened.
    """

    def __init__(
        self,
        place: Path | Any,
        shown: str,
        options: dict[str, str] | None,
        start: float = 0.0,
        end: float | None = None,
    ) -> None:
        self._place = place
        try:
            self._container = open_container(place, shown, options)
        except BaseException:
            self._close_place()
            raise
        self._stream = self._container.streams.best("audio")
        codec: Any = None if self._stream is None else self._stream.codec_context
        self.exists = bool(codec and codec.sample_rate)
        self._start, self._length = start, None if end is None else end - start
        self.rate = codec.sample_rate if self.exists and codec.sample_rate in _AAC_RATES else 48000
        self.layout = "mono" if self.exists and codec.layout.nb_channels == 1 else "stereo"

    def close(self) -> None:
        """Close the container. Not during a call of frames()."""
        self._container.close()
        self._close_place()

    def _close_place(self) -> None:
        if not isinstance(self._place, Path):
            self._place.close()

    def frames(self) -> Iterator[Any]:
        """Yield av.AudioFrame, whose `time` counts from the start of the part, seconds."""
        graph, shape, end = None, None, 0.0
        for frame in self._decoded():
            if (found := (frame.format.name, frame.layout.name, frame.sample_rate)) != shape:
                if graph is not None:
                    graph.push(None)
                    yield from _ready(graph)
                graph, shape = self._graph(frame, round(end * self.rate)), found
            assert graph is not None
            graph.push(frame)
            for ready in _ready(graph):
                end = ready.time + ready.samples / ready.sample_rate
                yield ready
            if self._length is not None and frame.time > self._length:
                break
        if graph is not None:
            graph.push(None)
            yield from _ready(graph)

    def _decoded(self) -> Iterator[Any]:
        """Yield the decoded frames, with their time from the start of the part."""
        error = import_av().error
        origin = start_of(self._container) + self._start
        due = None
        try:
            if self._start > 0:
                self._container.seek(int(origin * 1e6), backward=True)
            for packet in self._container.demux(self._stream):
                try:
                    decoded = packet.decode()
                except error.InvalidDataError:
                    continue
                for frame in decoded:
                    time = due if frame.pts is None else float(frame.pts * frame.time_base) - origin
                    time = -self._start if time is None else time
                    due = time + frame.samples / frame.sample_rate
                    frame.time_base = Fraction(1, frame.sample_rate)
                    frame.pts = round(time * frame.sample_rate)
                    yield frame
        except (error.FFmpegError, OSError):  # broken off: reading the pictures reports it
            return

    def _graph(self, frame: Any, begin: int) -> Any:
        """Return a filter graph for frames like this one; its output begins with sample number `begin`."""
        graph = import_av().filter.Graph()
        end = "" if self._length is None else f":end={self._length}"
        filters = (
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=Fraction(1, frame.sample_rate),
            ),
            graph.add("atrim", f"start={begin / self.rate}{end}"),
            graph.add("aresample", f"{self.rate}:async=1:first_pts={begin}"),
            graph.add("aformat", f"sample_fmts=fltp:channel_layouts={self.layout}:sample_rates={self.rate}"),
            graph.add("abuffersink"),
        )
        graph.link_nodes(*filters).configure()
        return graph


def open_sound(
    place: Path | str | Any, shown: str, options: dict[str, str] | None, start: float = 0.0, end: float | None = None
) -> Sound | None:
    """Return the sound of a part of a recording; None if it has none that can be decoded. See Sound."""
    sound = Sound(place, shown, options, start, end)
    if not sound.exists:
        sound.close()
        return None
    return sound


def _ready(graph: Any) -> Iterator[Any]:
    error = import_av().error
    while True:
        try:
            yield graph.pull()
        except (error.BlockingIOError, error.EOFError):
            return
