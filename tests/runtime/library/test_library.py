"""A library of plain-coloured videos: storing, finding, and surviving failures."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLUE, GREEN, RED, YELLOW
from vlj_edge import VljEdgeError
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.results import Moment
from vlj_edge.runtime.library import Store, embedding_at, find_videos, index, search
from vlj_edge.runtime.library import cluster as clusters
from vlj_edge.runtime.library import store as stores
from vlj_edge.runtime.library.index import (
    EncodedVideo,
    encode_video,
    index_continuously,
    local_encoder,
    prune,
    stat_video,
)
from vlj_edge.runtime.library.pictures import write_clip, write_thumbnail
from vlj_edge.runtime.library.search import merge_hits
from vlj_edge.runtime.library.store import Hit, Video, VideoMoments
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.uri import open_source

searching = importlib.import_module("vlj_edge.runtime.library.search")  # whose name the package has for its function
Film = Callable[..., Path]
QUERY = "what colour is it"


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


def random_moments(path: str, count: int, seed: int = 0, width: int = by_hand.EMBEDDING) -> VideoMoments:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    start = np.arange(count) / 2
    return VideoMoments(Video(path, 1, 2), start, start + 1, rows)


# --- what is stored


def test_every_moment_is_found_where_it_is(model: Model, store: Store, films: Path) -> None:
    done = {each.path.name: each for each in index(store, local_encoder(model, QUERY), [films])}
    assert set(done) == {"a.avi", "b.avi", "c-broken.mp4"}
    assert done["c-broken.mp4"].moments == 0 and "c-broken.mp4 has no picture" in (done["c-broken.mp4"].problem or "")
    assert done["a.avi"].problem is None and done["a.avi"].seconds == 8.0
    red = search(store, model.embed_text("red"), top=2)
    assert [Path(moment.file).name for moment in red] == ["a.avi", "b.avi"] or red[0].score == pytest.approx(
        red[1].score, abs=1e-3
    )
    by_name = {Path(moment.file).name: moment for moment in red}
    assert by_name["a.avi"].start == 0 and by_name["a.avi"].end == pytest.approx(4, abs=1)
    assert by_name["b.avi"].start == pytest.approx(3, abs=1) and by_name["b.avi"].end == 6
    [green] = search(store, model.embed_text("green"), top=1)
    assert Path(green.file).name == "b.avi" and green.start == 0 and green.score > 0.9


def test_stored_embeddings_are_the_models(model: Model, store: Store, films: Path) -> None:
    list(index(store, local_encoder(model, QUERY), [films / "a.avi"]))
    expected = {item.window.start: item for item in model.embed(films / "a.avi", query=QUERY)}
    hits = store.nearest(model.embed_text("red"), 100)
    assert len(hits) == sum(item.encoded for item in expected.values()) == len(store)
    for hit in hits:
        stored = store.embedding_at(hit.path, (hit.start + hit.end) / 2)
        assert stored is not None
        cosine = float(model.embed_text("red") @ expected[hit.start].embedding)
        assert hit.score == pytest.approx(cosine, abs=2e-3)


def test_several_at_a_time_are_as_one_by_one(model: Model, store: Store, films: Path, tmp_path: Path) -> None:
    for number in range(5):
        shutil.copy(films / ("a.avi" if number % 2 else "below/b.avi"), films / f"more{number}.avi")
    list(index(store, local_encoder(model, QUERY), [films]))
    with Store(tmp_path / "several", model.manifest, QUERY, write=True) as several:
        done = list(index(several, local_encoder(model, QUERY, jobs=3), [films]))
        assert len(done) == 8 and len(several) == len(store) and several.videos() == store.videos()
        for text in ("red", "blue", "green"):
            wanted = model.embed_text(text)
            assert sorted(several.nearest(wanted, 500)) == sorted(store.nearest(wanted, 500))
        before = threading.active_count()
        stopped = local_encoder(model, QUERY, jobs=3)([stat_video(path) for path in find_videos([films])])
        next(stopped)
        stopped.close()  # type: ignore[attr-defined]
        assert threading.active_count() <= before


def test_only_what_has_changed_is_looked_at_again(model: Model, store: Store, films: Path) -> None:
    looked: list[str] = []

    def encode(videos: Sequence[Video]) -> Iterator[EncodedVideo]:
        for video in videos:
            looked.append(Path(video.path).name)
            yield encode_video(model, video, QUERY)

    list(index(store, encode, [films]))
    list(index(store, encode, [films]))
    assert looked == ["a.avi", "c-broken.mp4", "b.avi", "c-broken.mp4"], "what failed is tried, and named, again"
    before = len(store)
    shutil.copy(films / "below" / "b.avi", films / "a.avi")
    os.utime(films / "a.avi", ns=(0, 10**18))
    list(index(store, encode, [films / "a.avi"]))
    assert looked[4:] == ["a.avi"]
    assert set(store.videos()) == {str(films / "a.avi"), str(films / "below" / "b.avi")}
    blue = search(store, model.embed_text("blue"), top=1)
    assert blue[0].score < 0.9, "the blue that was there is forgotten"
    assert len(store) < 2 * before


def test_what_is_gone_is_forgotten_only_when_asked(model: Model, store: Store, films: Path) -> None:
    list(index(store, local_encoder(model, QUERY), [films]))
    (films / "a.avi").unlink()
    list(index(store, local_encoder(model, QUERY), [films]))
    assert str(films / "a.avi") in store.videos()
    assert prune(store, [films / "below"]) == []
    assert prune(store, [films]) == [str(films / "a.avi")]
    assert set(store.videos()) == {str(films / "below" / "b.avi")}


def test_a_folder_that_grows_is_followed(model: Model, store: Store, films: Path, make_video: Film) -> None:
    old = time.time_ns() - 10**10
    for path in find_videos([films]):
        os.utime(path, ns=(old, old))
    following = index_continuously(store, local_encoder(model, QUERY), [films], pause=0.01)
    assert {next(following).path.name for _ in range(3)} == {"a.avi", "b.avi", "c-broken.mp4"}
    new = make_video([(YELLOW, 3)], name="d.avi")
    os.utime(new, ns=(old, old))
    shutil.move(new, films / "d.avi")
    done = next(following)
    assert done.path == films / "d.avi" and done.moments > 0, "the broken one is not tried for ever"
    following.close()


def test_a_growing_file_is_left_alone(model: Model, store: Store, films: Path) -> None:
    asked: list[list[Video]] = []
    for path in find_videos([films]):
        os.utime(path)
    aged = films / "below" / "b.avi"
    os.utime(aged, ns=(0, time.time_ns() - 10**10))
    following = index_continuously(store, local_encoder(model, QUERY), [films], on_plan=asked.append, pause=0.01)
    assert next(following).path == aged and [Path(v.path).name for v in asked[0]] == ["b.avi"]
    following.close()


@pytest.mark.parametrize("name", ["it's; DROP TABLE moments.avi", "Küche 厨房 🎬.avi", "-- x.avi"])
def test_any_name_will_do(model: Model, store: Store, films: Path, name: str) -> None:
    shutil.move(films / "a.avi", films / name)
    list(index(store, local_encoder(model, QUERY), [films / name]))
    [found] = search(store, model.embed_text("red"), top=1)
    assert found.file == str(films / name)
    assert store.embedding_at(found.file, 1.0) is not None
    store.remove(found.file)
    assert store.videos() == {} and len(store) == 0


# --- what is found


def among(hits: Sequence[Hit]) -> Callable[[Hit, int], list[Hit]]:
    """What Store.neighbours() gives, of hits in memory."""

    def around(hit: Hit, reach: int) -> list[Hit]:
        near = [h for h in hits if h.path == hit.path and abs(h.number - hit.number) <= reach]
        return sorted(near, key=lambda each: each.number)

    return around


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.floats(-1, 1)), unique_by=lambda t: t[:2]),
    st.integers(1, 50),
)
def test_moments_are_the_best_windows_that_do_not_overlap(drawn: list[tuple[str, int, float]], reach: int) -> None:
    numbers = dict.fromkeys("ab", 0)
    hits = []
    for path, place, score in sorted(drawn):
        hits.append(Hit(path, place / 2, place / 2 + 2, score, numbers[path]))
        numbers[path] += 1
    hits.sort(key=lambda hit: -hit.score)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "_REACH", reach)  # however far it looks at first
        found = merge_hits(hits, among(hits), 0.1, top=100)
    assert [moment.score for moment in found] == sorted((moment.score for moment in found), reverse=True)
    for moment in found:
        inside = [h for h in hits if h.path == moment.file and moment.start <= h.start and h.end <= moment.end]
        best = (moment.file, moment.best_start, moment.best_end, moment.score)
        assert best in [hit[:4] for hit in inside]
        assert {moment.start, moment.end} <= {h.start for h in inside} | {h.end for h in inside}
        others = [m for m in found if m is not moment and m.file == moment.file]
        assert all(other.end <= moment.start or other.start >= moment.end for other in others)
    if hits:
        assert found[0].score == hits[0].score
    for hit in hits:
        overlapped = [m for m in found if m.file == hit.path and hit.start < m.end and hit.end > m.start]
        assert any(m.score >= hit.score for m in overlapped), "what is left out lies under something better"


def test_neighbours_belong_to_a_moment_while_they_are_near() -> None:
    scores = [0.2, 0.79, 0.8, 0.78, 0.5, 0.6]
    hits = [Hit("a", n / 2, n / 2 + 1, score, n) for n, score in enumerate(scores)]
    best_first = sorted(hits, key=lambda hit: -hit.score)
    assert merge_hits(best_first, among(hits), 0.05, top=2) == [
        Moment("a", 0.5, 2.5, 0.8, 1.0, 2.0),
        Moment("a", 2.5, 3.5, 0.6, 2.5, 3.5),
    ]


def test_enough_windows_are_fetched_for_the_moments_asked_for(store: Store) -> None:
    crowd, lone = random_moments("/crowd", 400, seed=1), random_moments("/lone", 3, seed=2)
    wanted = crowd.embeddings[0]
    near = np.tile(wanted, (400, 1))  # one long moment that would fill the list
    store.put(VideoMoments(crowd.video, crowd.start, crowd.end, near))
    store.put(lone)
    found = search(store, wanted, top=3)
    assert (found[0].file, found[0].start, found[0].end) == ("/crowd", 0, 200.5)
    assert {moment.file for moment in found[1:]} == {"/lone"}


def test_a_moment_like_another_one(model: Model, store: Store, films: Path) -> None:
    list(index(store, local_encoder(model, QUERY), [films]))
    embedding, itself = embedding_at(model, store, films / "a.avi", 1.0)
    found = search(store, embedding, top=1, exclude=itself)
    assert found[0].score > 0.99 and (found[0].file, found[0].start) != (itself.path, itself.start)


@pytest.mark.parametrize("time_", [0.0, 1.3, 6.5, 7.9])
def test_a_video_that_is_not_stored_is_looked_at_where_it_was_meant(
    model: Model, store: Store, films: Path, time_: float
) -> None:
    embedding, place = embedding_at(model, store, films / "a.avi", time_)
    colour = RED if time_ < 4 else BLUE
    assert float(embedding @ by_hand.embedding_of(colour, QUERY)) > 0.99
    assert place.start <= time_ <= place.end
    with pytest.raises(VljEdgeError, match=r"a\.avi has nothing at 99 s"):
        embedding_at(model, store, films / "a.avi", 99.0)


def test_pictures_and_clips_show_the_moment(model: Model, store: Store, films: Path, tmp_path: Path) -> None:
    list(index(store, local_encoder(model, QUERY), [films]))
    [moment] = search(store, model.embed_text("blue"), top=1)
    write_thumbnail(moment, tmp_path / "blue.jpg", width=32)
    [picture] = list(open_source(tmp_path / "blue.jpg"))
    assert picture.image.shape == (24, 32, 3) and picture.image[..., 0].mean() > 200 > 60 > picture.image[..., 2].mean()
    write_clip(moment, tmp_path / "blue.mp4")
    with open_source(tmp_path / "blue.mp4") as clip:
        frames = list(clip)
        assert clip.seconds == pytest.approx(moment.end - moment.start, abs=0.1)
    assert frames[len(frames) // 2].image[..., 0].mean() > 200
    (films / "a.avi").unlink()
    with pytest.raises(VljEdgeError, match=r"a\.avi does not exist"):
        write_thumbnail(moment, tmp_path / "none.jpg")


def test_with_an_index_the_nearest_are_those_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(nano_bundle())
    many, late = random_moments("/x", 3000, width=manifest.embedding), random_moments("/y", 10, 5, manifest.embedding)
    monkeypatch.setattr(stores, "_INDEX_MIN_ROWS", 2000)
    monkeypatch.setattr(stores, "_ROWS_PER_PARTITION", 100)
    with Store(tmp_path / "store", manifest, write=True) as store:
        store.put(many)
        exact = [store.nearest(row, 10) for row in many.embeddings[:20]]
        store.compact()
        assert store._table.list_indices()
        indexed = [store.nearest(row, 10) for row in many.embeddings[:20]]
        assert all(a[0][:3] == b[0][:3] for a, b in zip(exact, indexed, strict=True))
        assert {hit.path for hit in indexed[0]} == {"/x"}
        store.put(late)
        assert store.nearest(late.embeddings[3], 1)[0].path == "/y", "what came after it as well"


def test_a_reader_sees_what_is_written_after_it_began(model: Model, store: Store, tmp_path: Path) -> None:
    reader = Store(tmp_path / "store", model.manifest)
    for number in range(4):
        store.put(random_moments(f"/{number}", 20, seed=number))
        assert len(reader) == 20 * (number + 1)
        store.compact()
        assert reader.nearest(random_moments("/x", 20, seed=number).embeddings[7], 1)[0].path == f"/{number}"
    files = [path for path in (tmp_path / "store").rglob("*.lance") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000, "what was before is not kept"


# --- what is refused, and what survives


def test_a_store_of_other_weights_is_refused(model: Model, store: Store, tmp_path: Path) -> None:
    store.close()
    receipt = model.manifest.receipt | {"weights": {"model.safetensors": "0" * 64}}
    other = vlj_edge.load(model.directory)
    object.__setattr__(other.manifest, "receipt", receipt)
    for write in (True, False):
        with pytest.raises(VljEdgeError, match="made with other weights than the bundle has: name that bundle"):
            Store(tmp_path / "store", other.manifest, write=write)
    with pytest.raises(VljEdgeError, match=f"made with the query '{QUERY}': use that"):
        Store(tmp_path / "store", model.manifest, "another", write=True)
    assert Store(tmp_path / "store", model.manifest).query == QUERY


def test_two_writers_are_refused_and_readers_are_not(model: Model, store: Store, tmp_path: Path) -> None:
    store.put(random_moments("/x", 5))
    with pytest.raises(VljEdgeError, match="is being written by another process"):
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
    with pytest.raises(VljEdgeError, match="is no store: make one with vlj-edge index"):
        Store(tmp_path / "none", model.manifest)
    assert not (tmp_path / "none").exists()


def test_a_damaged_store_is_one_line(model: Model, store: Store, tmp_path: Path) -> None:
    store.put(random_moments("/x", 50))
    store.close()
    for path in (tmp_path / "store" / "moments.lance" / "data").iterdir():
        path.write_bytes(b"x" * 10)
    with pytest.raises(VljEdgeError, match=r"store cannot be (read|searched) \(") as told:
        Store(tmp_path / "store", model.manifest).nearest(random_moments("/x", 1).embeddings[0], 3)
    assert "\n" not in str(told.value) and ".rs" not in str(told.value)


_FILL = """
import resource, sys
from tests.runtime.library.test_library import random_moments
import vlj_edge
from vlj_edge.runtime.library import Store
with Store(sys.argv[1], vlj_edge.load(sys.argv[2]).manifest, write=True) as store:
    store.put(random_moments("/first", 100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow past it, as on a full disk
    try:
        store.put(random_moments("/second", 100_000))
    except vlj_edge.VljEdgeError as error:
        print(error)
"""


def test_a_full_disk_leaves_what_was_stored(model: Model, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FILL, str(tmp_path / "store"), str(model.directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "cannot be written (" in done.stdout and "what it held before stays" in done.stdout, done.stderr
    store = Store(tmp_path / "store", model.manifest)
    assert set(store.videos()) == {"/first"} and len(store) == 100


_PUT = """
import sys
from tests.runtime.library.test_library import random_moments
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


def test_a_video_that_vanishes_is_named(model: Model, store: Store, films: Path) -> None:
    def encode(videos: Sequence[Video]) -> Iterator[EncodedVideo]:
        (films / "below" / "b.avi").unlink()  # after the folder was looked through
        yield from local_encoder(model, QUERY)(videos)

    done = {each.path.name: each for each in index(store, encode, [films])}
    assert "b.avi does not exist" in (done["b.avi"].problem or "") and done["a.avi"].moments > 0
    with pytest.raises(VljEdgeError, match=r"gone\.avi cannot be read"):
        stat_video(films / "gone.avi")
    with pytest.raises(VljEdgeError, match=r"gone\.avi does not exist"):
        find_videos([films, films / "gone.avi"])


def test_a_video_that_breaks_off_is_stored_up_to_there(model: Model, store: Store, films: Path) -> None:
    whole = (films / "a.avi").read_bytes()
    (films / "a.avi").write_bytes(whole[: len(whole) * 2 // 3])
    [done] = index(store, local_encoder(model, QUERY), [films / "a.avi"])
    assert done.moments > 0 and (done.problem is None or "breaks off" in done.problem)
    assert search(store, model.embed_text("red"), top=1)[0].score > 0.9


# --- past one machine


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real server that speaks S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ENDPOINT": f"http://{host}:{port}", "ALLOW_HTTP": "true", "REGION": "us-east-1"}
    for name, value in (settings | {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret-of-mine"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3", endpoint_url=settings["ENDPOINT"]).create_bucket(Bucket="films")
    yield "s3://films/library"
    server.stop()


def test_a_store_in_a_bucket_is_the_same(model: Model, store: Store, films: Path, bucket: str) -> None:
    list(index(store, local_encoder(model, QUERY), [films]))
    with Store(bucket, model.manifest, QUERY, write=True) as there:
        list(index(there, local_encoder(model, QUERY), [films]))
        assert list(index(there, local_encoder(model, QUERY), [films / "a.avi"])) == []
    there = Store(bucket, model.manifest)
    assert there.videos() == store.videos() and len(there) == len(store)
    for text in ("red", "blue", "green"):
        assert search(there, model.embed_text(text)) == search(store, model.embed_text(text))
    with pytest.raises(VljEdgeError, match=r"s3://films/nothing is no store"):
        Store("s3://films/nothing", model.manifest)


def test_a_bucket_that_is_not_there_is_one_line(model: Model, bucket: str) -> None:
    with pytest.raises(VljEdgeError, match=r"s3://no-such/library cannot be opened \(") as told:
        Store("s3://no-such/library", model.manifest, write=True)
    assert "secret-of-mine" not in str(told.value)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A scheduler and two workers, each a process of its own, as on two machines."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as made:
        yield made.scheduler_address


@pytest.mark.slow
def test_many_machines_store_what_one_does(
    model: Model, store: Store, films: Path, tmp_path: Path, cluster: str
) -> None:
    for number in range(6):
        shutil.copy(films / ("a.avi" if number % 2 else "below/b.avi"), films / f"more{number}.avi")
    alone = {each.path: each for each in index(store, local_encoder(model, QUERY), [films])}
    with Store(tmp_path / "many", model.manifest, QUERY, write=True) as many:
        done = {each.path: each for each in index(many, clusters.cluster_encoder(cluster, model, QUERY), [films])}
        assert done == alone and "no picture" in (done[films / "c-broken.mp4"].problem or "")
        columns = ["path", "size", "modified", "number", "start", "end", "embedding"]
        tables = [
            s._table.to_arrow().select(columns).sort_by([("path", "ascending"), ("number", "ascending")])
            for s in (store, many)
        ]
        assert tables[0].equals(tables[1]), "to the last bit"


@pytest.mark.slow
def test_a_cluster_with_another_bundle_is_refused(
    model: Model, films: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "embedding_space", lambda manifest: "0" * 16)  # here, not on the workers
    [seen] = clusters.cluster_encoder(cluster, model, QUERY)([stat_video(films / "a.avi")])
    assert seen.moments is None and "has other weights on" in (seen.problem or "")


def test_no_cluster_is_one_line(model: Model) -> None:
    with pytest.raises(VljEdgeError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        clusters.cluster_encoder("tcp://127.0.0.1:9", model, QUERY)


# --- the commands


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlj_edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_index_and_search(films: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    common = ("--store", tmp_path / "s", "--bundle", tiny_bundle)
    done = run("index", films, *common, "--query", QUERY)
    assert done.returncode == 1 and "error: 1 of the videos could not be read" in done.stderr
    assert "c-broken.mp4 has no picture" in done.stderr and "Traceback" not in done.stderr
    (films / "c-broken.mp4").unlink()
    again = run("index", films, *common)
    assert again.returncode == 0 and "0 videos, 0 moments" in again.stderr
    found = run(
        "search", "blue", *common, "--top", "1", "--json", "--thumbnails", tmp_path / "t", "--cut", tmp_path / "c"
    )
    assert found.returncode == 0, found.stderr
    [line] = [json.loads(line) for line in found.stdout.splitlines()]
    assert Path(line["file"]) == films / "a.avi" and Path(line["thumbnail"]).is_file() and Path(line["clip"]).is_file()
    like = run("search", "--similar", f"{films / 'a.avi'}@0:06.5", *common, "--top", "1")
    assert like.returncode == 0 and len(like.stdout.splitlines()) == 1
    (films / "a.avi").unlink()
    gone = run("index", films, *common, "--prune")
    assert gone.returncode == 0 and "a.avi: forgotten" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("search", "--store", "s"), 2, "give either a text or --similar"),
        (("search", "red", "--similar", "a@1", "--store", "s"), 2, "give either a text or --similar"),
        (("search", "--similar", "a.avi", "--store", "s"), 2, "is no VIDEO@TIME"),
        (("search", "red", "--store", "none"), 1, "none is no store: make one with vlj-edge index"),
        (("index", "none.mp4", "--store", "s"), 1, "none.mp4 does not exist"),
        (("index", ".", "--store", "s", "--cluster", "tcp://127.0.0.1:9"), 1, "no Dask scheduler answers"),
    ],
)
def test_wrong_calls_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == code and told in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""
