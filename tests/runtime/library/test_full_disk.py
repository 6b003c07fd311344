"""A full disk: what was stored stays, and the error says to free space."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.library.moments import random_moments
from vlj_edge import VljEdgeError
from vlj_edge.runtime.library import Store
from vlj_edge.runtime.model import Model

_FILL = """
import resource, sys
from tests.runtime.library.moments import random_moments
import vlj_edge
from vlj_edge.runtime.library import Store
with Store(sys.argv[1], vlj_edge.load(sys.argv[2]).manifest, write=True) as store:
    store.put(random_moments("/first", 100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow past it, as on a full disk
    try:
        store.put(random_moments(sys.argv[3], 100_000))
    except vlj_edge.VljEdgeError as error:
        print(error)
"""


@pytest.mark.parametrize("path", ["/second", "/first"])
def test_files_that_may_not_grow_leave_what_was_stored(model: Model, tmp_path: Path, path: str) -> None:
    command = [sys.executable, "-c", _FILL, str(tmp_path / "store"), str(model.directory), path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "cannot be written (" in done.stdout and "free space" in done.stdout, done.stderr
    store = Store(tmp_path / "store", model.manifest)
    assert set(store.videos()) == {"/first"} and len(store) == 100


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_leaves_what_was_stored(model: Model, small_disk: Path) -> None:
    with Store(small_disk / "store", model.manifest, write=True) as store:
        store.put(random_moments("/first", 1000, seed=1))
        wanted = random_moments("/first", 1000, seed=1).embeddings[7]
        for path in ("/second", "/first", "/first"):
            with pytest.raises(VljEdgeError, match=r"No space left.*free space"):
                store.put(random_moments(path, 100_000))
            assert set(store.videos()) == {"/first"} and len(store) == 1000
            assert store.nearest(wanted, 1)[0].start == 3.5
        (small_disk / "other").write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
        with pytest.raises(VljEdgeError, match="free space"):
            store.put(random_moments("/first", 5))
        assert len(store) == 1000
        (small_disk / "other").unlink()
        store.put(random_moments("/first", 50))
        store.compact()
        assert len(store) == 50, "once there is space, it goes on"
