"""Runs whose source or engine does not do as it should are closed all the same, and end quietly."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vlj_edge
import vlj_edge.runtime.chain as chain_module
from tests.runtime.lifetimes import (
    PROMPT,
    Blocked,
    Colours,
    nothing_runs,
    workers,
)
from tests.runtime.tiny_bundle import RED
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.runtime.model import Model


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


class Unruly(Colours):
    """A source that breaks its promises: its interrupt() or close() raises or takes long."""

    def __init__(self, interrupt: Callable[[], None], close: Callable[[], None]) -> None:
        super().__init__(pause=0.001)
        self._on_interrupt, self._on_close = interrupt, close

    def interrupt(self) -> None:
        super().interrupt()
        self._on_interrupt()

    def close(self) -> None:
        super().close()
        self._on_close()


def burn() -> None:
    raise RuntimeError("the camera burns")


def test_a_source_whose_interrupt_raises_is_closed_all_the_same(model: Model) -> None:
    source = Unruly(burn, lambda: None)
    run = model.embed(source)
    next(run)
    with pytest.raises(RuntimeError, match="burns"):
        run.close()
    assert source.closed == 1
    run.close()
    nothing_runs()


def test_a_source_that_takes_long_to_close_holds_nobody_up(model: Model) -> None:
    release = threading.Event()
    runs = [model.embed(Unruly(lambda: None, lambda: release.wait(60) and None)) for _ in range(5)]
    for run in runs:
        next(run)
    started = time.monotonic()
    model.close()
    took = time.monotonic() - started
    release.set()
    assert took < PROMPT
    wait_for(lambda: not workers())


@pytest.mark.signals
def test_ctrl_c_while_closing_does_not_keep_the_source_open(model: Model) -> None:
    source = Blocked()
    run = model.embed(source, every_window=True)
    next(run)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def strike() -> None:
        wait_for(lambda: run._closer is not None)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    striker = threading.Thread(target=strike)
    try:
        with pytest.raises(KeyboardInterrupt):
            striker.start()
            run.close()
            wait_for(lambda: False)
    finally:
        signal.signal(signal.SIGINT, before)
        striker.join()
    wait_for(lambda: source.closed and not workers())


def test_a_run_is_not_advanced_from_inside_itself(model: Model) -> None:
    errors: list[VljEdgeError] = []

    def watch(report: object) -> None:
        try:
            next(run)
        except VljEdgeError as error:
            errors.append(error)

    for overlap in (True, False):
        model.overlap = overlap
        run = model.narrate(Colours(seconds=4), watch=watch)
        list(run)
    assert len(errors) > 4 and "watch" in str(errors[0])


def test_a_model_that_is_closed_while_it_loads_stays_closed(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading, go_on = threading.Event(), threading.Event()
    real = chain_module.open_engine

    def slow(*arguments: Any, **options: Any) -> Any:
        loading.set()
        go_on.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr(chain_module, "open_engine", slow)
    model, errors = vlj_edge.load(tiny_bundle), list[VljEdgeError]()

    def work() -> None:
        try:
            model.embed_text("red")
        except VljEdgeError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    loading.wait(60)
    model.close()
    go_on.set()
    thread.join(60)
    assert len(errors) == 1
    with pytest.raises(VljEdgeError, match="closed"):
        model.embed_text("red")


def test_a_daemon_thread_inside_an_engine_does_not_abort_the_process(tiny_bundle: Path) -> None:
    program = (
        "import sys, threading, time, vlj_edge\n"
        "model = vlj_edge.load()\n"
        "model.embed_text('x')\n"
        "begun = threading.Event()\n"
        "def work():\n"
        "    while True:\n"
        "        model.embed_text('x'); begun.set()\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "begun.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "terminate called" not in done.stderr, done
