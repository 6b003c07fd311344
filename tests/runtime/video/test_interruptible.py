"""Ctrl-C while FFmpeg reads from a file object."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from vlj_edge.runtime.video.recordings.files import VideoFile


class _Interrupted(io.BytesIO):
    """A slow file: every read gives 100 bytes, and one of them is interrupted."""

    def __init__(self, data: bytes, at: int) -> None:
        super().__init__(data)
        self.at, self.reads = at, 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads >= self.at:
            raise KeyboardInterrupt
        return super().read(100)


@pytest.mark.parametrize("at", [1, 2, 20, 200])
@pytest.mark.parametrize("seekable", [True, False])
def test_it_is_raised_at_once_and_nothing_more_is_read(
    at: int, seekable: bool, make_video: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    place = _Interrupted(make_video([((0, 0, 255), 8)], name="x.avi").read_bytes(), at)
    source = place if seekable else _Unseekable(place)
    with pytest.raises(KeyboardInterrupt):
        for _ in VideoFile(source, "x.avi"):
            pass
    assert place.reads == at
    assert capfd.readouterr().err == ""


class _Unseekable:
    def __init__(self, place: _Interrupted) -> None:
        self.read, self.close = place.read, place.close
