"""A strict parser of SubRip subtitles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d),(\d{3})")


@dataclass(frozen=True)
class Cue:
    """One subtitle; times in seconds."""

    start: float
    end: float
    text: str


def read_srt(path: Path) -> list[Cue]:
    """Every cue: numbered from 1 without a gap, each ended by an empty line, none overlapping the next."""
    content = path.read_bytes().decode("utf-8")
    assert not content or content.endswith("\n\n"), "the last cue is not whole"
    assert "\r" not in content
    cues: list[Cue] = []
    for number, block in enumerate(content.split("\n\n")[:-1], start=1):
        index, times, text = block.split("\n")
        assert index == str(number)
        match = _TIMES.fullmatch(times)
        assert match, times
        hours, minutes, seconds, thousandths = (
            [int(part) for part in pair] for pair in zip(match.groups()[:4], match.groups()[4:], strict=True)
        )
        start, end = (hours[i] * 3600 + minutes[i] * 60 + seconds[i] + thousandths[i] / 1000 for i in (0, 1))
        assert start < end, times
        assert not cues or cues[-1].end <= start, times
        assert text.strip() == text != ""
        assert "-->" not in text
        cues.append(Cue(start, end, text))
    return cues
