"""Runs close from any thread within a second and leave nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.lifetimes import (
    CALLS,
    DEMO,
    PROMPT,
    Blocked,
    Colours,
    first,
    nothing_runs,
    start,
    workers,
)
from tests.runtime.tiny_bundle import BLUE, RED
from tests.waiting import wait_for
from vlj_edge import VljEdgeError, bundle
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.source import Frame


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


@pytest.mark.signals
def test_ctrl_c_on_a_still_live_picture_is_prompt(model: Model) -> None:
    """A picture that never changes: the caller waits for a change that never comes."""
    source = Colours(pause=0.02, live=True, colours=(RED,))
    run = model.narrate(source, gates=replace(model.manifest.gates, rest=bundle.RestSettings(enabled=False)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    struck: list[float] = []

    def strike() -> None:
        wait_for(lambda: run.totals.windows > 20)  # long after the first caption, and nothing more will come
        struck.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    striker = threading.Thread(target=strike)
    try:
        with pytest.raises(KeyboardInterrupt):
            striker.start()
            list(run)
        took = time.monotonic() - struck[0]
    finally:
        signal.signal(signal.SIGINT, before)
        striker.join()
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
