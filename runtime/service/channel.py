"""One source of a station: it is opened, narrated run after run, and stopped.

A run ends when the channel's settings change, when a live source pauses for long, or with the source. The next run
begins with the next frame and with new gates, so that it gives a text at once; what they have learned of the camera's
noise stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration, WindowReport

from ..embedding.labels import LabelBank
from ..embedding.own_labels import OwnLabels
from ..gating.budget import Budget
from ..sinks.base import Event
from ..stream.run import Run
from ..video.cameras.camera import CameraSource, CameraState
from ..video.paced import PacedSource
from ..video.paths import SourceMissing, path_of
from ..video.source import Source
from ..video.uri import open_source
from ..words.words import Words
from .channel_context import ChannelContext, ReportedWindow
from .resumable import ResumableSource, SourceRun
from .settings import SourceSettings
from .state_log import NO_KEY_FRAME, ChannelState, StateLog
from .statistics import ChannelStatistics, SourceCounters

_STUCK_AFTER = 60.0  # seconds with frames and without a window
_LOOK_EVERY = 1.0  # seconds between two looks for a file that is not there
_SOURCE_GRACE = 0.3  # seconds for a source to return from a read after interrupt(), and again after close()
_TEXT_GRACE = 10.0  # seconds for a text that is being decoded
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a live source that failed is opened again


class Channel:
    """One source of a station, in a thread of its own.

    Attributes:
        settings: replaced as a whole, never changed in place: a run ends when they are no longer those it was started
            with.
        state: of a live source; "live", then "ended" for others. "waiting": for a file that is not there.
        error: why it ended, or what was damaged in a recording that is repeated, one line; None if all was read.
        last_event: the newest event, or None.
        label: the label nearest to the last encoded window; None if there are no labels.
        statistics: counters and window reports.
        words: what says the changes in place of the bundle's decoder, or None.
    """

    def __init__(self, settings: SourceSettings, context: ChannelContext) -> None:
        self.settings, self._context = settings, context
        self.state: ChannelState = "connecting"
        self.error: str | None = None
        self._reported_error: str | None = None
        self._state_log = StateLog(settings.name)
        self._failure: str | None = None  # of a source that is opened again
        self._failing_since: float | None = None  # time.monotonic() of the first of failures that are not the source's
        self._is_camera = False  # known once the source was open
        self.last_event: Event | None = None
        self.label: str | None = None
        self.statistics = ChannelStatistics()
        self._budget: Budget | None = None  # of all runs
        self.words: Words | None = None
        self._source: ResumableSource | None = None
        self._source_counters = SourceCounters()
        self._frames: SourceRun | None = None
        self._run: Run[Narration] | None = None
        self._updating, self._stopping = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"channel {settings.name}", daemon=True)

    def start(self) -> None:
        """Start a thread that opens the source and narrates it.

        Raises:
            VljEdgeError: the system has no thread left. It may be called again.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            name = self.settings.name
            raise VljEdgeError(f"{name} cannot be started ({error}): free memory, then send SIGHUP") from None

    @property
    def started(self) -> bool:
        """Whether start() has succeeded."""
        return self._thread.ident is not None

    def edit(self, change: Callable[[SourceSettings], SourceSettings]) -> None:
        """Replace the settings by the result of `change`. Changes from several threads are applied one after another.

        Raises:
            VljEdgeError: the model cannot be used with the new settings; nothing changes.
        """
        with self._updating:
            settings = change(self.settings)
            self._context.check(settings)
            self.settings = settings

    def apply(self, settings: SourceSettings) -> None:
        """Replace the settings. Raises as edit()."""
        self.edit(lambda _: settings)

    def latest_image(self) -> npt.NDArray[np.uint8] | None:
        """Return the newest frame, uint8 [height, width, 3] BGR, or None before the first."""
        frame = self._source.latest if self._source is not None else None
        return None if frame is None else frame.image

    def counts(self) -> dict[str, Any]:
        """Return the channel's statistics and the source's own counters, as plain numbers."""
        found = self.statistics.counts()
        found["events"] = 0 if self.last_event is None else self.last_event.number
        return found | self._source_counters.counts()

    @property
    def live(self) -> bool:
        """True for a camera or stream; False for a recording, or before the source is open."""
        return self._is_camera

    def never_opened(self) -> bool:
        """Return whether the source could not be opened: there is none yet, or it has ended for that."""
        return (self.error is not None or self.state == "waiting") and self._source is None

    @property
    def problem(self) -> str | None:
        """Why it ended, or why it gives no picture, one line; None if nothing is wrong or the reason is unknown."""
        if self.error is not None or self._failure is not None:
            return self.error or self._failure
        if self.state == "waiting for a key frame":
            return NO_KEY_FRAME
        source = None if self._source is None else self._source.source
        failure = source.failure if isinstance(source, CameraSource) else None
        if failure is None:
            return "no picture" if self.state == "lost" else None
        return f"no picture: {failure}"

    def is_stuck(self) -> bool:
        """Return whether for over a minute a live source has given frames but no window was made of them, or what
        failed was not the source."""
        if self._failing_since is not None:
            return time.monotonic() - self._failing_since > _STUCK_AFTER
        source, frames = self._source, self._frames
        # A camera that comes back after a pause makes no window for some seconds: what counts begins with its run.
        begun = None if frames is None else frames.first_at
        if source is None or begun is None or not source.source.live:
            return False
        return source.latest_at - max(self.statistics.last_window_at, begun) > _STUCK_AFTER

    def request_stop(self) -> None:
        """Request that the channel ends. Returns at once."""
        self._stopping.set()
        if self._source is not None:
            self._source.source.interrupt()

    def stop(self) -> None:
        """Stop within a second, whatever the source does; only a text that is being decoded may take longer."""
        self.request_stop()
        source, frames, run = self._source, self._frames, self._run
        if source is None or frames is None or run is None:  # the source is still being opened
            self.join(_SOURCE_GRACE)
            return
        # Both of these may block for as long as the source does, so each runs in a thread that can be left behind.
        for close in (source.source.close, run.close):
            # An answer of an endpoint is not waited for; close() interrupts the request.
            grace = _TEXT_GRACE if self.words is None else _SOURCE_GRACE
            if frames.finished.wait(_SOURCE_GRACE) and self.join(grace):
                return
            try:
                threading.Thread(target=close, name="close source", daemon=True).start()
            except RuntimeError:  # the system has no thread left
                close()
        self.join(_SOURCE_GRACE)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the channel has ended; return whether it has ended or was never started."""
        if self.started:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        attempt, tried_at = 0, time.monotonic()
        try:
            while not self._stopping.is_set():
                try:
                    if not self._play_once():
                        break
                except Exception as error:
                    if not self._recovers_from(error):
                        raise
                    attempt = 0 if self.statistics.last_window_at > tried_at else attempt + 1
                    self._wait_after(error, _PAUSES[min(attempt, len(_PAUSES) - 1)])
                    tried_at = time.monotonic()
        except VljEdgeError as error:
            self.error = str(error)
        except Exception as error:  # a source that fails must not end the others
            self.error = f"{self.settings.name} failed inside vlj-edge ({error!r}): please report it"
        finally:
            if self._source is not None:
                self._source.close()
            self.state = "ended"
            if not self._stopping.is_set():
                self._context.on_end(self.settings.name)
            if self.error is None and not self._stopping.is_set():
                self._state_log.end()
            self._report_error()

    def _play_once(self) -> bool:
        """Open the source and play it to its end; return whether it is to be opened again."""
        self._source = source = ResumableSource(self._open(), self.settings.name)
        self._source_counters.begin(source)
        self._is_camera = source.source.live and not isinstance(source.source, PacedSource)
        self._play(source)
        if not self._loops(source):
            return False
        self._source_counters.end()
        source.close()
        return True

    def _wait_after(self, error: Exception, pause: float) -> None:
        """Let go of a source that failed, whatever the reason: only stop() ends it. It is opened again later."""
        if isinstance(error, VljEdgeError):
            self._failure, self._failing_since = str(error), None
        elif isinstance(error, OSError) and error.strerror:  # no descriptors are left, or no memory
            self._failure = f"it cannot be read now ({error.strerror}): it is tried again"
        else:
            self._failure = f"it failed inside vlj-edge ({error!r})"
        if not isinstance(error, VljEdgeError):
            self._failing_since = self._failing_since or time.monotonic()
        self._source_counters.end()
        if self._source is not None:
            self._source.close()
        if isinstance(error, SourceMissing):
            self._set_state("waiting")
            self._await_file()
        else:
            self._set_state("lost")
            self._stopping.wait(pause)

    def _await_file(self) -> None:
        """Wait until there is a file, or folder, and it grows no more."""
        before = None
        while not self._stopping.wait(_LOOK_EVERY):
            path = path_of(self.settings.uri)
            try:
                now = None if path is None else (path.stat().st_size, path.stat().st_mtime_ns)
            except OSError:
                now = None
            if path is None or now == before is not None:
                return
            before = now

    def _open(self) -> Source:
        rate = self._context.model.manifest.clip.frames_per_second
        source = open_source(
            self.settings.uri,
            **vars(self.settings.part),
            rotate=self.settings.rotate,
            sampled_at=rate,
            keep_trying=self._context.keep_trying,
            on_state=self._set_camera_state,
        )
        if source.live:
            return source
        if self.settings.loop and not source.rereadable:
            source.close()
            raise VljEdgeError(f"{self.settings.name} can be read only once, as a pipe can: leave loop out")
        self._set_state("live")
        return PacedSource(source) if self._context.real_time else source

    def _play(self, source: ResumableSource) -> None:
        """Narrate to the end of the source, in one run for each change of settings.

        Raises:
            VljEdgeError: it broke off. Of a recording that is repeated, this is only reported.
        """
        damage = None
        while not self._stopping.is_set() and not source.ended:
            try:
                self._narrate(source, self.settings)
            except VljEdgeError as error:
                if not self._loops(source) or source.latest is None or source.source.incomplete is None:
                    raise
                self.error = damage = str(error)
                self._report_error()
        if self._loops(source):
            self.error = damage

    def _recovers_from(self, error: Exception) -> bool:
        """Return whether it is opened again after an error: one that is not of a recording that is played once."""
        again = self._plays_for_ever() or isinstance(error, SourceMissing) or not isinstance(error, VljEdgeError)
        return again and self._context.keep_trying

    def _plays_for_ever(self) -> bool:
        """Return whether it was open, and is a camera or a recording that is repeated."""
        return self._is_camera or (self._source is not None and self._loops(self._source))

    def _loops(self, source: ResumableSource) -> bool:
        return self.settings.loop and source.source.rereadable

    def _report_error(self) -> None:
        if self.error != self._reported_error and self.error is not None:
            self._context.on_error(self.settings.name, self.error)
        self._reported_error = self.error

    def _narrate(self, source: ResumableSource, settings: SourceSettings) -> None:
        """Narrate until the channel's settings are no longer these, or the run ends for another reason."""
        frames = source.next_run(lambda: self.settings is settings and not self._stopping.is_set())
        bank = self._context.label_bank(settings.labels) if settings.labels else None
        if bank is None:
            self.label = None
        run = self._context.model.narrate(
            frames,
            settings.query,
            gates=settings.gates,
            watch=partial(self._report, settings, frames, bank),
            watch_texts=lambda text: self.statistics.add_text((text.start + text.end) / 2 + frames.offset, text),
            budget=self._budget_of(settings),
            noise=self._context.noise_of(settings),
            words=self._words_of(settings),
            wants=lambda window: self._context.wants(settings.name, window.centre + frames.offset),
        )
        self._frames, self._run = frames, run
        self.statistics.start_run(run)
        try:
            for narration in run:
                self._emit(narration.later(frames.offset))
        finally:
            run.close()
            self.statistics.end_run()

    def _budget_of(self, settings: SourceSettings) -> Budget:
        """Return the budget of all runs, begun for a run with these settings."""
        limits = (settings.gates or self._context.model.manifest.gates).budget
        if self._budget is None:
            self._budget = Budget(limits, time.monotonic())
        else:
            self._budget.begin(limits, time.monotonic())
        return self._budget

    def _words_of(self, settings: SourceSettings) -> Words | None:
        """Return what says the changes of all runs, as these settings have it; None: the bundle's decoder."""
        if settings.words is None:
            self.words = None
        elif self.words is None:
            self.words = settings.words.words(settings.name)
        else:
            settings.words.apply_to(self.words)
        if self.words is not None:
            self.words.waits_at_end = lambda: self.settings is settings and not self._stopping.is_set()
        return self.words

    def _emit(self, narration: Narration) -> None:
        number = 1 if self.last_event is None else self.last_event.number + 1
        self.last_event = Event(self.settings.name, narration, time.time(), number)
        self._context.on_event(self.last_event)

    def _report(
        self,
        settings: SourceSettings,
        frames: SourceRun,
        bank: LabelBank | OwnLabels | None,
        report: WindowReport,
    ) -> None:
        self._context.on_report(
            ReportedWindow(settings, time.time(), report, frames.offset, self.live, self.latest_image)
        )
        if bank is not None and report.embedding is not None:
            self.label = bank.labels[int(bank.similarities(report.embedding).argmax())]
            report = replace(report, label=self.label)
        centre = report.window.centre + frames.offset
        self.statistics.add_report(centre, replace(report, embedding=None), self._delay(frames, report))

    def _delay(self, frames: SourceRun, report: WindowReport) -> float | None:
        """Return the age of the window's newest sample, seconds; None if the source's clock is unknown."""
        origin: float | None = getattr(self._source and self._source.source, "origin", None)
        if origin is None:
            return None
        newest = report.window.end - 1 / self._context.model.manifest.clip.frames_per_second
        return time.monotonic() - (origin + frames.offset + newest)

    def _set_camera_state(self, state: CameraState) -> None:
        if state != "ended":  # one that fails is opened again, and which end is the last only _work() knows
            self._set_state(state)

    def _set_state(self, state: ChannelState) -> None:
        self.state = state
        if state == "live":
            self._failure = self._failing_since = None
        self._state_log.change(state, self.problem)
