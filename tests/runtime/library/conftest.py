"""Fixtures for the tests of the library: coloured videos, the tiny model and a store that can be written to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlj_edge
from tests.runtime.library.moments import QUERY, Film
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.runtime.library import Store
from vlj_edge.runtime.model import Model


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return vlj_edge.load(tiny_bundle)


@pytest.fixture
def films(make_video: Film, tmp_path: Path) -> Path:
    """A folder with a.avi (red, then blue), below/b.avi (green, then red), a text, a hidden video and a broken one."""
    folder = tmp_path / "films"
    (folder / "below").mkdir(parents=True)
    shutil.move(make_video([(RED, 4), (BLUE, 4)], name="a.avi"), folder / "a.avi")
    shutil.move(make_video([(GREEN, 3), (RED, 3)], name="b.avi"), folder / "below" / "b.avi")
    shutil.copy(folder / "a.avi", folder / ".hidden.avi")
    (folder / "notes.txt").write_text("no video")
    (folder / "c-broken.mp4").write_bytes(b"no video either")
    return folder


@pytest.fixture
def store(model: Model, tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", model.manifest, QUERY, write=True) as made:
        yield made
