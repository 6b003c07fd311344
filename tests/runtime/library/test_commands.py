"""vlj-edge index and vlj-edge search."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import error_of, run_here
from tests.needs import needs
from tests.runtime.library.moments import QUERY
from vlj_edge.runtime.library import cluster as clusters


@needs("distributed")
def test_no_cluster_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clusters, "_CONNECT_SECONDS", 0.5)
    done = run_here("index", ".", "--store", "s", "--cluster", "tcp://127.0.0.1:9")
    assert "tcp://127.0.0.1:9" in error_of(done) and done.stdout == ""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlj_edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_only_files_are_indexed(tiny_bundle: Path, tmp_path: Path) -> None:
    for address in ("rtsp://me:secret@10.0.0.5/1", "0", "-", "https://host/a.mp4"):
        done = run_here("index", address, "--store", tmp_path / "s", "--bundle", tiny_bundle)
        assert done.returncode == 2 and "serve --store" in done.stderr and "secret" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_folder_without_videos_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / ".x.png").touch()
    call = ("index", tmp_path / "texts", "--store", tmp_path / "s", "--bundle", tiny_bundle)
    assert "texts holds no videos" in error_of(run_here(*call))
    assert run_here(*call, "--prune").returncode == 0


def test_times_of_similar_are_those_of_start(tiny_bundle: Path, tmp_path: Path) -> None:
    call = ("search", "--store", tmp_path / "none", "--bundle", tiny_bundle, "--similar")
    for time, code in (("90s", 1), ("1.5min", 1), ("0:01:30.5", 1), ("1:99", 2), ("", 2), ("soon", 2)):
        assert run_here(*call, f"a@b.mp4@{time}").returncode == code, time


def test_index_and_search(films: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    common = ("--store", tmp_path / "s", "--bundle", tiny_bundle)
    done = run("index", films, *common, "--query", QUERY)
    assert done.returncode == 1 and "error: 1 of the videos" in done.stderr
    assert "c-broken.mp4 cannot be read" in done.stderr and "Traceback" not in done.stderr
    assert "\n2 videos, " in f"\n{done.stderr}", "those that were stored"
    again = run_here("index", films, *common)
    assert again.returncode == 0 and "0 videos, 0 moments" in again.stderr
    assert "1 files known to be broken" in again.stderr and "--retry" in again.stderr
    part = run_here("index", films / "a.avi", *common, "--start", "4")
    assert part.returncode == 0 and "\n1 videos, " in f"\n{part.stderr}"
    assert run_here("index", films / "a.avi", *common, "--start", "5", "--end", "4").returncode == 2
    whole = run_here("index", films / "a.avi", *common)
    assert whole.returncode == 0 and "\n1 videos, " in f"\n{whole.stderr}"
    retried = run_here("index", films, *common, "--retry")
    assert retried.returncode == 1 and "c-broken.mp4 cannot be read" in retried.stderr
    found = run_here(
        "search", "blue", *common, "--top", "1", "--json", "--thumbnails", tmp_path / "t", "--cut", tmp_path / "c"
    )
    assert found.returncode == 0, found.stderr
    [line] = [json.loads(line) for line in found.stdout.splitlines()]
    assert Path(line["file"]) == films / "a.avi" and Path(line["thumbnail"]).is_file() and Path(line["clip"]).is_file()
    before = (films / "a.avi").read_bytes()
    Path(line["clip"]).unlink()
    Path(line["clip"]).symlink_to(films / "a.avi")
    kept = run_here("search", "blue", *common, "--top", "1", "--cut", tmp_path / "c")
    assert kept.returncode == 1 and "would overwrite" in kept.stderr and (films / "a.avi").read_bytes() == before
    for text, floor, count in (("yellow", "0.5", 0), ("blue", "0.5", 1), ("yellow", "0", 2)):
        done = run_here("search", text, *common, "--top", "2", "--min-score", floor)
        assert done.returncode == 0 and len(done.stdout.splitlines()) == count
        assert ("nothing like that" in done.stderr and "--min-score 0" in done.stderr) == (count == 0)
    like = run_here("search", "--similar", f"{films / 'a.avi'}@0:06.5", *common, "--top", "1")
    assert like.returncode == 0 and len(like.stdout.splitlines()) == 1
    (films / "a.avi").unlink()
    gone = run_here("index", films, *common, "--prune")
    assert gone.returncode == 0 and "a.avi: forgotten" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("search", "--store", "s"), 2, "--similar"),
        (("search", "red", "--similar", "a@1", "--store", "s"), 2, "--similar"),
        (("search", "--similar", "a.avi", "--store", "s"), 2, "VIDEO@TIME"),
        (("search", "red", "--store", "none"), 1, "vlj-edge index"),
        (("search", "red", "--store", "none", "--min-score", "1.5"), 2, "--min-score"),
        (("search", "red", "--store", "none", "--min-score", "nan"), 2, "--min-score"),
        (("index", "none.mp4", "--store", "s"), 1, "none.mp4"),
    ],
)
def test_wrong_calls_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here(*arguments)
    assert done.returncode == code and told in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_clip_that_cannot_be_looked_at_is_refused_before_a_model_is_opened(
    films: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ("--store", tmp_path / "s", "--bundle", tiny_bundle)
    assert run_here("index", films / "a.avi", *store, "--query", QUERY).returncode == 0
    (tmp_path / "text.mp4").write_text("no video")
    monkeypatch.setattr("vlj_edge.cli.search.load_model", None)
    for place, why in ((f"{films / 'a.avi'}@99", "ends at 8"), ("no.avi@1", "no.avi does not exist")):
        assert why in error_of(run_here("search", "--similar", place, *store))
    monkeypatch.setattr("vlj_edge.runtime.library.Store", None)
    assert "text.mp4" in error_of(run_here("search", "--similar", f"{tmp_path / 'text.mp4'}@1", *store))
