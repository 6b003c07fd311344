"""vlj-edge classify, ask and labels."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import PIL.Image
import pytest

from tests.cli.command import after_backend_warning, error_of, run_here, start, vlj_edge
from tests.runtime.tiny_bundle import BLUE, RED


def test_classify_names_the_nearest_labels(video: Path, tiny_bundle: Path) -> None:
    done = vlj_edge("classify", video, "--bundle", tiny_bundle, "--labels", "red,green,blue", "--top", "2")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 2 and done.stderr == ""
    assert float(lines[0].split()[0]) >= float(lines[1].split()[0])


def test_classify_speaks_when_the_answer_changes(video: Path, tiny_bundle: Path) -> None:
    done = run_here("classify", video, "--bundle", tiny_bundle, "--labels", "red,green,blue", "--stream", "--json")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["label"] for line in said] == ["red", "blue", "green"]
    assert [line["start"] for line in said] == sorted(line["start"] for line in said)
    plain = run_here("classify", video, "--bundle", tiny_bundle, "--labels", "red,green,blue", "--stream")
    assert [line.split()[2] for line in plain.stdout.splitlines()] == ["red", "blue", "green"]


def test_a_bank_takes_the_place_of_labels(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    names, bank = tmp_path / "labels.txt", tmp_path / "bank.npz"
    names.write_text("red\ngreen\nblue\n")
    made = run_here("labels", names, "--out", bank, "--bundle", tiny_bundle)
    assert made.returncode == 0 and "3 labels" in made.stdout
    arguments = ("classify", video, "--bundle", tiny_bundle, "--stream")
    banked = run_here(*arguments, "--bank", bank)
    assert banked.returncode == 0
    assert banked.stdout == run_here(*arguments, "--labels", names).stdout
    assert "other weights" in error_of(run_here("classify", video, "--bank", bank))


def test_none_of_these(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ("classify", video, "--bundle", tiny_bundle, "--labels", "red,green", "--none-below", "1")
    first, *guesses = run_here(*arguments).stdout.splitlines()
    [found] = [guess["similarity"] for guess in json.loads(run_here(*arguments, "--json").stdout)["guesses"][:1]]
    share, words = first.split("  ", 1)
    assert words.startswith("none of these") and f"{found:.2f}" in words and "1.00" in words
    assert sorted(line.split()[1] for line in guesses) == ["green", "red"]
    shares = [float(share), *(float(line.split()[0]) for line in guesses)]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=0.02)
    other = tmp_path / "other.avi"
    other.write_bytes(video.read_bytes())
    several = run_here("classify", video, other, *arguments[2:])
    assert [line.split("  ")[1:] for line in several.stdout.splitlines()] == [["none of these", share]] * 2
    streamed = run_here(*arguments, "--stream").stdout.splitlines()
    assert [re.sub(r"0\.\d\d", "N", line.split(" s  ")[1]) for line in streamed] == ["none of these  (N)"]


@pytest.mark.signals
def test_a_source_without_end_is_classified_until_interrupted(tiny_bundle: Path) -> None:
    options = ("--labels", "red,blue", "--bundle", tiny_bundle)
    running = start("classify", *options, "--", "-?size=64x48&rate=4&format=bgr24", stdin=subprocess.PIPE)
    try:
        assert running.stdin is not None
        red = np.full((48, 64, 3), RED, np.uint8).tobytes()
        running.stdin.buffer.write(red * 100)  # far more than pipe and windows ahead hold: some have been looked at
        running.send_signal(signal.SIGINT)
        said, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, after_backend_warning(errors).strip()) == (130, "")
    assert sorted(line.split()[1] for line in said.splitlines()) == ["blue", "red"]


class Camera(threading.Thread):
    """Writes raw pictures of one colour to a stdin until it is stopped, as a camera does."""

    def __init__(self, stdin: IO[str]) -> None:
        super().__init__()
        self.colour, self._stdin, self._stopping = RED, stdin, threading.Event()
        self.start()

    def run(self) -> None:
        with suppress(OSError, ValueError):  # its reader is gone, and the pipe closed
            while not self._stopping.wait(0.02):
                self._stdin.buffer.write(np.full((48, 64, 3), self.colour, np.uint8).tobytes())  # type: ignore[attr-defined]

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@pytest.mark.signals
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("classify", "--labels", "red,blue"), ["blue", "red"]),
        (("classify", "--labels", "red,blue", "--json"), ["red"]),
        (("ask", "--choices", "red,blue"), ["blue", "red"]),
    ],
    ids=" ".join,
)
def test_a_camera_is_answered_while_it_runs(command: tuple[str, ...], words: list[str], tiny_bundle: Path) -> None:
    question = ("describe",) if command[0] == "ask" else ()
    source = "pipe:size=64x48,rate=4,format=bgr24,live=1"
    running = start(*command, "--bundle", tiny_bundle, "--", source, *question, stdin=subprocess.PIPE)
    assert running.stdin is not None and running.stdout is not None
    camera = Camera(running.stdin)
    try:
        first = running.stdout.readline()
        assert "red" in first
        camera.colour = BLUE
        assert "blue" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        said, errors = running.communicate(timeout=60)
    finally:
        camera.stop()
        running.kill()
    assert (running.returncode, after_backend_warning(errors).strip()) == (130, "")
    if "--json" in command:
        *_, whole = [json.loads(line) for line in said.splitlines()]
        change = json.loads(first)
        assert whole["start"] <= change["start"] and whole["end"] > change["end"] and whole["label"] in ("red", "blue")
    else:
        assert sorted(line.split()[1] for line in said.splitlines()[-2:]) == words


@pytest.mark.parametrize(
    "command", [("classify", "--labels", "red,blue"), ("ask", "--choices", "red,blue")], ids=" ".join
)
def test_what_could_be_read_is_answered(command: tuple[str, ...], tiny_bundle: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((Path(__file__).parents[2] / "examples" / "media" / "demo.mp4").read_bytes()[:150_000])
    question = ("describe",) if command[0] == "ask" else ()
    for form in ((), ("--json",)):
        done = run_here(command[0], cut, *question, *command[1:], "--bundle", tiny_bundle, *form)
        assert "cut.mp4 breaks off" in error_of(done)
        assert len(done.stdout.splitlines()) == (1 if form else 2)
    assert 0 < json.loads(done.stdout)["end"] < 30


def test_ask_answers_each_question(video: Path, tiny_bundle: Path) -> None:
    done = run_here(
        *("ask", video, "what colour is it", "describe", "--bundle", tiny_bundle, "--json"),
        *("--choices", "red,blue", "--choices", "green,a yellow screen"),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [len(answer["guesses"]) for answer in answers] == [2, 2]
    assert [answer["question"] for answer in answers] == ["what colour is it", "describe"]
    one = run_here("ask", video, "what colour is it", "--bundle", tiny_bundle, "--choices", "red,green,blue")
    assert len(one.stdout.splitlines()) == 3


def test_calls_that_are_wrong(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("classify", video), "either --labels or --bank"),
        (("classify", video, "--labels", "a", "--bank", "b"), "either --labels or --bank"),
        (("classify", video, "--bank", "b", "--template", "{}"), "--template is for --labels"),
        (("ask", video, "a", "b", "c", "--choices", "x,y", "--choices", "x,y"), "3 questions and 2 --choices"),
        (("ask", video, " ", "--choices", "red,blue"), "is empty"),
    ):
        done = run_here(*arguments)
        assert done.returncode == 2 and message in done.stderr
    for arguments, code, message in (
        (("classify", video, "--labels", " , "), 2, "there are no labels"),
        (("classify", video, "--labels", "a,A"), 2, "is there twice"),
        (("classify", video, "--labels", "red", "--template", "a colour"), 2, "'a colour'"),
        (("ask", video, "what", "--choices", "red"), 2, "two choices"),
        (("ask", video, "what", "--choices", ","), 2, "there are no choices"),
        (("ask", video, "what"), 2, "--choices"),
        (("classify", video, "--labels", "red", "--backend", "abacus"), 2, "abacus"),
        (("classify", tmp_path / "absent.mp4", "--labels", "red"), 1, "does not exist"),
        (("labels", "red", "--out", tmp_path / "no" / "bank.npz"), 1, "cannot be written"),
    ):
        assert message in error_of(run_here(*arguments, "--bundle", tiny_bundle), code)


def test_several_videos_and_photos_are_pointed_at_what_takes_them(
    video: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    films, photos = tmp_path / "films", tmp_path / "photos"
    films.mkdir()
    photos.mkdir()
    (films / "a.avi").symlink_to(video)
    for number, size in enumerate(((64, 48), (48, 64))):
        PIL.Image.new("RGB", size, "red").save(photos / f"{number}.png")
    for command, remedy in ((("embed",), "vlj-edge index"), (("ask", "what", "--choices", "a,b"), "vlj-edge classify")):
        refused = run_here(command[0], films, *command[1:], "--bundle", tiny_bundle)
        assert refused.returncode == 2 and remedy in refused.stderr and refused.stdout == ""
        done = run_here(command[0], photos, *command[1:], "--bundle", tiny_bundle)
        assert done.returncode == 0 and done.stdout and f"{remedy} {photos}/*" in done.stderr
        timed = run_here(command[0], photos, *command[1:], "--bundle", tiny_bundle, "--fps", "2")
        assert timed.returncode == 0 and "sizes" not in timed.stderr
    named = run_here("classify", *photos.iterdir(), "--labels", "red,blue", "--bundle", tiny_bundle)
    assert len(named.stdout.splitlines()) == 2
