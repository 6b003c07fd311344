"""Feeds a parser with mutated samples and reports what it may not do."""

from __future__ import annotations

import random
import resource
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import mutated_bytes
from vlj_edge import VljEdgeError

SLOWEST, MOST_MEMORY = 5.0, 1 << 30  # seconds of CPU time and bytes of one input
Mutation = Callable[[bytes, list[bytes], random.Random], bytes]


@dataclass(frozen=True)
class Fuzzer:
    """A parser and what it is fed with.

    Attributes:
        samples: valid inputs.
        parse: reads one input; may raise VljEdgeError.
        mutate: see mutate.py.
        errors: more errors that are an answer, of parsers below the commands, whose callers make a line of them.
    """

    samples: list[bytes]
    parse: Callable[[bytes], Any]
    mutate: Mutation
    errors: tuple[type[Exception], ...] = ()


def of_file(
    path: Path, samples: list[bytes], parse: Callable[[Path], Any], mutate: Mutation = mutated_bytes, **more: Any
) -> Fuzzer:
    """A parser that reads a file."""

    def feed(raw: bytes) -> Any:
        path.write_bytes(raw)
        return parse(path)

    return Fuzzer(samples, feed, mutate, **more)


class Finding(AssertionError):
    """An input that a parser did not take as it should."""


def run(fuzzer: Fuzzer, seed: int, keep: Path, *, inputs: float = inf, seconds: float = inf) -> int:
    """Feed a fuzzer's parser, and return the number of inputs, which a seed makes the same everywhere.

    Args:
        keep: where an input that is a finding is written.
        inputs: end after so many.
        seconds: end after this time.

    Raises:
        Finding: the first one, with its traceback.
    """
    chance, count, until = random.Random(seed), 0, time.monotonic() + seconds
    for sample in fuzzer.samples:
        fuzzer.parse(sample)  # valid
    while count < inputs and time.monotonic() < until:
        raw = fuzzer.mutate(chance.choice(fuzzer.samples), fuzzer.samples, chance)
        count += 1
        try:
            with _limits():
                fuzzer.parse(raw)
        except (VljEdgeError, *fuzzer.errors) as error:
            problem = None if len(str(error).splitlines()) <= 1 else f"more than one line: {error}"
        except BaseException:
            problem = traceback.format_exc()
            if "KeyboardInterrupt" in problem:
                raise
        else:
            problem = None
        if problem is not None:
            keep.write_bytes(raw)
            raise Finding(f"input {count} of seed {seed}, kept in {keep}: {problem}")
    return count


@contextmanager
def _limits() -> Any:
    """Make an input that takes too long or too much memory fail, however busy the machine is.

    The time is the CPU time of the process, read at each ring of an ordinary alarm.
    """
    end = time.process_time() + SLOWEST

    def ring(*_: object) -> None:
        left = end - time.process_time()
        if left <= 0:
            raise TimeoutError(f"more than {SLOWEST} s")
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.01))

    before, limit = signal.signal(signal.SIGALRM, ring), resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_MEMORY, limit[1]))
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, limit)
