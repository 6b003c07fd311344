"""The speech sink with real commands."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.runtime.sinks.events import event
from tests.waiting import wait_for
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.speech import Speech


def speaker(folder: Path, script: str) -> str:
    return f"sh -c {shlex.quote(script)} {shlex.quote(str(folder / 'spoken'))}"


def spoken(folder: Path) -> list[str]:
    path = folder / "spoken"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_the_command_gets_the_text_on_stdin(tmp_path: Path) -> None:
    sink = Speech(f"tee {shlex.quote(str(tmp_path / 'two words'))}")
    sink.write(event(1, "Tür\nzu"))
    sink.close()
    assert (tmp_path / "two words").read_text(encoding="utf-8") == "Tür zu"


def test_the_command_gets_the_text_as_an_argument_without_a_shell(tmp_path: Path) -> None:
    sink = Speech(speaker(tmp_path, 'printf "%s\\n" "$@" > "$0"') + " --word {} x{}")
    sink.write(event(1, "a; touch $(b) `c`"))
    assert spoken(tmp_path) == ["--word", "a; touch $(b) `c`", "x{}"]
    sink.write(event(1, "--version"))
    assert spoken(tmp_path)[1] == " --version"


def test_an_empty_text_is_not_spoken(tmp_path: Path) -> None:
    Speech(speaker(tmp_path, 'echo x > "$0"')).write(event(1, " \n"))
    assert spoken(tmp_path) == []


def test_only_the_newest_waiting_text_is_spoken(tmp_path: Path) -> None:
    script = 'cat >> "$0"; echo >> "$0"; while [ ! -e "$0.go" ]; do sleep 0.01; done'
    queue = SinkQueue("speech", Speech(speaker(tmp_path, script)), capacity=1)
    queue.put(event(1))
    wait_for(lambda: spoken(tmp_path) == ["text 1"])
    for number in (2, 3, 4):
        queue.put(event(number))
    (tmp_path / "spoken.go").touch()
    queue.close(timeout=120)
    assert spoken(tmp_path) == ["text 1", "text 4"]
    assert (queue.state()["delivered"], queue.state()["missed"]) == (2, 2)


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    for seconds in (0.5, 20.0):  # longer where the machine was too busy for the command to begin
        sink = Speech(speaker(tmp_path, 'sleep 600 & echo $! > "$0"; wait'), timeout=seconds)
        with pytest.raises(VljEdgeError, match="killed"):
            sink.write(event(1))
        if spoken(tmp_path):
            break
    child = Path(f"/proc/{spoken(tmp_path)[0]}/cmdline")
    wait_for(lambda: not child.exists() or not child.read_bytes())  # gone, or dead and not yet collected


def test_closing_ends_a_command_that_goes_on(tmp_path: Path) -> None:
    queue = SinkQueue("speech", Speech(speaker(tmp_path, 'echo $$ > "$0"; exec sleep 600')))
    queue.put(event(1))
    wait_for(lambda: spoken(tmp_path))
    queue.close(timeout=0.05)
    wait_for(lambda: not Path(f"/proc/{spoken(tmp_path)[0]}").exists())
    assert queue.state()["missed"] == 1


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(VljEdgeError, match="exit code 3"):
        Speech("sh -c 'exit 3'").write(event(1))
    Speech("true").write(event(1, "x" * 200_000))  # a command need not read its input


@pytest.mark.parametrize("command", ["", "no-such-command-here -x", "sh -c 'open"])
def test_a_command_that_cannot_be_run_is_an_error_at_once(command: str) -> None:
    with pytest.raises(VljEdgeError):
        Speech(command)


def test_a_text_that_the_end_cuts_off_is_no_failure() -> None:
    queue = SinkQueue("say", Speech("sleep 60"), capacity=1)
    queue.put(event(1))
    wait_for(lambda: queue.state()["queued"] == 1 and queue._sink._running is not None)  # type: ignore[attr-defined]
    queue.close(0.1)
    assert queue.state()["last_error"] is None and queue.failed == 0 and queue.state()["missed"] == 1
