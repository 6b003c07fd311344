"""Indexing on a Dask cluster of real scheduler and worker processes: what comes back, and what survives."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.runtime.library.dask_processes import Cluster, dask_cluster
from tests.runtime.library.moments import QUERY, Film
from tests.runtime.tiny_bundle import BLUE, GREEN, RED, YELLOW
from vlj_edge import VljEdgeError
from vlj_edge.runtime.library import Store, index
from vlj_edge.runtime.library import cluster as clusters
from vlj_edge.runtime.library.index import local_encoder, stat_video
from vlj_edge.runtime.model import Model

pytest.importorskip("distributed")

# Workers say which video each has begun, wait for the file "go", and are killed by a video that is named so.
_WORKERS_THAT_WAIT = """
import os, pathlib, signal, time
from vlj_edge.runtime.library import cluster

def encode(model, video, *arguments, real=cluster.encode_video, **named):
    path = pathlib.Path(video.path)
    pathlib.Path(f"began-{os.getpid()}").write_text(path.name)
    if path.name.startswith("killer"):
        os.kill(os.getpid(), signal.SIGKILL)
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    return real(model, video, *arguments, **named)

cluster.encode_video = encode
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask")) as running:
        yield running


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "dask").mkdir()
    with dask_cluster(tmp_path / "dask", preload=_WORKERS_THAT_WAIT) as running:
        yield running


def wait_until_begun(folder: Path, count: int) -> list[int]:
    """Return the workers that have begun a video, once there are so many."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = [int(path.name.partition("-")[2]) for path in folder.glob("began-*")]
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{count} workers have not begun in a minute")


def assert_same_rows(one: Store, other: Store) -> None:
    tables = [
        store._table.to_arrow().sort_by([("path", "ascending"), ("number", "ascending")]) for store in (one, other)
    ]
    assert tables[0].equals(tables[1]), "to the last bit"


def test_many_machines_store_what_one_does(
    model: Model, store: Store, films: Path, make_video: Film, tmp_path: Path, cluster: Cluster
) -> None:
    for seconds in (1, 7, 15):  # of any size: where arrays begin in a message depends on it
        long = make_video([(colour, seconds) for colour in (RED, GREEN, BLUE, YELLOW)], name=f"{seconds}.avi")
        shutil.move(long, films / f"{seconds}.avi")
    alone = {each.path: each for each in index(store, local_encoder(model, QUERY), [films])}
    with Store(tmp_path / "many", model.manifest, QUERY, write=True) as many:
        encode = clusters.cluster_encoder(cluster.address, model, QUERY)
        done = {each.path: each for each in index(many, encode, [films])}
        assert done == alone and "cannot be read" in (done[films / "c-broken.mp4"].problem or "")
        assert_same_rows(store, many)


def test_a_cluster_with_another_bundle_is_refused(
    model: Model, films: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "embedding_space", lambda manifest: "0" * 16)  # here, not on the workers
    [seen] = clusters.cluster_encoder(cluster.address, model, QUERY)([stat_video(films / "a.avi")])
    assert seen.moments is None and "other weights" in (seen.problem or "")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_survived(
    model: Model, store: Store, films: Path, tmp_path: Path, waiting: Cluster
) -> None:
    for number in range(6):
        shutil.copy(films / ("a.avi" if number % 2 else "below/b.avi"), films / f"more{number}.avi")
    list(index(store, local_encoder(model, QUERY), [films]))
    with Store(tmp_path / "many", model.manifest, QUERY, write=True) as many, ThreadPoolExecutor() as pool:
        running = pool.submit(list, index(many, clusters.cluster_encoder(waiting.address, model, QUERY), [films]))
        os.kill(wait_until_begun(tmp_path / "dask", 2)[0], signal.SIGKILL)
        (tmp_path / "dask" / "go").touch()
        assert {each.path.name for each in running.result(120) if each.problem} == {"c-broken.mp4"}
        assert_same_rows(store, many)


@pytest.mark.slow
def test_a_video_that_kills_every_worker_is_named_and_no_other(
    model: Model, store: Store, films: Path, tmp_path: Path, waiting: Cluster
) -> None:
    shutil.copy(films / "a.avi", films / "killer.avi")
    (tmp_path / "dask" / "go").touch()
    done = index(store, clusters.cluster_encoder(waiting.address, model, QUERY), [films])
    problems = {each.path.name: each.problem for each in done if each.problem}
    assert set(problems) == {"c-broken.mp4", "killer.avi"} and "killed" in problems["killer.avi"]
    assert {Path(path).name for path in store.videos()} == {"a.avi", "b.avi"}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["scheduler", "workers"])
def test_a_cluster_that_is_lost_is_one_line(
    model: Model, store: Store, films: Path, waiting: Cluster, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_NO_WORKERS_SECONDS", 2.0)
    encode = clusters.cluster_encoder(waiting.address, model, QUERY)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(list, index(store, encode, [films]))
        wait_until_begun(waiting.folder, 2)
        os.killpg((waiting.scheduler if lost == "scheduler" else waiting.nanny).pid, signal.SIGKILL)
        with pytest.raises(VljEdgeError, match=rf"{waiting.address}.*lost") as told:
            running.result(120)
    assert lost in str(told.value) and "\n" not in str(told.value)
