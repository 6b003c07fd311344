"""Outputs are written whole or not at all, and pipes and devices stay what they are."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, run_here, vlj_edge
from tests.cli.conftest import write_video
from tests.runtime.films import pictures
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge.cli.outputs import results_file
from vlj_edge.errors import SourceBrokeOff, VljEdgeError

# --- whole or not at all


FILES = {
    "srt": ("narrate", "--srt"),
    "vtt": ("narrate", "--vtt"),
    "record": ("narrate", "--record"),
    "json": ("embed", "--out"),
    "npz": ("embed", "--format", "npz", "--out"),
    "html": ("profile", "--html"),
    "trace": ("profile", "--trace"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", [(RED, 3), (BLUE, 3)])


def call(kind: str, clip: Path, bundle: Path, path: Path | str) -> list[str]:
    if kind == "labels":
        return ["labels", "a red screen,a blue screen", "--bundle", str(bundle), "--out", str(path)]
    name, *options = FILES[kind]
    source = [str(bundle), str(clip)] if name == "profile" else [str(clip), "--bundle", str(bundle)]
    return [name, *source, *options, str(path)]


KINDS = [*FILES, "labels"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_replaced_keeps_its_permissions_and_a_link_stays_one(
    kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    path, link = tmp_path / "real.mp4", tmp_path / "link.mp4"
    path.write_bytes(b"before")
    path.chmod(0o640)
    link.symlink_to("real.mp4")
    assert run_here(*call(kind, clip, tiny_bundle, link)).returncode == 0
    assert path.read_bytes() != b"before" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.mp4", "real.mp4"] and link.is_symlink()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_there_stays_when_the_disk_is_full(kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails in the same calls as a full disk."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")
    with smallest_files():
        done = subprocess.run([*COMMAND, *call(kind, clip, tiny_bundle, path)], capture_output=True, text=True)
    assert done.returncode == 1 and "out.mp4" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["out.mp4"]


@contextmanager
def smallest_files() -> Iterator[None]:
    """Let files that are written from now on, here and in child processes, have 40 bytes at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_there_stays_when_the_source_cannot_be_read(kind: str, tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")
    source = tmp_path / "none.avi"
    source.write_bytes(b"no video")
    arguments = call(kind, source, tiny_bundle, path)
    if kind == "labels":
        arguments[1] = "a red screen,a red screen"
    assert run_here(*arguments).returncode == (2 if kind == "labels" else 1)
    assert path.read_bytes() == b"before" and sorted(os.listdir(tmp_path)) == ["none.avi", "out.mp4"]


@pytest.mark.parametrize("kind", ["srt", "vtt", "json", "npz"])
def test_what_could_be_read_of_a_damaged_video_is_there(
    kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.avi"
    half.write_bytes(clip.read_bytes()[: clip.stat().st_size * 3 // 4])
    done = run_here(*call(kind, half, tiny_bundle, tmp_path / "out"))
    assert done.returncode == 1 and (tmp_path / "out").stat().st_size > 40


@pytest.mark.parametrize("live", [True, False])
def test_what_a_live_source_gives_is_seen_at_once(live: bool, tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("before")
    with results_file(path, live) as stream:
        stream.write("caf\u00e9 \udcff\n")
        stream.flush()
        assert path.read_text("utf-8") == ("caf\u00e9 \\udcff\n" if live else "before")
    assert path.read_text("utf-8") == "caf\u00e9 \\udcff\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SourceBrokeOff("it broke off"), VljEdgeError("it failed")])
def test_what_was_found_until_ctrl_c_or_a_damage_stays(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("before")
    with pytest.raises(type(error)), results_file(path, live=False) as stream:
        stream.write("found")
        raise error
    assert path.read_text() == ("before" if type(error) is VljEdgeError else "found")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_gets_all_of_it(kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    done = run_here(*call(kind, clip, tiny_bundle, pipe))
    reader.join()
    assert done.returncode == 0, done.stderr
    assert len(read[0]) > 40 and stat.S_ISFIFO(pipe.stat().st_mode) and os.listdir(tmp_path) == ["pipe"]
    if kind == "record":
        (tmp_path / "film.mp4").write_bytes(read[0])
        assert len(pictures(tmp_path / "film.mp4")) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_devices_stay_devices(kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    for path in ("/dev/null", null):
        assert run_here(*call(kind, clip, tiny_bundle, path)).returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and null.is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout_by_its_name_goes_where_stdout_goes(name: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    done = vlj_edge(*call("vtt", clip, tiny_bundle, name))
    assert done.returncode == 0 and done.stdout.count("WEBVTT") == 1 and done.stdout.count(" --> ") == 2
    path = tmp_path / "redirected"
    path.write_text("what was there\n")
    with path.open("a") as file:
        subprocess.run(
            [*COMMAND, *call("vtt", clip, tiny_bundle, name)], stdout=file, check=True, stderr=subprocess.PIPE
        )
    assert path.read_text().startswith("what was there\n") and path.read_text().count("WEBVTT") == 1


def test_a_file_that_may_not_be_written_to_is_not_replaced(clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write to everything")
    path = tmp_path / "out"
    path.write_bytes(b"before")
    path.chmod(0o444)
    done = run_here(*call("json", clip, tiny_bundle, path))
    assert done.returncode == 2 and "out" in done.stderr and path.read_bytes() == b"before"
