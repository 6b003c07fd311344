"""Which of the names in somebody's file probably means one that is read: "caption" for captions, "file" for video."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

_SAME = (  # names under which others keep the same
    ("video", "video_id", "video_path", "video_name", "file", "filename", "file_name", "path", "clip", "youtube_id"),
    ("text", "texts", "caption", "captions", "sentence", "sentences", "description", "label", "class", "category"),
    ("start", "time_start", "start_time", "begin", "from", "onset", "t0"),
    ("end", "time_end", "end_time", "stop", "finish", "to", "until", "t1"),
    ("question", "query", "prompt"),
    ("choices", "options", "candidates", "answers"),
    ("answer", "correct", "solution", "answer_text"),
    ("alert", "alarm", "name", "label", "event"),
    ("right", "correct", "wanted", "is_right", "true"),
    ("template", "label", "text", "sentence"),
    ("events", "annotations", "segments", "timestamps"),
)


def near_names(wanted: Iterable[str], given: Iterable[object]) -> dict[str, str]:
    """Return which given name probably means a wanted one, by the wanted name; those that nothing is near are left out.

    >>> near_names(["video", "text"], ["Video_ID", "captoin", "width"])
    {'video': 'Video_ID'}
    >>> near_names(["captions"], ["start", "captoin"])
    {'captions': 'captoin'}
    """
    named = {name.strip().casefold().replace("-", "_").replace(" ", "_"): name for name in map(str, given)}
    found = {}
    for each in wanted:
        same = [name for group in _SAME if each in group for name in group if name in named]
        near = difflib.get_close_matches(each, named, 1, cutoff=0.7)
        if name := next(iter([*same, *near]), None):
            found[each] = named[name]
    return found


def in_place_of(near: Mapping[str, str]) -> str:
    """Return what to write where names are others than those that are read.

    >>> in_place_of({"video": "video_id", "text": "caption"})
    'write video in place of video_id, and text in place of caption'
    """
    return "write " + ", and ".join(f"{wanted} in place of {given[:40]}" for wanted, given in near.items())
