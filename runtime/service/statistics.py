"""Counters, delays and the last window reports of one channel, over all its runs and openings of its source."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any, NamedTuple

from vlj_edge.decisions import TextReport
from vlj_edge.results import Narration, Totals, WindowReport

from ..stream.run import Run
from ..video.cameras.camera import CameraSource
from .resumable import ResumableSource

_MAX_REPORTS = 600  # five minutes at two windows a second
_MAX_TEXTS = 200
_MAX_DELAYS = 512  # windows that the percentiles are computed over, the latest
_PERCENTILES = (50, 95, 99)


class Latest(NamedTuple):
    """What was reported lately: with the middle of the window in seconds, the oldest first.

    Attributes:
        number: of all windows until then.
    """

    number: int
    windows: list[tuple[float, WindowReport]]
    texts: list[tuple[float, TextReport]]


class ChannelStatistics:
    """Written by the channel's threads and read by any.

    Attributes:
        last_window_at: time.monotonic() of the last report, or of the start.
    """

    def __init__(self) -> None:
        self.last_window_at = time.monotonic()
        self._lock = threading.Lock()
        self._earlier_runs = Totals()
        self._run: Run[Narration] | None = None
        self._reports: deque[tuple[float, WindowReport]] = deque(maxlen=_MAX_REPORTS)
        self._texts: deque[tuple[int, float, TextReport]] = deque(maxlen=_MAX_TEXTS)
        self._delays: deque[float] = deque(maxlen=_MAX_DELAYS)
        self._report_count = 0

    def start_run(self, run: Run[Narration]) -> None:
        """Add the counts of this run from now on."""
        with self._lock:
            self._run = run

    def end_run(self) -> None:
        """Keep the counts of the run, which has ended."""
        with self._lock:
            if self._run is not None:
                self._earlier_runs, self._run = sum_totals(self._earlier_runs, self._run.totals), None

    def add_report(self, seconds: float, report: WindowReport, delay: float | None) -> None:
        """Add the report of a window.

        Args:
            seconds: the window's centre, from the source's first frame.
            delay: seconds from the window's newest sample to now; None if unknown.
        """
        with self._lock:
            self.last_window_at = time.monotonic()
            self._reports.append((seconds, report))
            self._report_count += 1
            if delay is not None:
                self._delays.append(delay)

    def add_text(self, seconds: float, report: TextReport) -> None:
        """Add the report of a text.

        Args:
            seconds: the middle of what it describes, from the source's first frame.
        """
        with self._lock:
            self._texts.append((self._report_count, seconds, report))

    def latest(self, seconds: float, after: int = 0) -> Latest:
        """Return what was reported in the last `seconds` before the newest window.

        Args:
            after: without the first so many reports, as Latest.number of an earlier call had them.
        """
        with self._lock:
            windows: list[tuple[float, WindowReport]] = []
            for at, report in reversed(self._reports):
                # Times of a recording that is repeated restart.
                if windows and not windows[0][0] - seconds < at <= windows[-1][0]:
                    break
                windows.append((at, report))
            if not windows:
                return Latest(0, [], [])
            number, first, last = self._report_count, windows[-1][0], windows[0][0]
            fresh = max(number - len(windows), min(after, number))
            texts = [(at, text) for count, at, text in self._texts if count > fresh and first <= at <= last]
            return Latest(number, windows[: number - fresh][::-1], texts)

    def reports_after(self, number: int) -> tuple[int, list[tuple[float, WindowReport]]]:
        """Return the number of reports so far, and the kept ones after the first `number` reports."""
        with self._lock:
            fresh = min(self._report_count - number, len(self._reports))
            return self._report_count, list(self._reports)[len(self._reports) - fresh :]

    def counts(self) -> dict[str, Any]:
        """Return the totals of all runs, and `delay_p50`, `delay_p95` and `delay_p99` in seconds (None: unknown)."""
        with self._lock:
            totals = self._earlier_runs if self._run is None else sum_totals(self._earlier_runs, self._run.totals)
            delays = sorted(self._delays)
        found = totals.as_dict()
        for share in _PERCENTILES:
            found[f"delay_p{share}"] = round(delays[(len(delays) - 1) * share // 100], 3) if delays else None
        return found


class SourceCounters:
    """Counters of the sources that a channel opens one after another: `bad_frames`, and of cameras `frames_dropped` and
    `restarts`. Read by any thread; none ever goes back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: ResumableSource | None = None
        self._earlier = Counter[str]()

    def begin(self, source: ResumableSource) -> None:
        """Count what this source counts, from now on."""
        with self._lock:
            self._open = source

    def end(self) -> None:
        """Keep the counts of the source, if one is open: it counts no more."""
        with self._lock:
            if self._open is not None:
                self._earlier.update(_counts_of(self._open))
            self._open = None

    def counts(self) -> dict[str, int]:
        """Return the sums over all sources."""
        with self._lock:
            found = Counter({"bad_frames": 0})
            found.update(self._earlier)
            if self._open is not None:
                found.update(_counts_of(self._open))
        return dict(found)


def _counts_of(resumable: ResumableSource) -> dict[str, int]:
    source = resumable.source
    found = {"bad_frames": getattr(source, "bad", 0) + resumable.skipped}
    if isinstance(source, CameraSource):
        found |= {"frames_dropped": source.dropped, "restarts": source.restarts}
    return found


def sum_totals(one: Totals, other: Totals) -> Totals:
    """Return the sums of all counts."""
    return Totals(**{name: value + getattr(other, name) for name, value in vars(one).items()})
