"""When was each stage at work? Nothing is measured, and nothing costs anything, unless a Probe was given."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from vlj_edge.results import Window

from ..engines.base import Array, Engine

Item = TypeVar("Item")
Result = TypeVar("Result")


class Span(NamedTuple):
    """One piece of work of a stage, in seconds of time.perf_counter()."""

    stage: str
    thread: int
    start: float
    end: float


class Probe:
    """What was done when, as it is noted; threads may write at the same time (list.append is atomic).

    Attributes:
        spans: every piece of work.
        enqueued: engine -> seconds that each run() took the host; on a CPU that is the whole run.
        on_device: engine -> milliseconds that each run took the device; empty where the backend does not know.
        windows: (did it speak, seconds of work for it) of every window.
        drift: (centre of a window, cosine of its embedding to what was last chosen to be said) of every window that was
            encoded, in that order.
        ages: seconds from the frame that completed a window to the gate's decision about it.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.spans: list[Span] = []
        self.enqueued: dict[str, list[float]] = {}
        self.on_device: dict[str, list[float]] = {}
        self.windows: list[tuple[bool, float]] = []
        self.drift: list[tuple[float, float]] = []
        self.ages: list[float] = []
        self._captured = 0.0
        self._complete: dict[float, float] = {}
        self._born: float | None = None
        self._taken = 0.0
        self._spoken_for: deque[float] = deque()
        self._last: Array | None = None

    def complete(self, windows: Iterable[tuple[Window, Item]]) -> Iterator[tuple[Window, Item]]:
        """The same windows; each is complete with the frame that was captured last."""
        for window, item in windows:
            self._complete[window.start] = self._captured
            yield window, item

    def take_window(self, start: float) -> None:
        """From now on there is work for the window that starts at `start`; those before it that were not taken never
        will be."""
        self._taken = time.perf_counter()
        self._born = self._complete.pop(start, None)
        for dropped in [other for other in list(self._complete) if other < start]:
            self._complete.pop(dropped, None)

    def compare(self, centre: float, embedding: Array) -> None:
        """A window was encoded."""
        if self._last is not None:
            self.drift.append((centre, float(embedding @ self._last)))

    def decide(self, chosen: Array | None) -> None:
        """The gate has decided about the window: `chosen` is to be said, or nothing."""
        now = time.perf_counter()
        seconds = now - self._taken
        if self._born is not None:
            self.ages.append(now - self._born)
        if chosen is None:
            self.windows.append((False, seconds))
        else:
            self._last = chosen
            self._spoken_for.append(seconds)

    def speak(self, seconds: float) -> None:
        """The text of the oldest choice took so long."""
        before = self._spoken_for.popleft() if self._spoken_for else 0.0  # the last may come from the gate's end
        self.windows.append((True, before + seconds))

    def note(self, stage: str, start: float) -> None:
        """`stage` was at work from `start` until now."""
        self.spans.append(Span(stage, threading.get_ident(), start, time.perf_counter()))

    def each(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; making each is a piece of work."""
        iterator = iter(items)
        try:
            while True:
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                self.note(stage, start)
                self._captured = self.spans[-1].end
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def timed(self, stage: str, action: Callable[..., Result]) -> Callable[..., Result]:
        """The same function; each call is a piece of work: what is left of it after those that it has others do."""

        def call(*arguments: object) -> Result:
            before, start = len(self.spans), time.perf_counter()
            result = action(*arguments)
            others = [span.end for span in self.spans[before:] if span.thread == threading.get_ident()]
            self.note(stage, max(others, default=start))
            return result

        return call


class TimedEngine:
    """An engine whose runs are noted. See Engine."""

    def __init__(self, engine: Engine, name: str, probe: Probe, waited_for: bool) -> None:
        self.engine, self.name, self._probe, self._waited_for = engine, name, probe, waited_for
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._begun: float | None = None

    def run(self) -> None:
        """See Engine.run."""
        if self._begun is not None:
            self._note_device()  # of an engine that nobody waits for, the run before: it is long done
        start = time.perf_counter()
        self.engine.run()
        self._begun = start
        self._probe.enqueued.setdefault(self.name, []).append(time.perf_counter() - start)
        if not self._waited_for or not hasattr(self.engine, "milliseconds"):
            self._note_stage()

    def wait(self) -> None:
        """See Engine.wait."""
        self.engine.wait()
        if self._waited_for and hasattr(self.engine, "milliseconds"):
            self._note_stage()
            self._note_device()

    def interrupt(self) -> None:
        """See Engine.interrupt."""
        self.engine.interrupt()

    def keep_output(self, output: str) -> object | None:
        """See Engine.keep_output."""
        return self.engine.keep_output(output)

    def set_input(self, name: str, value: object) -> None:
        """See Engine.set_input."""
        self.engine.set_input(name, value)

    def _note_stage(self) -> None:
        position = self.inputs.get("position")
        stage = self.name if position is None else "decoder, first" if position[0] == 0 else "decoder, token"
        self._probe.note(stage, self._begun or 0.0)

    def _note_device(self) -> None:
        milliseconds = getattr(self.engine, "milliseconds", None)
        if milliseconds is not None:
            self._probe.on_device.setdefault(self.name, []).append(milliseconds())
        self._begun = None
