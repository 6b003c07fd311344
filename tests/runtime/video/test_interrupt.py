"""interrupt() and close() of every kind of source, at any time, from any thread, leaving nothing behind."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlj_edge import VljEdgeError
from vlj_edge.runtime.sinks.video import AnnotatedVideoWriter, RecordedSource
from vlj_edge.runtime.video.cameras import reader_process
from vlj_edge.runtime.video.cameras.opencv import import_opencv
from vlj_edge.runtime.video.cameras.shared_frames import SharedFrames
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.recordings.image_files import ImageFiles
from vlj_edge.runtime.video.recordings.stdin import PipeOptions, open_pipe
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.video.synthetic import SyntheticSource

from .fake_camera import fake_camera

CALL_SECONDS = 10.0  # interrupt() and close() return within one, but the machine may be busy
EXAMPLES = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])

ORDERS: tuple[tuple[str, ...], ...] = (
    ("interrupt", "join", "close"),
    ("close", "join"),
    ("close", "close", "interrupt", "join"),
    ("interrupt", "interrupt", "close", "join", "close"),
)


def resources() -> tuple[int, set[str], set[threading.Thread]]:
    """Number of file descriptors, child processes and threads of this process."""
    gc.collect()
    children = {child for task in Path("/proc/self/task").glob("*/children") for child in task.read_text().split()}
    return len(os.listdir("/proc/self/fd")), children, set(threading.enumerate())


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    import_opencv()  # what it opens for itself is none of the source's
    before = resources()
    yield
    after = resources()
    assert after[0] <= before[0] and after[1] <= before[1] and after[2] <= before[2]


def end(source: Source, thread: threading.Thread, order: tuple[str, ...]) -> None:
    for name in order:
        if name == "join":
            thread.join(120)
            assert not thread.is_alive(), f"still reading after {order[0]}()"
            continue
        started = time.monotonic()
        getattr(source, name)()
        assert time.monotonic() - started < CALL_SECONDS


def read_in_thread(source: Source) -> tuple[threading.Thread, list[BaseException]]:
    """Iterate over all frames with their images, in another thread."""
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for frame in source:
                assert frame.image.ndim == 3
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, errors


@EXAMPLES
@given(
    program=st.sampled_from(
        ["frames(10**6)", "time.sleep(600)", "frames(2)", "frames(3); time.sleep(600)", "os._exit(1)"]
    ),
    delay=st.floats(0, 0.6),
    order=st.sampled_from(ORDERS),
    keep_trying=st.booleans(),
)
def test_a_camera_is_closed_at_any_moment(
    program: str, delay: float, order: tuple[str, ...], keep_trying: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keep_trying |= not program.startswith("frames")
        source = fake_camera(Path(folder), program, keep_trying=keep_trying)
        thread, errors = read_in_thread(source)
        time.sleep(delay)
        end(source, thread, order)
        assert not errors and source.state == "ended"


@EXAMPLES
@given(delay=st.floats(0, 0.1), order=st.sampled_from(ORDERS))
def test_a_video_file_is_closed_at_any_moment(
    make_video: Callable[..., Path], delay: float, order: tuple[str, ...]
) -> None:
    source = VideoFile(make_video([((0, 0, 255), 20)]))
    thread, errors = read_in_thread(source)
    time.sleep(delay)
    end(source, thread, order)
    assert source.incomplete is None
    assert not errors


class HangingBytes:
    """The bytes of a file, the second half of which never comes, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.data, self.position = path.read_bytes(), 0
        self.hangs, self.closed = threading.Event(), threading.Event()

    def read(self, count: int) -> bytes:
        if self.position > len(self.data) // 2:
            self.hangs.set()
            assert self.closed.wait(60)
            return b""
        found = self.data[self.position : self.position + count]
        self.position += len(found)
        return found

    def close(self) -> None:
        self.closed.set()


def test_a_video_whose_read_hangs(make_video: Callable[..., Path]) -> None:
    data = HangingBytes(make_video([((0, 0, 255), 600)], name="video.avi"))
    source = VideoFile(data, "slow.avi")
    thread, errors = read_in_thread(source)
    assert data.hangs.wait(120)
    end(source, thread, ("interrupt", "join", "close", "close"))
    assert source.incomplete is None
    assert not errors


@EXAMPLES
@given(delay=st.floats(0, 0.2), order=st.sampled_from(ORDERS), raw=st.booleans())
def test_stdin_is_closed_while_nothing_comes(delay: float, order: tuple[str, ...], raw: bool) -> None:
    readable, writable = os.pipe()
    try:
        image = np.zeros((48, 64, 3), np.uint8)
        jpeg = import_opencv().imencode(".jpg", image)[1].tobytes()
        os.write(writable, image.tobytes() if raw else jpeg + jpeg[:40])
        source = open_pipe(PipeOptions((64, 48) if raw else None, live=True), Part(), None, readable)
        thread, errors = read_in_thread(source)
        time.sleep(delay)
        end(source, thread, order)
        assert not errors and source.bad == 0
        os.fstat(readable)  # it is not the source's to close
    finally:
        os.close(readable)
        os.close(writable)


def test_an_interrupted_source_gives_no_more_frames(make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    import_opencv().imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
    video = AnnotatedVideoWriter(tmp_path / "out.mp4", 1 / 30)
    for source in (
        SyntheticSource(),
        ImageFiles([path] * 99),
        VideoFile(make_video([((0, 0, 255), 2)])),
        fake_camera(tmp_path, "frames(10**6)"),
        RecordedSource(SyntheticSource(), video),
    ):
        with source:
            frames = iter(source)
            assert len(list(islice(frames, 2))) == 2
            source.interrupt()
            assert not list(frames) and source.incomplete is None
            source.interrupt()
    video.close()


def test_a_camera_is_closed_while_its_iterator_waits_to_be_asked(tmp_path: Path) -> None:
    source = fake_camera(tmp_path, "frames(10**6)")
    frames = iter(source)
    next(frames)
    before = resources()
    source.close()
    after = resources()
    assert len(after[1]) == len(before[1]) - 1 and after[0] < before[0]
    assert not list(frames)


def test_a_camera_that_is_never_closed_goes_with_its_last_reference(tmp_path: Path) -> None:
    for read in (0, 2):
        source = fake_camera(tmp_path, "frames(10**6)")
        list(islice(source, read))
        del source  # the fixture looks at what is left


def test_a_camera_that_cannot_be_opened_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise OSError("too many open files")

    with pytest.raises(VljEdgeError, match="camera X"):
        fake_camera(tmp_path, "None")
    with pytest.raises(VljEdgeError, match="camera X"):
        fake_camera(tmp_path, "time.sleep(600)", opening=0.3)
    targets: list[tuple[Any, str]] = [
        (SharedFrames, "__init__"),
        (subprocess, "Popen"),
        (os, "pipe"),
        (reader_process, "create_shared_memory"),
        (json, "dumps"),
        (reader_process.ReaderProcess, "next"),
    ]
    for target, name in targets:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="too many open files"):
            patch.setattr(target, name, fail)
            fake_camera(tmp_path, "frames(10**6)")
