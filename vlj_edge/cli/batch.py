"""Several videos or folders, one after another: narrate --out, and classify with several sources."""

from __future__ import annotations

import glob
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .narrate_output import require_answers
from .outputs import write_whole
from .part_options import PartOptions
from .progress import progress
from .say import say, tell

if TYPE_CHECKING:
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.sinks.base import Event
    from vlj_edge.runtime.sinks.queue import SinkQueue

_LOOKED_AT = 20  # pictures of a folder
FORMATS = ("srt", "vtt", "json", "txt")


@dataclass(frozen=True)
class Output:
    """Where the texts of several videos go: --out, --format and --overwrite."""

    folder: Path
    kind: str
    overwrite: bool


def stands_for_videos(source: str) -> bool:
    """Return whether a source stands for several videos: a pattern, or a folder without images of its own, but with
    videos or folders of images."""
    from vlj_edge.runtime.video.recordings.folders import find_recordings, has_images

    path = Path(source)
    if not path.exists():
        return bool(glob.glob(source, recursive=True))
    return path.is_dir() and not has_images(path) and bool(find_recordings([path]))


def refuse_several(source: str, remedy: str) -> None:
    """Check, for a command that takes one source, that a source does not stand for several videos.

    Raises:
        click.UsageError: it does; the message ends with the remedy.
    """
    if stands_for_videos(source):
        raise click.UsageError(f"{source} stands for several videos, and this takes one: name one, or {remedy}")


def hint_at_photos(source: str, part: PartOptions, remedy: str) -> None:
    """Say of a folder of pictures of several sizes, which no camera gives, that it is read as one video."""
    from vlj_edge.runtime.video.recordings.folders import has_images
    from vlj_edge.runtime.video.recordings.image import picture_sizes
    from vlj_edge.runtime.video.recordings.image_files import images_in

    folder = Path(source)
    timed = part.frames_per_second is not None or part.image_times != "rate"
    if timed or not folder.is_dir() or not has_images(folder):
        return
    if len(picture_sizes(images_in(folder)[:_LOOKED_AT])) > 1:
        tell(
            f"warning: {source} is read as one video of 4 pictures a second, and its pictures have several sizes:"
            f" if they show different things, {remedy}"
        )


def videos_of(sources: Sequence[str]) -> list[Path]:
    """Return the absolute paths of videos: those that find_recordings() finds.

    Raises:
        VljEdgeError: a source does not exist, is an address, a camera or stdin, or holds none.
    """
    from vlj_edge.runtime.video.paths import path_of
    from vlj_edge.runtime.video.recordings.folders import find_recordings

    from ..errors import VljEdgeError, WrongCall, without_credentials

    found: dict[Path, None] = {}
    for source in sources:
        path = path_of(source)
        if path is None:
            raise WrongCall(f"{without_credentials(source)} is no file: give files, or folders of videos")
        videos = find_recordings([path])
        if not videos:
            raise VljEdgeError(f"{source} holds no videos: give files, or folders that hold some")
        found |= dict.fromkeys(videos)
    return list(found)


def each_video(videos: Sequence[Path], work: Callable[[Path], None]) -> None:
    """Call `work` with every video. An error of one is printed on stderr, and the others follow.

    Raises:
        VljEdgeError: at the end, where a video could not be read completely.
    """
    from ..errors import VljEdgeError

    failed = 0
    for video in videos:
        try:
            work(video)
        except VljEdgeError as error:
            tell(f"warning: {error}")
            failed += 1
    if failed:
        raise VljEdgeError(f"{failed} of {len(videos)} videos could not be read completely: see above")


def output_paths(videos: Sequence[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Return a path in `folder` for each video, named after it, in the same subfolder as below the videos' common
    folder.

    Videos whose files would have the same name keep their suffix: a.mp4.srt and a.mov.srt.
    """
    common = Path(os.path.commonpath([str(video.parent) for video in videos]))
    named = {video: video if video.is_dir() else video.with_suffix("") for video in videos}
    while True:  # a name with its suffix may equal another one without
        uses = Counter(str(name).casefold() for name in named.values())
        shared = [video for video, name in named.items() if name != video and uses[str(name).casefold()] > 1]
        if not shared:
            break
        named |= {video: video for video in shared}
    return {video: folder / name.parent.relative_to(common) / f"{name.name}.{suffix}" for video, name in named.items()}


def narrate_videos(
    model: Model,
    videos: Sequence[Path],
    out: Output,
    part: PartOptions,
    sinks: Sequence[SinkQueue],
    **settings: Any,
) -> None:
    """Narrate every video and write its texts to a file; print the file's name.

    Args:
        videos: from videos_of().
        settings: of Model.narrate().

    Raises:
        VljEdgeError: see each_video() and require_answers().
    """
    from vlj_edge.runtime.sinks.base import Event

    from ..errors import VljEdgeError, valid_unicode
    from ..outputs import refuse_overwriting

    paths = output_paths(videos, out.folder, out.kind)
    calls: list[tuple[int, int]] = []

    def narrate_video(video: Path) -> None:
        path = paths[video]
        if path.exists() and not out.overwrite:
            tell(f"{path} is there already: kept; --overwrite makes it again")
            return
        events: list[Event] = []
        broken: VljEdgeError | None = None
        if "words" in settings:
            settings["words"].camera = valid_unicode(str(video))
        with part.open(str(video), model.manifest.clip) as source:
            run = model.narrate(source, **settings)
            with run, progress(run, source):
                try:
                    for number, narration in enumerate(run, 1):
                        events.append(Event(valid_unicode(str(video)), narration, time.time(), number))
                        for sink in sinks:
                            sink.put(events[-1])
                except VljEdgeError as error:  # texts of the part that was read are still written
                    broken = error
        calls.append((run.totals.calls, run.totals.calls_failed))
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_overwriting("--out", path, [*videos, model.directory])
        write_whole(path, format_events(out.kind, events, run.totals.video_end))
        say(str(path))
        if broken is not None:
            raise broken

    each_video(videos, narrate_video)
    require_answers(calls)


def format_events(kind: str, events: Sequence[Event], end: float) -> str:
    """Return the content of a file of that kind: srt, vtt, json (one object a line) or txt.

    Args:
        end: of the video, seconds.
    """
    from vlj_edge.runtime.sinks.console import JsonEvents, plain_line
    from vlj_edge.runtime.sinks.subtitles import SrtWriter, VttWriter

    if kind in ("srt", "vtt"):
        stream = StringIO()
        writer = SrtWriter(stream) if kind == "srt" else VttWriter(stream)
        for event in events:
            writer.add(event.narration)
        writer.finish(end)
        return stream.getvalue()
    lines = [plain_line(event.narration) for event in events] if kind == "txt" else []
    if kind == "json":
        written = JsonEvents(lines.append)
        for event in events:
            written.add(event, live=False)
        if events:
            written.finish(events[-1].source, end)
    return "".join(f"{line}\n" for line in lines)
