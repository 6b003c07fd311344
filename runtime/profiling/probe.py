"""Record when each stage works. A run without a Probe measures nothing, at no cost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vlj_edge.results import Window

from ..engines.base import Array, Engine

Item = TypeVar("Item")
Result = TypeVar("Result")


class Span(NamedTuple):
    """One call of a stage; start and end in seconds of time.perf_counter()."""

    stage: str
    thread: int
    start: float
    end: float


class Probe:
    """Measurements of a run. Threads may record at the same time (list.append is atomic).

    Attributes:
        spans: one for each call of a stage.
        enqueued: engine -> host seconds of each run(); on a CPU that is the whole run.
        on_device: engine -> device milliseconds of each run; empty where the backend does not measure them.
        windows: (whether it got a text, seconds of work for it) of every window.
        similarities: (centre in seconds, cosine of its embedding to that of the last text) of every window
            that was encoded, in that order.
        ages: seconds from the frame that completed a window to the gate's decision about it.
        text_ages: seconds from the frame that completed a window to its text.
        kept_tokens: fraction (0 to 1) of the visual tokens that the engines were given, of every encoded window, where
            a choice is made.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Discard all measurements."""
        self.spans: list[Span] = []
        self.enqueued: dict[str, list[float]] = {}
        self.on_device: dict[str, list[float]] = {}
        self.windows: list[tuple[bool, float]] = []
        self.similarities: list[tuple[float, float]] = []
        self.ages: list[float] = []
        self.text_ages: list[float] = []
        self.kept_tokens: list[float] = []
        self._captured_at = 0.0
        self._completed_at: dict[float, float] = {}
        self._window_completed_at: float | None = None
        self._work_started_at = 0.0
        # of each window that waits for its text: seconds of work, and when it was complete
        self._before_text: deque[tuple[float, float | None]] = deque()
        self._last_text_embedding: Array | None = None

    def record_completion(self, windows: Iterable[tuple[Window, Item]]) -> Iterator[tuple[Window, Item]]:
        """Yield the same windows; record for each when its last frame was captured."""
        for window, item in windows:
            self._completed_at[window.start] = self._captured_at
            yield window, item

    def start_window(self, start: float) -> None:
        """Record that work begins on the window that starts at `start` seconds; earlier unstarted ones were dropped."""
        self._work_started_at = time.perf_counter()
        self._window_completed_at = self._completed_at.pop(start, None)
        for dropped in [other for other in list(self._completed_at) if other < start]:
            self._completed_at.pop(dropped, None)

    def record_similarity(self, centre: float, embedding: Array) -> None:
        """Record the embedding of a window that was encoded."""
        if self._last_text_embedding is not None:
            self.similarities.append((centre, float(embedding @ self._last_text_embedding)))

    def record_decision(self, embedding: Array | None) -> None:
        """Record the meaning gate's decision on the current window: the embedding that gets a text, or None."""
        now = time.perf_counter()
        seconds = now - self._work_started_at
        if self._window_completed_at is not None:
            self.ages.append(now - self._window_completed_at)
        if embedding is None:
            self.windows.append((False, seconds))
        else:
            self._last_text_embedding = embedding
            self._before_text.append((seconds, self._window_completed_at))

    def record_text(self, seconds: float) -> None:
        """Record the seconds that the text of the oldest such embedding took."""
        queued = self._before_text  # empty if the change comes from flushing the gate
        before, completed_at = queued.popleft() if queued else (0.0, None)
        if completed_at is not None:
            self.text_ages.append(time.perf_counter() - completed_at)
        self.windows.append((True, before + seconds))

    def record(self, stage: str, start: float) -> None:
        """Record a span of `stage` from `start` until now."""
        self.spans.append(Span(stage, threading.get_ident(), start, time.perf_counter()))

    def time_items(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the same items; record the time to produce each."""
        iterator = iter(items)
        try:
            while True:
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                self.record(stage, start)
                self._captured_at = self.spans[-1].end
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def time_calls(self, stage: str, action: Callable[..., Result]) -> Callable[..., Result]:
        """Return the same function; record each call, from the end of the last stage that it called itself."""

        def call(*arguments: object) -> Result:
            before, start = len(self.spans), time.perf_counter()
            result = action(*arguments)
            nested = [span.end for span in self.spans[before:] if span.thread == threading.get_ident()]
            self.record(stage, max(nested, default=start))
            return result

        return call


class TimedEngine:
    """An Engine that records its runs.

    Args:
        waited_for: whether wait() is called after each run; if not, a run is recorded when the next begins.
    """

    def __init__(self, engine: Engine, name: str, probe: Probe, waited_for: bool) -> None:
        self.engine, self.name, self._probe, self._waited_for = engine, name, probe, waited_for
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._started_at: float | None = None

    @property
    def takes_parts(self) -> bool:
        """See Engine.takes_parts."""
        return self.engine.takes_parts

    def run(self) -> None:
        """See Engine.run."""
        if self._started_at is not None:
            self._record_device_time()  # the run before, which is done by now
        start = time.perf_counter()
        self.engine.run()
        self._started_at = start
        self._probe.enqueued.setdefault(self.name, []).append(time.perf_counter() - start)
        if not self._waited_for or not hasattr(self.engine, "milliseconds"):
            self._record_stage()

    def wait(self) -> None:
        """See Engine.wait."""
        self.engine.wait()
        if self._waited_for and hasattr(self.engine, "milliseconds"):
            self._record_stage()
            self._record_device_time()

    def keep_tokens(self, kept: npt.NDArray[np.int64]) -> None:
        """See Engine.keep_tokens."""
        self.engine.keep_tokens(kept)

    def interrupt(self) -> None:
        """See Engine.interrupt."""
        self.engine.interrupt()

    def keep_output(self, output: str) -> object | None:
        """See Engine.keep_output."""
        return self.engine.keep_output(output)

    def set_input(self, name: str, value: object) -> None:
        """See Engine.set_input."""
        self.engine.set_input(name, value)

    def _record_stage(self) -> None:
        position = self.inputs.get("position")
        stage = self.name if position is None else "decoder, first" if position[0] == 0 else "decoder, token"
        self._probe.record(stage, self._started_at or 0.0)

    def _record_device_time(self) -> None:
        milliseconds = getattr(self.engine, "milliseconds", None)
        if milliseconds is not None:
            self._probe.on_device.setdefault(self.name, []).append(milliseconds())
        self._started_at = None
