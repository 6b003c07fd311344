"""What an alert is: its name, what it watches for, when it fires. Read and checked from [[alert]] of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any

from vlj_edge.names import problem_of_name
from vlj_edge.schema import FieldPath, Range, SchemaError, parse, shown, unknown_among
from vlj_edge.text_list import is_file_name, repeated
from vlj_edge.time_text import HOW, seconds_of

from ..words.prompt import unknown_field
from .decision import Rule

# What else may be seen, where the model has no cosine below which nothing fits.
OPPOSITES = ("nothing happens", "something else happens", "the scene is empty")
MOST_ALERTS, LONGEST_CLIP = 100, 60.0  # seconds on either side of the beginning
_SHARE = Annotated[float, Range(0, 1)]
_Texts = tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """A moment of a video that shows what an alert watches for; `at` in seconds."""

    video: str
    at: float


@dataclass(frozen=True)
class QuietHours:
    """From `start` to `end`, minutes of the day in local time; past midnight if `end` is not after `start`."""

    start: int
    end: int

    def include(self, time: datetime) -> bool:
        """Return whether a local time lies in them."""
        minute = time.hour * 60 + time.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


@dataclass(frozen=True)
class Alert:
    """One alert. It has texts, a label or examples.

    Attributes:
        name: unique.
        texts: sentences; one of them is enough.
        unless: sentences that say what is there in their place; empty: OPPOSITES.
        label: of the labels that the model was trained to tell apart.
        like: moments that show it.
        cameras: names of sources; empty: all.
        quiet: when nothing begins; None: never.
        keep: seconds before and after its beginning that a clip shows; 0: there is no clip.
        confirm: a question to a vision-language model, which is asked before it fires; None: none is asked.
    """

    name: str
    texts: _Texts = ()
    unless: _Texts = ()
    label: str | None = None
    like: tuple[Example, ...] = ()
    rule: Rule = field(default_factory=Rule)
    cameras: _Texts = ()
    quiet: QuietHours | None = None
    keep: float = 0.0
    confirm: str | None = None

    def watches(self, camera: str) -> bool:
        """Return whether it is for a source."""
        return not self.cameras or camera in self.cameras


@dataclass(frozen=True)
class _Written:
    """An [[alert]] as it is written, but for `for`, a word of Python's."""

    name: str
    text: Any = ()
    unless: Any = ()
    label: str | None = None
    like: Any = ()
    above: _SHARE = 0.6
    below: _SHARE | None = None
    again_after: Any = "1m"
    cameras: tuple[str, ...] = ()
    quiet: str | None = None
    keep: Any = 0
    confirm: str | None = None


def read_alerts(raw: object) -> tuple[Alert, ...]:
    """Return the alerts of a file's [[alert]] tables.

    Raises:
        SchemaError: something in them cannot be used; its path begins with "alert".
    """
    if not isinstance(raw, list):
        raise SchemaError(("alert",), "is no list: write [[alert]], with two brackets")
    if len(raw) > MOST_ALERTS:
        raise SchemaError(("alert",), f"is there {len(raw)} times, more than {MOST_ALERTS}")
    found: list[Alert] = []
    for index, table in enumerate(raw):
        path: FieldPath = ("alert", index)
        alert = _read_alert(table, path)
        if alert.name.casefold() in [other.name.casefold() for other in found]:
            raise SchemaError((*path, "name"), f"is '{alert.name}', as of another alert")
        found.append(alert)
    return tuple(found)


def _read_alert(table: object, path: FieldPath) -> Alert:
    if not isinstance(table, dict):
        raise SchemaError(path, f"is {shown(table)}, not a table of fields")
    table = dict(table)
    lasts = table.pop("for", "1s")
    known = ["for", *(each.name for each in fields(_Written))]
    if strange := [name for name in table if name not in known]:
        raise SchemaError((*path, strange[0]), unknown_among(strange[0], known))
    try:
        written = parse(_Written, table)
    except SchemaError as error:
        raise SchemaError((*path, *error.path), error.problem) from None
    if problem := problem_of_name(written.name):
        raise SchemaError((*path, "name"), problem)
    texts, unless = _texts(written.text, (*path, "text")), _texts(written.unless, (*path, "unless"))
    like = tuple(_example(each, (*path, "like")) for each in _listed(written.like, (*path, "like")))
    _check_kind(written, texts, unless, like, path)
    below = written.above * 0.7 if written.below is None else written.below
    if below > written.above:
        raise SchemaError((*path, "below"), f"is {below:g}, more than above, {written.above:g}")
    rule = Rule(
        written.above, below, _seconds(lasts, (*path, "for")), _seconds(written.again_after, (*path, "again_after"))
    )
    quiet = None if written.quiet is None else _quiet(written.quiet, (*path, "quiet"))
    keep = _seconds(written.keep, (*path, "keep"))
    confirm = None if written.confirm is None else " ".join(written.confirm.split())
    if confirm is not None and not 0 < len(confirm) <= 2000:
        raise SchemaError((*path, "confirm"), "is empty or longer than 2000 letters: write a question of yes or no")
    if confirm is not None and (unknown := unknown_field(confirm, ["camera"])) is not None:
        why = f"has {unknown[:60]}, and only {{camera}} is replaced: two braces on either side keep a word in braces"
        raise SchemaError((*path, "confirm"), why)
    if keep > LONGEST_CLIP:
        raise SchemaError(
            (*path, "keep"), f"is {shown(written.keep)}, more than {LONGEST_CLIP:g}s, all of it in memory"
        )
    return Alert(written.name, texts, unless, written.label, like, rule, written.cameras, quiet, keep, confirm)


def _check_kind(written: _Written, texts: _Texts, unless: _Texts, like: Sequence[Example], path: FieldPath) -> None:
    kinds = [name for name, value in (("text", texts), ("label", written.label), ("like", like)) if value]
    if len(kinds) != 1:
        raise SchemaError(
            (*path, *kinds[1:2]),
            f"has {' and '.join(kinds) or 'nothing to watch for'}: give it one of text, label and like",
        )
    if unless and not texts:
        raise SchemaError((*path, "unless"), "is for an alert with a text")
    if both := {text.casefold() for text in texts} & {text.casefold() for text in unless}:
        raise SchemaError((*path, "unless"), f"has '{sorted(both)[0]}', as text has")


def _listed(raw: Any, path: FieldPath) -> _Texts:
    found = (raw,) if isinstance(raw, str) else raw
    if not isinstance(found, (list, tuple)) or not all(type(each) is str for each in found) or len(found) > 100:
        raise SchemaError(path, f"is {shown(raw)}, not a text or a list of up to 100")
    if not all(each.strip() for each in found):
        raise SchemaError(path, "has an empty text")
    return tuple(found)


def _texts(raw: Any, path: FieldPath) -> _Texts:
    found = tuple(" ".join(each.split()) for each in _listed(raw, path))
    if twice := repeated(enumerate(found)):
        raise SchemaError(path, f"has '{twice[1][1]}' twice")
    if files := [each for each in found if is_file_name(each)]:
        raise SchemaError(path, f"names the file '{files[0]}' and no text")
    return found


def _seconds(raw: Any, path: FieldPath) -> float:
    found = (
        seconds_of(raw)
        if isinstance(raw, str)
        else float(raw)
        if type(raw) in (int, float) and abs(raw) < 1e12
        else None
    )
    if found is None or not 0 <= found <= 1e9:
        raise SchemaError(path, f"is {shown(raw)}, no time: {HOW}")
    return found


def _example(text: str, path: FieldPath) -> Example:
    video, _, time = text.rpartition("@")
    at = seconds_of(time)
    if not video or at is None:
        raise SchemaError(path, f"is {shown(text)}, no moment: write clip.mp4@1:02")
    return Example(video, at)


def _quiet(text: str, path: FieldPath) -> QuietHours:
    match = re.fullmatch(r"\s*([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})\s*", text)
    times = [int(each) for each in match.groups()] if match else [99] * 4
    if max(times[1], times[3]) > 59 or max(times[0] * 60 + times[1], times[2] * 60 + times[3]) > 1440:
        raise SchemaError(path, f"is {shown(text)}, no part of a day: write 22:00-06:00")
    start, end = ((hour * 60 + minute) % 1440 for hour, minute in (times[:2], times[2:]))
    if start == end:
        raise SchemaError(path, f"is {shown(text)}, the whole day or nothing: leave the alert out instead")
    return QuietHours(start, end)
