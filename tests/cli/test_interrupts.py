"""Ctrl-C and SIGTERM end a command with exit code 130 and without a traceback, whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cli.command import Done, python, start
from vlj_edge.cli.interrupts import install_handlers, interrupts_deferred

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_INTERRUPTED_IMPORT = """
import os, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Interrupting())
from vlj_edge.cli import main
main()
"""

_COMMAND = """
import os, signal, time
from vlj_edge.cli import group, main
from vlj_edge.cli.interrupts import interrupts_deferred

def hang():
    started = False
    while True:
        try:
            started = started or print("started", flush=True) is None
            time.sleep(60)
        except KeyboardInterrupt:
            pass

class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

@group.cli.command()
def command():
    {body}

main(["command"])
"""

pytestmark = pytest.mark.signals


def command(body: str) -> list[str]:
    return [sys.executable, "-c", _COMMAND.format(body=body)]


@pytest.fixture
def handlers() -> Iterator[None]:
    before, hook = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook
    install_handlers()
    yield
    install_handlers()  # forgets the signals that came
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_deferring_block_runs_to_its_end(number: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        os.kill(os.getpid(), number)
        done.append("first")
        with interrupts_deferred():
            done.append("inner")
        done.append("last")
    assert done == ["first", "inner", "last"]
    with interrupts_deferred():
        done.append("not interrupted again")


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_elsewhere_it_interrupts_at_once(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
        pytest.fail("the signal did not interrupt")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", ["vlj_edge.cli.group", "click", "vlj_edge.cli.verify", "vlj_edge.bundle", "numpy"])
def test_an_import_is_interrupted_without_a_traceback(module: str, number: int) -> None:
    done: Done = python(_INTERRUPTED_IMPORT.format(module=module, number=int(number)), "labels", "x", "--out", "x.npz")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


@pytest.mark.parametrize("body", ["hang()", "with interrupts_deferred(): hang()"], ids=["anywhere", "deferred"])
def test_a_command_that_hangs_is_ended_by_further_signals(body: str) -> None:
    running = start(command=command(body))
    try:
        assert running.stdout is not None and running.stdout.readline() == "started\n"
        for _ in range(10):  # three are enough, but two that come before the process is run are one
            running.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                running.wait(timeout=1)
                break
        assert running.wait(timeout=60) == 130
        assert running.stderr is not None and running.stderr.read().strip() == ""
    finally:
        running.kill()
        running.communicate()


def test_an_interruption_that_python_ignores_comes_again() -> None:
    done = subprocess.run(command("Interrupted(); time.sleep(60)"), capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr.strip()) == (130, "")
