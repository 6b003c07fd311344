"""Fixtures that more than one folder uses, and the rules that every test keeps.

- Engines, torch and BLAS run on one thread, so that tests in parallel processes do not fight over cores.
- A test that needs a package which is not installed is skipped, wherever the import fails.
- A test leaves no thread, child process or signal handler behind, and the whole run no file in the repository.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before anything imports numpy or torch
    os.environ.setdefault(_name, "1")

import importlib.util
import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests.leftovers import Leftovers
from vlj_edge.runtime.video.cameras.opencv import import_opencv

# A shell starts what runs in the background with Ctrl-C ignored: tests that send it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, and no verdict that depends on how busy the machine is.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

REPOSITORY = Path(__file__).parents[1]
Colour = tuple[int, int, int]


def _missing_package(error: BaseException | None) -> str | None:
    """The third-party package that is not installed and made `error` happen, or None."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            if package not in ("vlj_edge", "tests") and importlib.util.find_spec(package) is None:
                return package
        error = error.__cause__ or error.__context__
    return None


def _skip_without_package(error: Exception) -> None:
    if (package := _missing_package(error)) is not None and not (REPOSITORY / f"{package}.py").exists():
        pytest.skip(f"{package} is not installed", allow_module_level=True)


class _Module(pytest.Module):
    """A test file, skipped if a package that it imports is not installed."""

    def _getobj(self) -> Any:
        try:
            return super()._getobj()
        except self.CollectError as error:
            _skip_without_package(error)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return _Module.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    try:
        yield
    except Exception as error:
        _skip_without_package(error)
        raise


pytest_runtest_call = pytest_runtest_setup


def _files_git_would_add() -> set[str]:
    if shutil.which("git") is None:  # a small system, such as the one of tests/environments/arm64.py
        return set()
    done = subprocess.run(["git", "status", "--porcelain"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return set(done.stdout.splitlines())


_changed_before: set[str] = set()


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        _changed_before.update(_files_git_would_add())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return
    if left := _files_git_would_add() - _changed_before:
        print(f"\nfiles in the repository that were not there before the tests: {sorted(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process, a signal handler or another working directory behind."""
    before = Leftovers.now()
    yield
    left = before.new_ones()
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session")
def shared_by_workers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], Path]:
    """shared_by_workers(name, make) -> a directory that `make(directory)` filled once for all processes of this run.

    `make` gets a path that does not exist yet. Its directory is for reading only.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if worker else root) / "shared"
    root.mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], Any]) -> Path:
        with FileLock(root / f"{name}.lock"):
            done, directory = root / f"{name}.json", root / name
            if not done.exists():
                make(directory)
                done.write_text(json.dumps({"made by": worker}))
        return directory

    return get


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of tests/runtime/tiny_bundle.py, for reading only: its embeddings and texts are known by hand."""
    from tests.runtime import tiny_bundle as by_hand

    return by_hand.build(tmp_path_factory.mktemp("bundles") / "by-hand")


@pytest.fixture(scope="session")
def tiny_weights(shared_by_workers: Callable[[str, Callable[[Path], Any]], Path]) -> Path:
    """Random weights of the preset TINY, as examples/train_nano would leave them; for reading only."""
    from tests.export.tiny_weights import write_tiny_weights  # imports torch, without which these tests are skipped

    return shared_by_workers("tiny-weights", write_tiny_weights)


@pytest.fixture(scope="session")
def token_bundle(tiny_weights: Path, shared_by_workers: Callable[[str, Callable[[Path], Any]], Path]) -> Path:
    """The preset TINY without a decoder, whose vision engines take 8, 16 or all 32 tokens; for reading only."""
    from tests.export.tiny_weights import TINY
    from vlj_edge.export.bundle import export_bundle
    from vlj_edge.export.request import ExportRequest
    from vlj_edge.export.weights.locations import WeightSources

    def export(out: Path) -> None:
        sources = WeightSources(tiny_weights, without_decoder=True)
        export_bundle(ExportRequest(sources, TINY, out, token_shares=(0.25, 0.5)))

    return shared_by_workers("token-bundle", export)


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """make_video([(colour BGR, seconds), ...], rate=25, name="video.mp4", size=(64, 48)) -> path of a video file."""

    def make(
        scenes: Sequence[tuple[Colour, float]],
        rate: float = 25,
        name: str = "video.mp4",
        size: tuple[int, int] = (64, 48),
    ) -> Path:
        cv2 = import_opencv()
        codec = cv2.VideoWriter_fourcc(*("MJPG" if name.endswith(".avi") else "mp4v"))
        writer = cv2.VideoWriter(str(tmp_path / name), codec, rate, size)
        assert writer.isOpened()
        for colour, seconds in scenes:
            for _ in range(round(seconds * rate)):
                writer.write(np.full((size[1], size[0], 3), colour, np.uint8))
        writer.release()
        return tmp_path / name

    return make
