"""A virtual environment with the unpacked sdist in it, in which the tests that need no torch are run."""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

EXTRAS = ("cpu", "serve", "mqtt", "store")
# Those that need a package that is not installed skip themselves. What is about export alone is left out.
ALL_TESTS = (
    "tests/bundle",
    "tests/cli",
    "tests/runtime",
    "tests/test_errors.py",
    "tests/test_nano.py",
    "tests/test_public_api.py",
)
# Of these, the ones through which every package that a device installs is used.
TESTS_OF_PACKAGES = (
    "tests/runtime/embedding",
    "tests/runtime/library",
    "tests/runtime/service/http",
    "tests/runtime/sinks",
    "tests/runtime/video/test_files.py",
    "tests/runtime/words",
    "tests/runtime/test_embed.py",
    "tests/runtime/test_narrate.py",
    "tests/cli/test_embed.py",
    "tests/cli/test_labels.py",
    "tests/cli/test_narrate.py",
)
# Those of what Python versions differ in: threads, asyncio, child processes and signals, and how classes are made; and
# some that use every package.
TESTS_OF_PYTHON = (
    "tests/runtime/library/test_store.py",
    "tests/bundle",
    "tests/cli/test_front_door.py",
    "tests/cli/test_interrupts.py",
    "tests/cli/test_narrate.py",
    "tests/cli/test_serve.py",
    "tests/runtime/service",
    "tests/runtime/sinks",
    "tests/runtime/stream",
    "tests/runtime/video/test_camera.py",
    "tests/runtime/video/test_files.py",
    "tests/runtime/video/test_interrupt.py",
    "tests/runtime/video/test_stdin.py",
    "tests/runtime/video/test_untrusted.py",
    "tests/runtime/words",
    "tests/runtime/test_embed.py",
    "tests/runtime/test_failures.py",
    "tests/runtime/test_lifetimes.py",
    "tests/runtime/test_narrate.py",
    "tests/runtime/test_sharing.py",
    "tests/runtime/test_unruly_runs.py",
    "tests/test_child.py",
    "tests/test_errors.py",
    "tests/test_public_api.py",
)
# What the tests themselves import. onnx writes the small bundle that most of them use.
TOOLS = (
    "pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.8", "hypothesis>=6.100", "filelock>=3.12", "httpx>=0.27",
    "onnx>=1.19",
)  # fmt: skip


def find_python(version: str) -> str | None:
    """The path of a working interpreter of that version (such as "3.12"), or None."""
    root = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    for command in (f"python{version}", *sorted(glob.glob(f"{root}/versions/{version}.*/bin/python"))):
        try:  # a shim of pyenv may be there without an interpreter behind it
            done = subprocess.run(
                [command, "-c", "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2])"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.split()[-1] == version:
            return done.stdout.split()[0]
    return None


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Return stdout; fail the test with all that the command wrote if it fails."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | environment,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}"
    return done.stdout


@functools.cache
def uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        pytest.skip("uv is not installed")
    return found


def unpack(sdist: Path, directory: Path) -> Path:
    """Return the one folder that is in the archive."""
    with tarfile.open(sdist) as archive:
        archive.extractall(directory)
    [folder] = directory.iterdir()
    return folder


class Environment:
    """Args:
    python: path of the interpreter.
    sdist: it is unpacked and installed from there.
    folder: an empty folder, in which all is put.
    lowest: install the lowest versions that pyproject.toml allows instead of the newest.
    """

    def __init__(self, python: str, sdist: Path, folder: Path, lowest: bool = False) -> None:
        self.project = unpack(sdist, folder / "sdist")
        self.python = folder / "venv" / "bin" / "python"
        run(uv(), "venv", "-q", "-p", python, folder / "venv")
        tools = folder / "tools.txt"
        tools.write_text("\n".join(TOOLS))
        extras = [word for extra in EXTRAS for word in ("--extra", extra)]
        how = ["--resolution", "lowest-direct"] if lowest else []
        install = (uv(), "pip", "install", "-q", "-p", self.python)
        run(*install, *how, "--only-binary", ":all:", "-r", self.project / "pyproject.toml", *extras, "-r", tools)
        run(*install, "--no-deps", "-e", self.project)

    def test(self, tests: Sequence[str] = ALL_TESTS) -> dict[str, int]:
        """Run the tests that are not slow in the unpacked sdist -> how many passed, were skipped; fail if one does.

        Two run at a time, but for those that send signals to their own process.
        """
        found = Counter[str]()
        for which, how in (
            ("not slow and not signals", ("-n", "2", "--dist", "loadfile")),
            ("signals and not slow", ()),
        ):
            arguments = ("-q", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers", "-m", which, *how)
            said = run(self.python, "-m", "pytest", *arguments, *tests, cwd=self.project)
            for number, word in re.findall(r"(\d+) (passed|skipped)", said.splitlines()[-1]):
                found[word] += int(number)
        return found
