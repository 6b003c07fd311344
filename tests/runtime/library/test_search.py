"""Searching: moments around the best windows, similar moments, thumbnails and clips, the vector index."""

from __future__ import annotations

import base64
import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.library.moments import QUERY, random_moments
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge import VljEdgeError
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.results import Moment
from vlj_edge.runtime.library import Store, embedding_at, index, search
from vlj_edge.runtime.library import store as stores
from vlj_edge.runtime.library.index import local_encoder
from vlj_edge.runtime.library.moments import Hit, SeenWindow, Video, VideoMoments, merge_windows
from vlj_edge.runtime.library.pictures import write_clip, write_thumbnail
from vlj_edge.runtime.library.search import merge_hits
from vlj_edge.runtime.library.thumbnails import MOST_BYTES, thumbnail
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.uri import open_source

searching = importlib.import_module("vlj_edge.runtime.library.search")  # whose name the package has for its function


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


def test_nothing_is_found_below_the_floor(model: Model, tmp_path: Path) -> None:
    manifest = replace(model.manifest, labels=replace(model.manifest.labels, search_floor=0.5))
    angles = np.linspace(0, np.pi / 2, 10)
    rows = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1).astype(np.float32)
    far = np.array([0.2, 0, 0, 0.98], np.float32)
    with Store(tmp_path / "store", manifest, write=True) as store:
        store.put(replace(random_moments("/a", 10), embeddings=rows))
        scores = [moment.score for moment in search(store, rows[0], top=10, min_score=0)]
        assert scores[0] > 0.99 and scores[-1] < 0.5
        assert [moment.score for moment in search(store, rows[0], top=10)] == [each for each in scores if each >= 0.5]
        assert search(store, far) == [] and search(store, far, min_score=0.3) == []
        assert search(store, far, min_score=0) and search(store, far, min_score=0.1)
        for wrong in (-0.1, 1.1, float("nan")):
            with pytest.raises(VljEdgeError, match="min_score"):
                search(store, rows[0], min_score=wrong)


def test_nano_finds_nothing_of_what_its_videos_do_not_show(tmp_path: Path) -> None:
    demo = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"
    with vlj_edge.load() as nano, Store(tmp_path / "store", nano.manifest, write=True) as store:
        with open_source(demo, end=20) as source:
            seen = [
                SeenWindow(item.window.start, item.window.end, item.embedding)
                for item in nano.embed(source, query=store.query)
            ]
        shown = merge_windows(Video("/demo.mp4", 1, 1), seen)
        assert shown is not None
        store.put(shown)
        assert search(store, nano.embed_text("the robot arm opens the drawer"))
        for text in ("a bicycle", "a dog runs", "two people shake hands"):
            assert search(store, nano.embed_text(text)) == []
            assert search(store, nano.embed_text(text), min_score=0)


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
    with pytest.raises(VljEdgeError, match=r"a\.avi ends at 8"):
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
        write_clip(moment, tmp_path / "none.mp4")
    write_thumbnail(moment, tmp_path / "stored.jpg")
    assert (tmp_path / "stored.jpg").read_bytes() == moment.thumbnail
    with pytest.raises(VljEdgeError, match=r"a\.avi does not exist"):
        write_thumbnail(replace(moment, thumbnail=None), tmp_path / "none.jpg")


def test_every_moment_has_a_thumbnail_of_its_window(
    model: Model, store: Store, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(index(store, local_encoder(model, QUERY), [films]))
    for text, channel in (("blue", 0), ("green", 1), ("red", 2)):
        [moment] = search(store, model.embed_text(text), top=1)
        assert moment.thumbnail is not None and len(moment.thumbnail) <= MOST_BYTES
        with PIL.Image.open(io.BytesIO(moment.thumbnail)) as picture:
            assert picture.format == "JPEG" and picture.size == (64, 48)
            colour = np.asarray(picture)[..., ::-1].mean((0, 1))
        assert colour.argmax() == channel and colour.max() > 200 > 60 > np.sort(colour)[1]
        shown = moment.as_dict()["thumbnail"]
        assert base64.b64decode(shown.removeprefix("data:image/jpeg;base64,")) == moment.thumbnail


@pytest.mark.parametrize("shape", [(1080, 1920), (4000, 30), (30, 4000), (1, 1), (2160, 3840), (161, 159)])
def test_thumbnails_are_small_whatever_they_show(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    jpeg = thumbnail(noise)
    with PIL.Image.open(io.BytesIO(jpeg)) as picture:
        picture.load()
        assert max(picture.size) <= 128
    assert len(jpeg) <= MOST_BYTES


def test_with_an_index_the_nearest_are_those_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(nano_bundle())
    many, late = random_moments("/x", 3000, width=manifest.embedding), random_moments("/y", 10, 5, manifest.embedding)
    monkeypatch.setattr(stores, "_INDEX_MIN_ROWS", 2000)
    monkeypatch.setattr(stores, "ROWS_PER_PARTITION", 100)
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
