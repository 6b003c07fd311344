"""Run the command as installed, in a child process; or in this one, where words and exit code are all that counts."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from vlj_edge.cli.group import run

Done = subprocess.CompletedProcess[str]
COMMAND = [sys.executable, "-m", "vlj_edge"]

# What the extras install. vlj-edge itself depends on none of these.
OPTIONAL = ("cv2", "onnxruntime", "torch", "onnx", "onnxscript", "transformers", "safetensors", "polygraphy")

_WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Blocked())
"""


def vlj_edge(*arguments: str | Path, cwd: Path | None = None) -> Done:
    """Run `vlj-edge ARGUMENTS`."""
    return _run([*COMMAND, *map(str, arguments)], cwd)


def run_here(*arguments: str | Path) -> Done:
    """Run `vlj-edge ARGUMENTS` in this process, which saves starting another.

    What native libraries write to stderr, signals and imports are not seen here: for these, run vlj_edge().
    """
    out, errors, loggers = io.StringIO(), io.StringIO(), [logging.getLogger(name) for name in (None, "vlj_edge")]
    before = [(log.handlers[:], log.propagate, log.level) for log in loggers]  # serve sets up the root logger, too
    loggers[1].handlers = []
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            code = run([*map(str, arguments)])
    finally:
        for log, (handlers, propagate, level) in zip(loggers, before, strict=True):
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)
    return Done(arguments, code, out.getvalue(), errors.getvalue())


def without(packages: Iterable[str], program: str) -> str:
    """A short program, where some packages are not installed."""
    return _WITHOUT.format(blocked=set(packages)) + program


def vlj_edge_without(packages: Iterable[str], *arguments: str | Path) -> Done:
    """Run `vlj-edge ARGUMENTS` where some packages are not installed."""
    return python(without(packages, "from vlj_edge.cli import main\nmain()\n"), *arguments)


def python(program: str, *arguments: str | Path, cwd: Path | None = None) -> Done:
    """Run a short program."""
    return _run([sys.executable, "-c", program, *map(str, arguments)], cwd)


def start(
    *arguments: str | Path, command: Sequence[str] = COMMAND, cwd: Path | None = None, stdin: int | None = None
) -> subprocess.Popen[str]:
    """Start `vlj-edge ARGUMENTS` and go on. Ctrl-C reaches it even if the tests run in the background of a shell."""
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        preexec_fn=listen_to_ctrl_c,
    )


def error_of(done: Done, code: int = 1) -> str:
    """The one line of a command that failed as a command should: code 1, or 2 where the call was wrong."""
    said = after_backend_warning(done.stderr)
    assert "Traceback" not in said, said
    assert said.count("\n") == 1, said
    assert said.startswith("error: "), said
    assert done.returncode == code, said
    return said.strip()


def after_backend_warning(stderr: str) -> str:
    """Return stderr without its first line if that is the warning that a card in this machine is not used."""
    return re.sub(r"\Awarning: [^\n]+ vlj-edge (build|tune)[^\n]*\n", "", stderr)


def json_lines(text: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What `narrate --json` wrote: the lines that speak, and the totals that must end them."""
    *spoken, last = [json.loads(line) for line in text.splitlines()]
    assert list(last) == ["totals"]
    return spoken, last["totals"]


def _run(command: list[str], cwd: Path | None) -> Done:
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=_environment(), timeout=300)


def listen_to_ctrl_c() -> None:
    """Undo what a shell does to programs in its background: in a child before it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _environment() -> dict[str, str]:
    # as a user has it: what silences or colours libraries here must not be what makes a test pass
    silent = ("OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL", "FORCE_COLOR", "PYTHONWARNINGS")
    return {name: value for name, value in os.environ.items() if name not in silent}
