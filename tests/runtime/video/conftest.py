from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from vlj_edge.runtime.video.cameras import camera

from .http_films import CONTAINERS, FFMPEG
from .media_server import MediaServer, media_server


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras that are lost are tried again soon."""
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(camera, "_LONGEST_PAUSE", 0.2)


@pytest.fixture
def media() -> Iterator[MediaServer]:
    with media_server() as server:
        yield server


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same two seconds in several containers, larger than what is read at once."""
    folder = tmp_path_factory.mktemp("films")
    for name, options in CONTAINERS.items():
        pictures = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2,noise=alls=20"]
        encoded = ["-c:v", "mpeg4", "-q:v", "4", "-fflags", "+bitexact", *options, folder / name]
        subprocess.run([str(FFMPEG), "-loglevel", "error", *pictures, *encoded], check=True)
    return {name: (folder / name).read_bytes() for name in CONTAINERS}
