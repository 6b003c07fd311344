"""Runs close from any thread within a second and leave nothing behind; a Model may be shared by threads."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge import VljEdgeError, bundle
from vlj_edge.results import Narration, WindowReport
from vlj_edge.runtime.gating.clip_window import ClipWindow
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.stream.run import Run
from vlj_edge.runtime.video.source import Frame, Source

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"
PROMPT = 20.0  # seconds; closing takes less than one, and a busy machine may take its time
COLOURS = (RED, BLUE, GREEN)


class Colours(Source):
    """A colour a second, 4 frames a second, `pause` seconds of real time apart; `fail` is raised at frame `fail_at`."""

    period = 0.25

    def __init__(
        self, seconds: int = 100_000, pause: float = 0.0, live: bool = False, fail_at: int = -1, colours: Any = COLOURS
    ) -> None:
        self.live, self._seconds, self._pause, self._fail_at, self._colours = live, seconds, pause, fail_at, colours
        self._stop = threading.Event()
        self.closed = 0
        self.reading: threading.Thread | None = None

    def frames(self) -> Iterator[Frame]:
        self.reading = threading.current_thread()
        for number in range(4 * self._seconds):
            if number == self._fail_at:
                raise RuntimeError("the camera burns")
            if self._pause and self._stop.wait(self._pause):
                return
            yield Frame(number / 4, np.full((20, 30, 3), self._colours[number // 4 % len(self._colours)], np.uint8))

    def interrupt(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self.closed += 1


class Blocked(Colours):
    """Gives `count` frames and then blocks in read until it is closed."""

    def __init__(self, count: int = 8) -> None:
        super().__init__()
        self._count, self.released = count, threading.Event()

    def frames(self) -> Iterator[Frame]:
        for number, frame in enumerate(super().frames()):
            if number == self._count:
                self.released.wait(60)
            yield frame

    def close(self) -> None:
        super().close()
        self.released.set()


@pytest.fixture
def model(tiny_bundle: Path) -> Model:
    return vlj_edge.load(tiny_bundle)


@pytest.fixture
def nano() -> Iterator[Model]:
    with vlj_edge.load() as model:
        yield model


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("vlj-edge")]


def nothing_runs() -> None:
    assert not workers()


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.002)


def start(model: Model, call: str, source: Source) -> Run[Any]:
    if call == "ask":
        return model.ask(source, ["what colour", "what is shown"])
    return getattr(model, call)(source, every_window=True)  # type: ignore[no-any-return]


def first(count: int, run: Run[Any]) -> list[Any]:
    with run:
        return list(islice(run, count))


CALLS = ("narrate", "embed", "ask")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("live", [False, True])
def test_break_ends_the_run(model: Model, call: str, live: bool) -> None:
    source = Colours(live=live, pause=0.001)
    for _ in start(model, call, source):
        break
    nothing_runs()
    assert source.closed


@pytest.mark.parametrize("call", CALLS)
def test_leaving_with_ends_the_run_and_totals_stay(model: Model, call: str) -> None:
    source = Colours()
    with start(model, call, source) as run:
        next(run)
    nothing_runs()
    assert source.closed and run.totals.windows >= 1
    assert list(run) == []
    run.close()  # again is nothing


def test_a_run_that_never_began_is_closed_too(model: Model) -> None:
    source = Colours()
    model.narrate(source)
    gc.collect()
    assert source.closed


def test_a_run_in_a_cycle_is_closed_by_the_garbage_collector(model: Model) -> None:
    source = Colours(pause=0.001)
    holder: dict[str, Any] = {"run": model.embed(source, every_window=True)}
    holder["self"] = holder
    next(holder["run"])
    del holder
    gc.collect()
    nothing_runs()
    assert source.closed


def test_after_a_break_the_next_video_is_embedded_right(nano: Model) -> None:
    expected = [item.embedding for item in first(24, nano.embed(DEMO, every_window=True))]
    for _ in nano.narrate(DEMO, every_window=True):
        break
    again = [item.embedding for item in first(24, nano.embed(DEMO, every_window=True))]
    np.testing.assert_array_equal(again, expected)
    nothing_runs()


@settings(max_examples=25)
@given(
    call=st.sampled_from(CALLS),
    delay=st.floats(0, 0.05),
    pause=st.sampled_from([0.0, 0.001, 0.02]),
    live=st.booleans(),
)
def test_closing_from_another_thread_at_any_moment(
    tiny_bundle: Path, call: str, delay: float, pause: float, live: bool
) -> None:
    model = Model(tiny_bundle)
    source = Colours(pause=pause, live=live)
    run = start(model, call, source)
    closer = threading.Timer(delay, run.close)
    closer.start()
    items = list(run)  # ends although the source never does
    closer.join(PROMPT)
    assert not closer.is_alive()
    nothing_runs()
    assert source.closed and len(items) <= run.totals.windows
    fresh = next(model.embed(Colours(colours=(BLUE,)), every_window=True))
    np.testing.assert_allclose(fresh.embedding, by_hand.embedding_of(BLUE), atol=1e-6)


@pytest.mark.parametrize("call", CALLS)
def test_a_read_that_blocks_does_not_hold_up_closing(model: Model, call: str) -> None:
    source = Blocked()
    run = start(model, call, source)
    next(run)
    wait_for(lambda: source.reading is not None)
    started = time.monotonic()
    run.close()
    assert time.monotonic() - started < PROMPT
    assert source.closed
    wait_for(lambda: not workers())


def test_a_read_that_never_returns_is_left_alone_and_changes_nothing(model: Model) -> None:
    release = threading.Event()

    class Stuck(Blocked):
        def frames(self) -> Iterator[Frame]:
            yield from Colours(seconds=2, colours=(RED,)).frames()
            release.wait(60)
            yield Frame(2.0, np.full((20, 30, 3), RED, np.uint8))

    run = model.embed(Stuck(), every_window=True)
    next(run)
    started = time.monotonic()
    run.close()
    assert time.monotonic() - started < PROMPT
    try:
        items = list(model.embed(Colours(seconds=4, colours=(BLUE,)), every_window=True))
        for item in items:
            np.testing.assert_allclose(item.embedding, by_hand.embedding_of(BLUE), atol=1e-6)
    finally:
        release.set()
    wait_for(lambda: not workers())


@pytest.mark.parametrize("call", CALLS)
def test_a_source_that_fails_in_mid_stream_ends_everything(model: Model, call: str) -> None:
    source = Colours(fail_at=30)
    run = start(model, call, source)
    items = []
    with pytest.raises(RuntimeError, match="the camera burns"):
        for item in run:
            items.append(item)
    assert items and source.closed
    nothing_runs()


def test_ctrl_c_on_a_still_live_picture_is_prompt(model: Model) -> None:
    """A picture that never changes: the caller waits for a change that never comes."""
    source = Colours(pause=0.02, live=True, colours=(RED,))
    run = model.narrate(source, gates=replace(model.manifest.gates, rest=bundle.RestSettings(enabled=False)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    struck: list[float] = []

    def strike() -> None:
        struck.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    timer = threading.Timer(1.0, strike)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run)
        took = time.monotonic() - struck[0]
    finally:
        signal.signal(signal.SIGINT, before)
        timer.cancel()
        timer.join()
    assert took < PROMPT
    nothing_runs()
    assert source.closed


def test_closing_the_model_closes_its_runs_and_ends_its_use(tiny_bundle: Path) -> None:
    source = Colours(pause=0.001)
    with vlj_edge.load(tiny_bundle) as model:
        run = model.narrate(source, every_window=True)
        next(run)
    nothing_runs()
    assert source.closed and list(run) == []
    for call in (lambda: model.narrate(Colours()), lambda: model.embed_text("red"), lambda: model.embed(Colours())):
        with pytest.raises(VljEdgeError, match=r"vlj_edge\.load"):
            call()
    model.close()


def test_what_fails_at_the_call_leaves_no_source_open(tiny_bundle: Path, tmp_path: Path) -> None:
    model = Model(by_hand.build(tmp_path / "b"))
    (tmp_path / "b" / "decoder.onnx").write_bytes(b"damaged")
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(VljEdgeError, match=r"decoder\.onnx"):
            model.narrate(DEMO)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= open_before + 1
    nothing_runs()


def test_a_process_that_ends_in_mid_run_ends_quietly(tiny_bundle: Path) -> None:
    program = (
        "import sys, vlj_edge\n"
        "runs = []\n"
        f"model = vlj_edge.load({str(tiny_bundle)!r})\n"
        "for _ in range(3):\n"
        f"    runs.append(model.narrate({str(DEMO)!r}, every_window=True))\n"
        "    next(runs[-1])\n"
        "print('said')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "said\n", "")


# One Model, several threads


def test_two_threads_get_what_each_would_get_alone(nano: Model) -> None:
    calls: list[Callable[[], list[Any]]] = [
        lambda: [item.embedding for item in first(40, nano.embed(DEMO, every_window=True))],
        lambda: [(n.start, n.text) for n in first(20, nano.narrate(DEMO, every_window=True))],
        lambda: [nano.embed_text("the robot arm opens the drawer")] * 2,
    ]
    alone = [call() for call in calls]
    found: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        found[number] = calls[number % 3]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    for number in range(4):
        assert len(found[number]) == len(alone[number % 3])
        for ours, expected in zip(found[number], alone[number % 3], strict=True):
            np.testing.assert_array_equal(ours, expected)
    nothing_runs()


def test_many_threads_share_a_model(model: Model) -> None:
    def texts(colour: tuple[int, int, int]) -> list[str]:
        narrations: Run[Narration] = model.narrate(Colours(seconds=6, colours=(colour,)), every_window=True)
        return [narration.text for narration in narrations]

    alone = {colour: texts(colour) for colour in COLOURS}
    failures: list[tuple[Any, list[str]]] = []

    def work(colour: tuple[int, int, int]) -> None:
        for _ in range(3):
            if (said := texts(colour)) != alone[colour]:
                failures.append((colour, said))

    threads = [threading.Thread(target=work, args=(colour,)) for colour in COLOURS * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    nothing_runs()


# What is held in memory


def test_a_change_that_may_not_be_said_for_an_hour_holds_no_pictures(tiny_bundle: Path) -> None:
    model = Model(tiny_bundle)
    gates = model.manifest.gates
    gates = replace(
        gates,
        meaning=replace(gates.meaning, least_hold=3600.0, settle=0.0),
        scene=replace(gates.scene, enabled=False),
    )

    alive: list[int] = []

    def count(report: WindowReport) -> None:
        if report.window.index % 50 == 49:
            alive.append(sum(isinstance(each, ClipWindow) for each in gc.get_objects()))

    run = model.narrate(Colours(seconds=300), gates=gates, watch=count)
    list(run)
    most = gates.meaning.smoothing * 3 + max(gates.meaning.smoothing, gates.meaning.calm_windows) + 1
    assert alive and max(alive) <= most, "the latest, two older ones, and those that they are averaged with"


def test_a_report_carries_its_own_windows_embedding(model: Model) -> None:
    gates = model.manifest.gates
    gates = replace(
        gates,
        meaning=replace(gates.meaning, calm_windows=4, settle=1.0, smoothing=1),
        scene=replace(gates.scene, enabled=False),
        rest=replace(gates.rest, enabled=False),
    )
    exact = {item.window.index: item.embedding for item in model.embed(Colours(seconds=30), every_window=True)}
    reports: list[WindowReport] = []
    list(model.narrate(Colours(seconds=30), gates=gates, watch=reports.append))
    assert sum(report.embedding is not None for report in reports) > 10
    for report in reports:
        if report.embedding is not None:
            np.testing.assert_array_equal(report.embedding, exact[report.window.index])
        assert report.cosine is None or report.embedding is not None


def test_a_live_source_leaves_nothing_in_a_queue(model: Model) -> None:
    def grown(seconds: int) -> int:
        gc.collect()
        before = tracemalloc.take_snapshot()
        source = Colours(seconds=seconds, live=True, colours=(RED,))
        run = model.embed(source)
        for _ in run:
            pass
        after = tracemalloc.take_snapshot()
        del before
        return sum(stat.size for stat in after.statistics("filename") if "stream" in stat.traceback[0].filename)

    tracemalloc.start()
    try:
        grown(50)
        short, long = grown(50), grown(800)
    finally:
        tracemalloc.stop()
    assert long - short < 20_000, "1,500 windows later"


def test_an_engine_that_computes_is_interrupted(model: Model) -> None:
    vision = model.chain.vision
    interrupted, real = threading.Event(), vision.encoder.run

    def run() -> None:
        assert interrupted.wait(60), "nobody interrupted it"
        raise VljEdgeError("terminated")

    vision.encoder.run, vision.encoder.interrupt = run, interrupted.set  # type: ignore[method-assign]
    for live in (False, True):
        interrupted.clear()
        embedded = model.embed(Colours(live=live, pause=0.001))
        timer = threading.Timer(0.2, embedded.close)
        timer.start()
        assert list(embedded) == []
        timer.join(PROMPT)
        assert interrupted.is_set()
        nothing_runs()
    vision.encoder.run = real  # type: ignore[method-assign]
    assert next(model.embed(Colours(colours=(RED,)))).encoded


def test_onnx_runtime_ends_a_run_that_is_interrupted(nano: Model) -> None:
    encoder = nano.chain.vision.encoder
    encoder.run()
    ended: list[str] = []

    def work() -> None:
        try:
            for _ in range(500):
                encoder.run()
            ended.append("it was never interrupted")
        except VljEdgeError as error:
            ended.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        encoder.interrupt()
        time.sleep(0.001)
    thread.join()
    assert "terminate" in ended[0]
    encoder.run()
