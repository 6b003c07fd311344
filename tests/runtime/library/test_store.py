"""The store: what it refuses, damage, a full disk, a writer that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlj_edge
from tests.runtime.library.moments import QUERY, random_moments
from vlj_edge import VljEdgeError
from vlj_edge.runtime.library import Store, search
from vlj_edge.runtime.library.moments import VideoMoments
from vlj_edge.runtime.model import Model


def test_a_store_of_other_weights_is_refused(model: Model, store: Store, tmp_path: Path) -> None:
    store.close()
    receipt = model.manifest.receipt | {"weights": {"model.safetensors": "0" * 64}}
    other = vlj_edge.load(model.directory)
    object.__setattr__(other.manifest, "receipt", receipt)
    for write in (True, False):
        with pytest.raises(VljEdgeError, match="other weights"):
            Store(tmp_path / "store", other.manifest, write=write)
    ours = model.manifest.preset
    object.__setattr__(other.manifest, "preset", "another-model")
    for write in (True, False):
        with pytest.raises(VljEdgeError, match=f"made with {ours}, and the bundle is another-model.*--bundle"):
            Store(tmp_path / "store", other.manifest, write=write)
    with pytest.raises(VljEdgeError, match=QUERY):
        Store(tmp_path / "store", model.manifest, "another", write=True)
    assert Store(tmp_path / "store", model.manifest).query == QUERY


def test_two_writers_are_refused_and_readers_are_not(model: Model, store: Store, tmp_path: Path) -> None:
    store.put(random_moments("/x", 5))
    with pytest.raises(VljEdgeError, match="another process"):
        Store(tmp_path / "store", model.manifest, write=True)
    assert len(Store(tmp_path / "store", model.manifest)) == 5
    store.close()
    Store(tmp_path / "store", model.manifest, write=True).close()


def test_no_store_is_made_where_something_else_is(model: Model, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("mine")
    for place in (tmp_path, tmp_path / "photo.jpg"):
        with pytest.raises(VljEdgeError, match="other files"):
            Store(place, model.manifest, write=True)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(VljEdgeError, match=r"none.*vlj-edge index"):
        Store(tmp_path / "none", model.manifest)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("count", [1, 300])
def test_arrays_of_any_alignment_are_stored(store: Store, count: int) -> None:
    def unaligned(array: Any) -> Any:
        raw = bytearray(1) + array.tobytes()
        return np.frombuffer(raw, array.dtype, array.size, 1).reshape(array.shape)

    want = random_moments("/x", count)
    for embeddings in (want.embeddings, want.embeddings.astype(np.float16), np.asfortranarray(want.embeddings)):
        store.put(VideoMoments(want.video, *map(unaligned, (want.start, want.end, embeddings))))
        hit = store.nearest(unaligned(want.embeddings[-1]), 1)[0]
        assert (hit.path, hit.start, hit.number) == ("/x", want.start[-1], count - 1)


def test_a_store_of_an_earlier_version_is_read_and_written(model: Model, store: Store, tmp_path: Path) -> None:
    old = random_moments("/old", 50)
    store.put(old)
    store._table.drop_columns(["recorded", "bytes", "thumbnail"])
    store.close()
    reader = Store(tmp_path / "store", model.manifest)
    assert search(reader, old.embeddings[3], top=1)[0].file == "/old" and set(reader.indexed()) == {"/old"}
    with Store(tmp_path / "store", model.manifest, write=True) as store:
        store.put(random_moments("/new", 20, seed=1))
        store.append(random_moments("door", 5, seed=2), recorded=1.0)
        store.put(random_moments("/old", 49))
        assert set(store.indexed()) == {"/old", "/new"} and len(reader) == 74
        store.forget_recorded(2.0)
        assert len(reader) == 69


def test_a_damaged_store_is_one_line(model: Model, store: Store, tmp_path: Path) -> None:
    store.put(random_moments("/x", 50))
    store.close()
    for path in (tmp_path / "store" / "moments.lance" / "data").iterdir():
        path.write_bytes(b"x" * 10)
    with pytest.raises(VljEdgeError, match="store") as told:
        Store(tmp_path / "store", model.manifest).nearest(random_moments("/x", 1).embeddings[0], 3)
    assert "\n" not in str(told.value) and ".rs" not in str(told.value)


_REWRITE = """
import sys
from tests.runtime.library.moments import random_moments
import vlj_edge
from vlj_edge.runtime.library import Store
with Store(sys.argv[1], vlj_edge.load(sys.argv[2]).manifest, write=True) as store:
    for number in range(10_000):
        store.put(random_moments(f"/{number % 3}", 20 + number % 7, seed=number))
        if number >= 2:
            print(number, flush=True)
        if number % 2:
            store.compact()
"""


def test_readers_never_fail_and_see_the_old_or_the_new(model: Model, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _REWRITE, str(tmp_path / "store"), str(model.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        reader = Store(tmp_path / "store", model.manifest)
        wanted = random_moments("/x", 20).embeddings
        for embedding in wanted:
            assert {moment.file for moment in search(reader, embedding, top=5)} <= {"/0", "/1", "/2"}
            assert set(reader.videos()) == {"/0", "/1", "/2"}
            assert 60 <= len(reader) <= 78
            assert reader.embedding_at("/1", 3.2) is not None
            time.sleep(0.02)  # or the writer waits a second for a moment in which nothing is read
        writer.kill()
        assert len(writer.stdout.readlines()) > 1, "it was written meanwhile"


_PUT = """
import sys
from tests.runtime.library.moments import random_moments
import vlj_edge
from vlj_edge.runtime.library import Store
with Store(sys.argv[1], vlj_edge.load(sys.argv[2]).manifest, write=True) as store:
    for number in range(10_000):
        store.put(random_moments(f"/{number % 7}", 20 + number % 7, seed=number % 7))
        print(number, flush=True)
"""


@pytest.mark.parametrize("after", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in range(0, 34, 2) if n != 4)])
def test_a_writer_that_is_killed_leaves_whole_videos(model: Model, tmp_path: Path, after: int) -> None:
    command = [sys.executable, "-c", _PUT, str(tmp_path / "store"), str(model.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < after:
            pass
        time.sleep(0.007 * (after % 5))
        writer.send_signal(signal.SIGKILL)
    with Store(tmp_path / "store", model.manifest, write=True) as store:
        assert len(store) == sum(20 + int(path[1:]) for path in store.videos())
        assert len(store.videos()) >= min(after, 6)
        store.put(random_moments("/after", 3))
        assert "/after" in store.videos()
