"""Every fuzzer runs a little with each test run, and longer in the slow ones. Longer still: python -m tests.fuzz."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.parsers import FUZZERS
from tests.fuzz.runner import run
from vlj_edge import VljEdgeError
from vlj_edge.bundle import read_manifest
from vlj_edge.runtime.embedding.record_file import read_records
from vlj_edge.runtime.service.config import read_config, read_profile

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux counts it")


@pytest.fixture(autouse=True)
def loggers_stay_as_they_are() -> Iterator[None]:
    """Some fuzzers silence what logs every damaged input."""
    before = {name: logging.getLogger(name).level for name in list(logging.root.manager.loggerDict)}
    yield
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(before.get(name, logging.NOTSET))


@pytest.mark.parametrize("name", FUZZERS)
def test_no_parser_breaks(name: str, tmp_path: Path) -> None:
    assert run(FUZZERS[name](tmp_path), 2, tmp_path / "finding", inputs=100) == 100


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_no_parser_breaks_for_long(name: str, tmp_path: Path) -> None:
    assert run(FUZZERS[name](tmp_path), 1, tmp_path / "finding", inputs=10_000, seconds=120)


# In a process of its own, which nothing that other tests have left behind can end.
CHILD = """
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import runner
from tests.fuzz.mutate import mutated_bytes

runner.SLOWEST = 0.5


def parse(raw):
    if raw != b"sample":
        exec(sys.argv[1])


try:
    runner.run(runner.Fuzzer([b"sample"], parse, mutated_bytes), 1, Path(sys.argv[2]), inputs=1)
except runner.Finding as finding:
    print(finding)
"""


@pytest.mark.parametrize(
    "code, problem",
    [("raise KeyError('a')", "KeyError"), ("bytearray(3 << 30)", "MemoryError"), ("while True: pass", "TimeoutError")],
)
def test_what_a_parser_may_not_do_is_found(code: str, problem: str, tmp_path: Path) -> None:
    root, kept = Path(__file__).parents[2], tmp_path / "finding"
    done = subprocess.run([sys.executable, "-c", CHILD, code, kept], cwd=root, text=True, capture_output=True)
    assert done.returncode == 0 and problem in done.stdout, done
    assert kept.exists()


@pytest.mark.parametrize("read", [read_config, read_profile, read_records, read_manifest])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_one_line(read: object, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(VljEdgeError) as caught:
            list(read(tmp_path / name))  # type: ignore[operator]
        assert name in str(caught.value)
