"""Each command on good, damaged and no recordings: what could be read comes out, then one line, and the exit code says
which it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Done, after_backend_warning, run_here, vlj_edge
from tests.runtime.video.corpus import Corpus

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

GOOD = [
    "camcorder.mts",
    "trimmed.mp4",
    "mirrored_rotated_90.mp4",
    "av1.mp4",
    "picture_late.mkv",
    "joined.ts",
    "raw.avi",
]
DAMAGED = ["overwritten.mp4", "overwritten.mkv", "cut_at_60_of_h264_aac.mp4", "cut_at_60_of_fragmented.mp4"]
NO_VIDEO = ["page.mp4", "song_with_cover.mp4", "index_lost.mp4"]
COMMANDS = ["narrate", "embed", "classify", "ask", "index"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def command(tiny_bundle: Path, tmp_path: Path) -> Callable[[str, Path], Done]:
    """Run a command on a recording, in this process."""

    def run(name: str, path: Path) -> Done:
        options = {
            "narrate": ("--json", "--every-window"),
            "ask": ("which colour?", "--choices", "red,green", "--json"),
            "classify": ("--labels", "red,green,blue", "--json"),
            "index": ("--store", tmp_path / "store"),
        }
        return run_here(name, path, *options.get(name, ()), "--bundle", tiny_bundle)

    return run


def found(done: Done) -> int:
    """Return the number of results on stdout."""
    return sum("totals" not in json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("verb", COMMANDS)
def test_a_good_recording(corpus: Corpus, command: Callable[[str, Path], Done], verb: str, name: str) -> None:
    done = command(verb, corpus(name))
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr and "damaged" not in done.stderr
    assert verb == "index" or found(done) > 0


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("verb", COMMANDS)
def test_a_damaged_recording(corpus: Corpus, command: Callable[[str, Path], Done], verb: str, name: str) -> None:
    done = command(verb, corpus(name))
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if name in line]
    assert "damaged" in line or "breaks off" in line
    assert verb == "index" or found(done) > 0


@pytest.mark.parametrize("name", NO_VIDEO)
@pytest.mark.parametrize("verb", COMMANDS)
def test_no_recording(corpus: Corpus, command: Callable[[str, Path], Done], verb: str, name: str) -> None:
    done = command(verb, corpus(name))
    assert done.returncode == 1
    assert verb == "index" or not done.stdout
    said = after_backend_warning(done.stderr)
    assert sum(name in line for line in said.splitlines()) == 1 and "Traceback" not in said


@pytest.mark.parametrize("name", NO_VIDEO)
def test_serve_without_a_recording(corpus: Corpus, tiny_bundle: Path, name: str) -> None:
    done = vlj_edge("serve", corpus(name), "--bundle", tiny_bundle, "--port", "0")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert sum(name in line for line in done.stderr.splitlines()) == 1
