"""The atomic descriptions of Ego-Exo4D, as published: annotations/atomic_descriptions_val.json beside takes.json.

    {"annotations": {TAKE_UID: [{"rejected": false, "descriptions": [
        {"text": "C lifts the pan.", "timestamp": 18.48, "ego_visible": "1", ...}, ...]}, ...]}}

takes.json names each take, and its videos lie in takes/TAKE_NAME/frame_aligned_videos, or downscaled/448 below it. The
wearer's camera (aria01_214-1.mp4) is used, with what can be seen in it; or a single video TAKE_NAME.mp4 or
TAKE_UID.mp4, with everything. What annotators were unsure of is used as well; rejected annotations are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vlj_edge.errors import VljEdgeError
from vlj_edge.schema import Range, parse
from vlj_edge.tables import table_text

from .tables import REMEDY, Row

REACH = 2.0  # s before and after a description's time: annotators marked it within one or two
_NOT_SEEN = ("0", "false", "False", 0)  # 0 is also False


@dataclass(frozen=True)
class _Description:
    text: str | None = None
    timestamp: Annotated[float, Range(at_least=0)] | None = None
    ego_visible: Any = None


@dataclass(frozen=True)
class _Pass:
    descriptions: tuple[_Description, ...] = ()
    rejected: Any = False


@dataclass(frozen=True)
class _AtomicDescriptions:
    annotations: dict[str, tuple[_Pass, ...]]


@dataclass(frozen=True)
class _Take:
    take_uid: str
    take_name: str


def read_ego_exo(path: Path, raw: object, folder: Path, videos: Sequence[Path]) -> tuple[list[Row], int]:
    """Return a row for each description, and how many of the takes have no video.

    Args:
        raw: the content of `path`.
        folder: in or below which the videos lie: the data's top folder, or its takes.
        videos: all that lie there.

    Raises:
        ValueError: the annotations are damaged.
        VljEdgeError: takes.json is damaged.
    """
    takes = parse(_AtomicDescriptions, raw, ignore_unknown=True).annotations
    if not any(takes.values()):
        raise ValueError("it is empty")
    names, rows, missing = _names(path, folder), list[Row](), 0
    for uid, passes in takes.items():
        video, is_ego = _video(videos, names.get(uid, uid), uid)
        if video is None:
            missing += 1
            continue
        rows += _rows(video, is_ego, passes)
    return rows, missing


def _rows(video: Path, is_ego: bool, passes: Sequence[_Pass]) -> Iterator[Row]:
    for each in passes:
        for told in () if each.rejected else each.descriptions:
            seen = not is_ego or told.ego_visible not in _NOT_SEEN
            text = " ".join((told.text or "").split())
            if text and told.timestamp is not None and seen:
                yield Row(video, max(0.0, told.timestamp - REACH), told.timestamp + REACH, text)


def _video(videos: Sequence[Path], name: str, uid: str) -> tuple[Path | None, bool]:
    """Return the video of a take, and whether it is the wearer's. The smallest version is enough for any model."""
    ego = [each for each in videos if each.stem.startswith("aria") and each.stem.endswith("_214-1")]
    of_take = sorted((each for each in ego if name in each.parts), key=lambda each: -len(each.parts))
    if of_take:
        return of_take[0], True
    return next((each for each in videos if each.stem in (name, uid)), None), False


def _names(path: Path, folder: Path) -> dict[str, str]:
    """Return the name of each take by its uid, from takes.json above the annotations or the videos; none without it."""
    places = (folder, folder.parent, path.parent, path.parent.parent)
    found = next((place / "takes.json" for place in places if (place / "takes.json").is_file()), None)
    if found is None:
        return {}
    try:
        takes = parse(tuple[_Take, ...], json.loads(table_text(found, REMEDY)), ignore_unknown=True)
    except (ValueError, RecursionError) as error:
        raise VljEdgeError(f"{found} holds no takes ({error}): give the file as it was published") from error
    return {take.take_uid: take.take_name for take in takes}
