"""Options for reading a source: --start, --end, --duration, --fps, --image-times, --rotate, --decoder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import click

from ..time_text import HOW, seconds_of
from .options import NumberRange, decoder_option, rotate_option
from .say import tell

if TYPE_CHECKING:
    from vlj_edge.runtime.video.decoding.picture_decoder import DecoderChoice
    from vlj_edge.runtime.video.part import ImageTimes, Part
    from vlj_edge.runtime.video.source import Source

    from ..presets import Clip


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """A time: 90, 90.5, 500ms, 90s, 1.5min, 1h, or in clock notation, 1:30, 0:01:30.5.

    Args:
        at_least: seconds.
    """

    name = "time"

    def __init__(self, at_least: float = 0.0) -> None:
        self._at_least = at_least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        seconds = seconds_of(text)
        if seconds is not None and seconds < self._at_least:
            self.fail(f"{text} is less than {self._at_least:g} s.", param, ctx)
        if seconds is not None:
            return seconds
        shown = f"'{text}'" if re.fullmatch(r"[\w:.,+-]{1,16}", text) else "that"  # what is longer may hold a secret
        self.fail(f"{shown} is no time: {HOW}", param, ctx)


@dataclass(frozen=True)
class PartOptions:
    """The values of --start, --end or --duration, --fps, --image-times, --rotate and --decoder; see open_source()."""

    start: float = 0.0
    end: float | None = None
    frames_per_second: float | None = None
    rotate: int = 0
    image_times: ImageTimes = "rate"
    decoder: DecoderChoice = "auto"

    @property
    def part(self) -> Part:
        """The same for a source of a station."""
        from vlj_edge.runtime.video.part import Part

        return Part(self.start, self.end, self.frames_per_second, self.image_times, self.decoder)

    def check(self, uri: str) -> None:
        """Check what can be known of this part of a source without opening it, before anything slow is opened.

        Raises:
            VljEdgeError: there is no such file, it is no video, or ends before this part, or open_source() refuses the
                address.
        """
        from vlj_edge.runtime.video.paths import check_recording, path_of
        from vlj_edge.runtime.video.uri import check_source

        from ..variables import with_variables

        check_source(uri, self.part)
        path = path_of(uri if os.path.exists(uri) else with_variables(uri))
        if path is not None:
            check_recording(path, self.part)

    def open(self, uri: str, clip: Clip, every_frame: bool = False, **settings: Any) -> Source:
        """Open that part of a source for a model.

        Args:
            every_frame: give all frames, not only those that the model samples.
            settings: of open_source(); a camera that is lost, or is back, is told on stderr unless `on_state` is given.
        """
        from vlj_edge.runtime.video.uri import open_source

        from ..errors import without_credentials

        settings.setdefault("on_state", partial(print_state, without_credentials(uri)))
        return open_source(
            uri,
            start=self.start,
            end=self.end,
            frames_per_second=self.frames_per_second,
            image_times=self.image_times,
            rotate=self.rotate,
            decoder=self.decoder,
            sampled_at=None if every_frame else clip.frames_per_second,
            **settings,
        )


def print_state(name: str, state: str) -> None:
    """Print on stderr that a live source was lost or is back."""
    lines = {
        "waiting for a key frame": "is there, waiting for a key frame, with which its pictures begin",
        "lost": "gives no picture, trying again",
        "live": "gives pictures",
    }
    if state in lines:
        tell(f"{name} {lines[state]}")


def part_options_but_decoder(command: Callable[..., Any]) -> Callable[..., Any]:
    """As part_options(), for a command whose --decoder is something else."""

    @click.option("--start", type=Seconds(), default=0.0, help="Start at this time of the video, such as 90 or 1:30.")
    @click.option("--end", type=Seconds(), help="Stop at this time of the video.")
    @click.option("--duration", type=Seconds(), help="Time to read after --start.")
    @click.option(
        "--fps",
        type=NumberRange(0.001, 1000),
        help="Frames a second, in place of the video's own times; of a folder of images, 4 if not given.",
    )
    @click.option(
        "--image-times",
        type=click.Choice(["rate", "file", "exif"]),
        default="rate",
        help="Times of a folder's images: their rate, those of the files, or those that the camera wrote into them.",
    )
    @rotate_option
    @wraps(command)
    def with_part(
        *args: Any,
        start: float,
        end: float | None,
        duration: float | None,
        fps: float | None,
        rotate: int,
        image_times: ImageTimes,
        picture_decoder: DecoderChoice = "auto",
        **kwargs: Any,
    ) -> Any:
        if end is not None and duration is not None:
            raise click.UsageError("--end and --duration say the same: give one of them")
        if fps is not None and image_times != "rate":
            raise click.UsageError("--fps and --image-times exclude each other: give one of them")
        end = start + duration if duration is not None else end
        if end is not None and end <= start:
            raise click.UsageError(f"nothing is between --start {start:g} s and the end at {end:g} s")
        return command(*args, part=PartOptions(start, end, fps, rotate, image_times, picture_decoder), **kwargs)

    return with_part


def part_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --start, --end, --duration, --fps, --image-times, --rotate and --decoder to a command, which gets them as one
    `part`."""
    return decoder_option(part_options_but_decoder(command))
