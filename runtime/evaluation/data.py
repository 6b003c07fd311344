"""What a model is evaluated on: clips, each with texts that describe it, or questions with their right answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vlj_edge.errors import VljEdgeError

from ..calibration.events import AnnotatedEvent
from ..video.recordings.folders import SUFFIXES, find_recordings
from .published import read_published
from .tables import TABLES, Row, TaskQuestion, read_table

_FORMS = "give a folder with one folder of videos a class, a .csv, .tsv or .jsonl file (docs/evaluation.md)"


@dataclass(frozen=True)
class Clip:
    """A video or the part of it from `start` to `end` seconds, None: its end.

    Attributes:
        video: a file or a folder of images.
        texts: each describes the clip; none, if there are only questions about it.
    """

    video: Path
    start: float
    end: float | None
    texts: tuple[str, ...]
    questions: tuple[TaskQuestion, ...]

    @property
    def name(self) -> str:
        """Its path and, unless it is the whole video, its times."""
        if not self.start and self.end is None:
            return str(self.video)
        return f"{self.video} from {self.start:g} s to {'the end' if self.end is None else f'{self.end:g} s'}"


@dataclass(frozen=True)
class Data:
    """What a model is evaluated on.

    Attributes:
        texts: all texts of the clips, each once.
        labels: whether the texts are classes: each clip has one, and it comes from a folder's name or there are, on
            average, two clips or more a text. Otherwise they are captions.
        timed: whether clips with an end are moments of their videos, so that a narration can be judged.
        ignored: columns of a table that mean nothing here.
        missing: how many videos a published file describes that are not there.
    """

    clips: tuple[Clip, ...]
    texts: tuple[str, ...]
    labels: bool
    timed: bool = True
    ignored: tuple[str, ...] = ()
    missing: int = 0

    @property
    def events(self) -> dict[Path, list[AnnotatedEvent]]:
        """What happens in each video, in the order of the starts; none, unless the clips are timed."""
        found: dict[Path, list[AnnotatedEvent]] = {}
        for clip in self.clips if self.timed else ():
            if clip.texts and clip.end is not None:
                found.setdefault(clip.video, []).append(AnnotatedEvent(clip.start, clip.end, clip.texts))
        return {video: sorted(events, key=lambda event: event.start) for video, events in found.items()}


def read_data(path: Path, videos: Path | None = None) -> Data:
    """Read a folder of videos by class, a table (see tables.py) or a published file (see published.py).

    Args:
        videos: the folder of a published file's videos; None: its own.

    Raises:
        VljEdgeError: it cannot be read, or holds nothing to evaluate. Videos are not opened.
    """
    suffix = path.suffix.lower()
    published = None
    if suffix in (".json", ".csv") and not path.is_dir():
        published = read_published(path, videos or path.parent)
    if published is not None:
        data = _data(published.rows, classes=bool(published.classes))
        texts = published.classes or data.texts
        return replace(data, texts=texts, timed=not published.classes, missing=published.missing)
    if videos is not None:
        raise VljEdgeError(
            f"{path} is no published file: only for one are videos looked for in {videos}: leave that out"
        )
    if path.is_dir():
        return _data(_rows_of_folder(path), classes=True)
    if suffix not in TABLES and path.exists():
        raise VljEdgeError(f"{path} is no data to evaluate on: {_FORMS}")
    rows, ignored = read_table(path)
    return replace(_data(rows), ignored=ignored)


def _rows_of_folder(path: Path) -> list[Row]:
    """Return a row for each video, whose text is the name of its class's folder with spaces for underscores."""
    try:
        entries = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    rows, classes = [], dict[str, Path]()
    for entry in entries:
        if not entry.is_dir():
            if entry.suffix.lower() in SUFFIXES:
                raise VljEdgeError(f"{entry} is in no folder of a class: {_FORMS}")
            continue
        label = " ".join(entry.name.replace("_", " ").split())
        if (same := classes.setdefault(label, entry)) != entry:
            raise VljEdgeError(f"{same} and {entry} are the same class, '{label}': rename one of them")
        videos = find_recordings([entry])
        if not videos:
            raise VljEdgeError(f"{entry} holds no videos: a folder is a class; take it out or put some in")
        rows += [Row(video, text=label) for video in videos]
    if not rows:
        raise VljEdgeError(f"{path} holds no folders of videos: {_FORMS}")
    return rows


def _data(rows: Iterable[Row], classes: bool | None = None) -> Data:
    """Join the rows about the same part of the same video, so that it is embedded once.

    Args:
        classes: whether the texts are; None: see Data.labels.
    """
    joined: dict[tuple[Path, float, float | None], list[Row]] = {}
    for row in rows:
        joined.setdefault((row.video, row.start, row.end), []).append(row)
    clips = tuple(
        Clip(
            *part,
            tuple(dict.fromkeys(row.text for row in same if row.text is not None)),
            tuple(dict.fromkeys(row.question for row in same if row.question is not None)),
        )
        for part, same in joined.items()
    )
    texts = tuple(dict.fromkeys(text for clip in clips for text in clip.texts))
    described = [clip for clip in clips if clip.texts]
    one_each = bool(described) and all(len(clip.texts) == 1 for clip in described)
    if classes is None:
        classes = 2 * len(texts) <= len(described)
    return Data(clips, texts, one_each and classes)
