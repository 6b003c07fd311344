"""File sinks: files stay readable if the process is killed or the disk is full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks.files import JsonLinesFile

from .events import event, file_size_limit


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_are_there_at_once_and_appended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesFile(path)
    sink.write(event(1, "Tür\nzu"))
    assert json.loads(path.read_text(encoding="utf-8")) == event(1, "Tür\nzu").as_dict()
    sink.close()
    sink.close()
    again = JsonLinesFile(path)
    again.write(event(2))
    again.close()
    assert numbers(path) == [1, 2]


def test_one_write_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonLinesFile(tmp_path / "events.jsonl")
    real, written = os.write, []
    monkeypatch.setattr(os, "write", lambda file, data: written.append(bytes(data)) or real(file, data))
    sink.write(event(1, "x" * 100_000))
    monkeypatch.undo()
    sink.close()
    assert len(written) == 1 and written[0].endswith(b"\n")


def test_an_incomplete_last_line_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"number": 1}\n{"num', encoding="utf-8")
    sink = JsonLinesFile(path)
    sink.write(event(2))
    sink.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ['{"number": 1}', '{"num'] and json.loads(lines[2])["number"] == 2 and len(lines) == 3


@pytest.mark.parametrize("way", ["moved", "deleted", "replaced"])
def test_a_file_that_was_moved_away_is_written_anew(tmp_path: Path, way: str) -> None:
    path, moved = tmp_path / "events.jsonl", tmp_path / "old.jsonl"
    sink = JsonLinesFile(path)
    sink.write(event(1))
    path.rename(moved)
    if way == "deleted":
        moved.unlink()
    elif way == "replaced":
        path.write_text("")
    for number in (2, 3):
        sink.write(event(number))
    sink.close()
    assert numbers(path) == [2, 3]
    assert way == "deleted" or numbers(moved) == [1]


def test_a_file_that_was_copied_and_emptied_goes_on(tmp_path: Path) -> None:
    path, copy = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    sink = JsonLinesFile(path)
    sink.write(event(1))
    shutil.copy(path, copy)
    os.truncate(path, 0)
    sink.write(event(2))
    sink.close()
    assert numbers(copy) == [1] and numbers(path) == [2], "no zeros before it"


@pytest.mark.parametrize(
    "least", [20_000, *(pytest.param(n, marks=pytest.mark.slow) for n in range(35_000, 260_000, 15_000))]
)
def test_a_killed_writer_leaves_whole_lines(tmp_path: Path, least: int) -> None:
    path = tmp_path / "events.jsonl"
    writer = (
        "import itertools, sys\n"
        "from vlj_edge.results import Narration\n"
        "from vlj_edge.runtime.sinks.base import Event\n"
        "from vlj_edge.runtime.sinks.files import JsonLinesFile\n"
        "sink = JsonLinesFile(sys.argv[1])\n"
        "for n in itertools.count():\n"
        "    sink.write(Event('door', Narration(n, n + 1, 'x' * 3000, 'decoder'), 1.7e9, n))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", writer, str(path)])
    end = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size > least):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = path.read_bytes()
    whole = before[: before.rfind(b"\n") + 1].splitlines()
    assert [json.loads(line)["number"] for line in whole] == list(range(len(whole)))
    sink = JsonLinesFile(path)
    sink.write(event(-1))
    sink.close()
    assert json.loads(path.read_bytes().splitlines()[-1])["number"] == -1


def test_rotation_keeps_a_number_of_files_and_splits_no_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    most = 3 * (len(json.dumps(event(10).as_dict())) + 1)
    sink = JsonLinesFile(path, most_bytes=most, keep=2)
    for number in range(10, 21):
        sink.write(event(number, centre=10.0))
    sink.close()
    assert numbers(path) == [19, 20]
    assert numbers(tmp_path / "events.jsonl.1") == [16, 17, 18]
    assert numbers(tmp_path / "events.jsonl.2") == [13, 14, 15]
    assert len(list(tmp_path.iterdir())) == 3


def test_rotation_counts_what_was_there_and_may_keep_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("{}\n" * 100, encoding="utf-8")
    sink = JsonLinesFile(path, most_bytes=150, keep=0)
    sink.write(event(1))
    sink.close()
    assert numbers(path) == [1] and list(tmp_path.iterdir()) == [path]


def test_rotation_goes_on_after_one_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    (tmp_path / "events.jsonl.2").write_text("{}\n", encoding="utf-8")  # killed before path became path.1
    sink = JsonLinesFile(path, most_bytes=1, keep=3)
    sink.write(event(1))
    sink.write(event(2))
    sink.close()
    assert numbers(path) == [2] and numbers(tmp_path / "events.jsonl.1") == [1]
    assert (tmp_path / "events.jsonl.3").read_text(encoding="utf-8") == "{}\n"


def test_what_is_no_file_is_written_to_and_never_renamed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "log"
    link.symlink_to("/dev/stdout")
    sink = JsonLinesFile(link, most_bytes=10)
    for number in range(3):
        sink.write(event(number))
    sink.close()
    assert [json.loads(line)["number"] for line in capfd.readouterr().out.splitlines()] == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [link] and link.is_symlink()


def test_a_full_disk_is_an_error_until_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")
    sink = JsonLinesFile(path)
    with pytest.raises(VljEdgeError, match=r"events\.jsonl.*No space left on device.*free space"):
        sink.write(event(1))
    path.unlink()
    sink.write(event(2))
    sink.close()
    assert numbers(path) == [2]


def test_no_part_of_a_line_that_does_not_fit_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesFile(path)
    sink.write(event(1))
    with file_size_limit(path.stat().st_size + 20), pytest.raises(VljEdgeError, match="free space"):
        sink.write(event(2))
    assert numbers(path) == [1]
    sink.write(event(2))
    sink.close()
    assert numbers(path) == [1, 2]


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match=r"nowhere.*No such file or directory"):
        JsonLinesFile(tmp_path / "nowhere" / "events")
