"""Indexing folders of videos: what is stored, what is encoded again, followed or pruned."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.library.moments import QUERY, Film
from tests.runtime.tiny_bundle import YELLOW
from vlj_edge import VljEdgeError
from vlj_edge.runtime.library import Store, embedding_at, find_videos, index, search
from vlj_edge.runtime.library.index import (
    EncodedVideo,
    broken_videos,
    encode_video,
    index_continuously,
    local_encoder,
    prune,
    stat_video,
)
from vlj_edge.runtime.library.moments import Video, reading_of
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.video.recordings.folders import find_recordings


def test_every_moment_is_found_where_it_is(model: Model, store: Store, films: Path) -> None:
    done = {each.path.name: each for each in index(store, local_encoder(model, QUERY), [films])}
    assert set(done) == {"a.avi", "b.avi", "c-broken.mp4"}
    assert done["c-broken.mp4"].moments == 0 and "c-broken.mp4 cannot be read" in (done["c-broken.mp4"].problem or "")
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
    assert looked == ["a.avi", "c-broken.mp4", "b.avi"]
    before = len(store)
    shutil.copy(films / "below" / "b.avi", films / "a.avi")
    os.utime(films / "a.avi", ns=(0, 10**18))
    list(index(store, encode, [films / "a.avi"]))
    assert looked[3:] == ["a.avi"]
    assert set(store.videos()) == {str(films / "a.avi"), str(films / "below" / "b.avi")}
    blue = search(store, model.embed_text("blue"), top=1)
    assert blue[0].score < 0.9, "the blue that was there is forgotten"
    assert len(store) < 2 * before


def test_a_folder_of_images_is_one_video(model: Model, store: Store, tmp_path: Path) -> None:
    folder, encode = tmp_path / "images", local_encoder(model, QUERY)
    folder.mkdir()
    for number in range(16):  # 4 s
        Image.new("RGB", (64, 64), (255, 0, 0) if number < 8 else (0, 0, 255)).save(folder / f"{number:02}.png")
    [seen] = index(store, encode, [folder])
    assert (seen.path, seen.seconds, seen.problem) == (folder, 4.0, None)
    assert list(index(store, encode, [folder])) == []
    [blue] = search(store, model.embed_text("blue"), top=1)
    assert blue.file == str(folder) and blue.start == pytest.approx(2, abs=1) and blue.score > 0.9
    Image.new("RGB", (64, 64), (255, 0, 0)).save(folder / "16.png")
    [seen] = index(store, encode, [folder], reading=reading_of(Part(frames_per_second=1.0)))
    assert seen.seconds == pytest.approx(17, abs=1)


def test_folders_of_images_below_a_folder_are_videos_where_there_is_no_other(
    model: Model, store: Store, films: Path, tmp_path: Path
) -> None:
    for folder in ("days/1", "days/2/b", ".hidden", "days/none", "films/covers"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (64, 64), (255, 0, 0)).save(
            tmp_path / folder / ("x.txt.png" if "none" not in folder else ".x.png")
        )
    names = ["days/1", "days/2/b"]
    assert find_recordings([tmp_path / "days"]) == [tmp_path / name for name in names]
    assert find_recordings([tmp_path / "day*"]) == [tmp_path / name for name in names]
    assert tmp_path / "films/covers" not in find_recordings([films])
    done = index(store, local_encoder(model, QUERY), [tmp_path / "days"])
    assert [(seen.path, seen.moments > 0) for seen in done] == [(tmp_path / name, True) for name in names]


def test_a_moment_outside_the_stored_part_is_read_as_the_part_was(model: Model, store: Store, films: Path) -> None:
    reading = reading_of(Part(end=4.0, frames_per_second=5.0))  # slow motion: blue begins at 20 s
    list(index(store, local_encoder(model, QUERY), [films / "a.avi"], reading=reading))
    for at, colour in ((6.0, "red"), (22.0, "blue")):
        embedding, hit = embedding_at(model, store, films / "a.avi", at)
        assert hit.start <= at <= hit.end and embedding @ model.embed_text(colour) > 0.9


def test_a_part_is_stored_in_place_of_the_whole_and_back(model: Model, store: Store, films: Path) -> None:
    part, encode = reading_of(Part(start=4.0)), local_encoder(model, QUERY)

    def index_again(reading: str) -> int:
        return len(list(index(store, encode, [films / "a.avi"], reading=reading)))

    assert index_again("") == 1
    [red] = search(store, model.embed_text("red"), top=1)
    assert red.start == 0 and red.score > 0.9
    assert (index_again(part), index_again(part)) == (1, 0), "the whole is not the part, the same part is"
    [red], [blue] = (search(store, model.embed_text(text), top=1) for text in ("red", "blue"))
    assert red.score < 0.9 and blue.score > 0.9 and blue.start == pytest.approx(4, abs=0.6) and blue.end == 8
    [(path, video)] = store.videos().items()
    assert path == str(films / "a.avi") and json.loads(video.reading) == {"start": 4.0}
    assert index_again(reading_of(Part(start=4.0), rotate=90)) == 1
    assert (index_again(""), index_again("")) == (1, 0)
    [red] = search(store, model.embed_text("red"), top=1)
    assert red.start == 0 and red.score > 0.9


def test_a_part_behind_the_end_breaks_no_file(model: Model, store: Store, films: Path) -> None:
    encode = local_encoder(model, QUERY)
    [seen] = index(store, encode, [films / "a.avi"], reading=reading_of(Part(start=60.0)))
    assert seen.moments == 0 and "8.0 s" in (seen.problem or "")
    [seen] = index(store, encode, [films / "a.avi"])
    assert seen.moments > 0 and seen.seconds == 8.0


def test_a_store_made_before_there_were_parts_is_gone_on_with(
    model: Model, store: Store, films: Path, tmp_path: Path
) -> None:
    list(index(store, local_encoder(model, QUERY), [films / "a.avi"]))
    store._table.drop_columns(["reading"])
    store.close()
    reader = Store(store.uri, model.manifest)
    assert [video.reading for video in reader.videos().values()] == [""]
    with Store(store.uri, model.manifest, write=True) as writer:
        assert list(index(writer, local_encoder(model, QUERY), [films / "a.avi"])) == []
        [seen] = index(writer, local_encoder(model, QUERY), [films / "a.avi"], reading=reading_of(Part(end=4.0)))
        assert seen.seconds == pytest.approx(4, abs=0.6) and set(reader.videos()) == {str(films / "a.avi")}


def test_a_broken_file_is_remembered_until_it_changes(
    model: Model, store: Store, films: Path, make_video: Film
) -> None:
    encode, broken = local_encoder(model, QUERY), films / "c-broken.mp4"
    (films / "empty.mp4").touch()

    def indexed(retry: bool = False) -> dict[str, bool]:
        return {each.path.name: each.problem is None for each in index(store, encode, [films], retry=retry)}

    assert indexed() == {"a.avi": True, "b.avi": True, "c-broken.mp4": False, "empty.mp4": False}
    assert indexed() == {}
    known = broken_videos(store, [films])
    assert set(known) == {broken, films / "empty.mp4"} and "c-broken.mp4 cannot be read" in known[broken]
    assert indexed(retry=True) == {"c-broken.mp4": False, "empty.mp4": False}
    broken.write_bytes(b"broken in another way")
    assert indexed() == {"c-broken.mp4": False}
    shutil.move(make_video([(YELLOW, 3)], name="whole.avi"), broken)
    assert indexed() == {"c-broken.mp4": True} and str(broken) in store.videos()
    assert set(broken_videos(store, [films])) == {films / "empty.mp4"}
    (films / "empty.mp4").unlink()
    assert prune(store, [films]) == [str(films / "empty.mp4")] and store.broken() == {}


def test_what_is_not_a_files_own_fault_is_tried_again(
    model: Model, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = stat_video(films / "c-broken.mp4")
    assert encode_video(model, broken, QUERY).broken
    for video in (broken._replace(size=7), Video(str(films / "gone.mp4"), 7, 7)):  # still being written, or gone by now
        seen = encode_video(model, video, QUERY)
        assert seen.problem is not None and not seen.broken

    def fail(*_: object, **__: object) -> None:
        raise VljEdgeError("the engine has failed")

    monkeypatch.setattr(model, "embed", fail)
    seen = encode_video(model, stat_video(films / "a.avi"), QUERY)
    assert seen.problem == "the engine has failed" and not seen.broken


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
