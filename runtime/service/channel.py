"""The life of one source in a station: opened, narrated run after run, stopped.

A run ends when the channel's settings change, when a live source pauses for long, or with the source. The next one
begins with the next frame, and with gates that remember nothing, so that there is a caption at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration, WindowReport

from ..embedding.labels import LabelBank
from ..model import Model, check_settings
from ..sinks.base import Event
from ..stream.run import Run
from ..video.cameras.camera import CameraSource, CameraState
from ..video.paced import PacedSource
from ..video.source import Source
from ..video.uri import open_source
from .resumable import ResumableSource, SourceRun
from .settings import SourceSettings
from .statistics import ChannelStatistics

OnReport: TypeAlias = "Callable[[SourceSettings, float, WindowReport], None]"
OnError: TypeAlias = "Callable[[str, str], None]"

_LOG = logging.getLogger(__name__)
_STUCK_AFTER = 60.0  # seconds with frames and without a window
_SOURCE_GRACE = 0.3  # seconds for a source to return from a read after interrupt(), and again after close()
_CAPTION_GRACE = 10.0  # seconds for a caption that is being decoded


@dataclass(frozen=True)
class ChannelContext:
    """What all channels of a station share.

    Attributes:
        label_bank: returns the embeddings of labels.
        on_event: called with every caption, by the channel's thread.
        on_report: called with the settings of the run, the unix time and the report of every window, by the thread that
            encodes.
        on_error: called with the channel's name and one line when it ends because of an error, by the channel's thread.
        keep_trying: wait for sources that are not there yet.
        real_time: play recordings at the pace of their times.
    """

    model: Model
    label_bank: Callable[[tuple[str, ...]], LabelBank]
    on_event: Callable[[Event], None]
    on_report: OnReport
    on_error: OnError
    keep_trying: bool
    real_time: bool = False

    def check(self, settings: SourceSettings) -> None:
        """Raises VljEdgeError: the model cannot be used with these settings, or labels that it cannot tell apart."""
        check_settings(self.model, settings.query, settings.gates)
        if settings.labels:
            self.label_bank(settings.labels)


class Channel:
    """One source of a station, in a thread of its own.

    Attributes:
        settings: replaced as a whole, never changed: a run lasts as long as these are the ones it was started with.
        state: of a live source; "live", then "ended" for others.
        error: why it ended, or what was damaged in a recording that begins again, one line; None if all was read.
        last_event: the newest caption, or None.
        label: the label nearest to the last encoded window; None where there are no labels.
        statistics: counters and window reports.
    """

    def __init__(self, settings: SourceSettings, context: ChannelContext) -> None:
        self.settings, self._context = settings, context
        self.state: CameraState = "connecting"
        self.error: str | None = None
        self._reported_error: str | None = None
        self._logged_problem: str | None = None  # of a camera that is waited for
        self.last_event: Event | None = None
        self.label: str | None = None
        self.statistics = ChannelStatistics()
        self._source: ResumableSource | None = None
        self._bad_before = 0  # frames of a recording that has begun again
        self._frames: SourceRun | None = None
        self._run: Run[Narration] | None = None
        self._updating, self._stopping = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"channel {settings.name}", daemon=True)

    def start(self) -> None:
        """Open the source and begin, in a thread."""
        self._thread.start()

    def edit(self, change: Callable[[SourceSettings], SourceSettings]) -> None:
        """Replace the settings by what `change` makes of them. Changes from several threads come one after the other.

        Raises:
            VljEdgeError: settings that the model cannot be used with; nothing changes.
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
        source, skipped = (None, 0) if self._source is None else (self._source.source, self._source.skipped)
        found["bad_frames"] = self._bad_before + getattr(source, "bad", 0) + skipped
        if isinstance(source, CameraSource):
            found |= {"frames_dropped": source.dropped, "restarts": source.restarts}
        return found

    def never_opened(self) -> bool:
        """Return whether it has ended without a source: no such file, or one that cannot be read."""
        return self.error is not None and self._source is None

    @property
    def problem(self) -> str | None:
        """Why it ended, or why its camera gives no picture, one line; None if nothing is wrong or known."""
        source = None if self._source is None else self._source.source
        failure = source.failure if isinstance(source, CameraSource) else None
        if self.error is not None or failure is None:
            return self.error
        return f"no picture: {failure}"

    def is_stuck(self) -> bool:
        """Return whether a live source has given frames for over a minute from which no window was made."""
        source = self._source
        return (
            source is not None
            and source.source.live
            and source.latest_at - self.statistics.last_window_at > _STUCK_AFTER
        )

    def request_stop(self) -> None:
        """Let the channel end soon. Returns at once."""
        self._stopping.set()
        if self._source is not None:
            self._source.source.interrupt()

    def stop(self) -> None:
        """Stop within a second, whatever the source does; only a caption that is being decoded is waited for."""
        self.request_stop()
        source, frames, run = self._source, self._frames, self._run
        if source is None or frames is None or run is None:  # the source is still being opened
            self.join(_SOURCE_GRACE)
            return
        # Both of these may block for as long as the source does, so each gets a thread that can be left behind.
        for close in (source.source.close, run.close):
            if frames.finished.wait(_SOURCE_GRACE):
                self.join(_CAPTION_GRACE)
                return
            threading.Thread(target=close, name="close source", daemon=True).start()
        self.join(_SOURCE_GRACE)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the channel has ended; return whether it has, or was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                self._source = ResumableSource(self._open())
                self._play(self._source)
                if not self._loops(self._source):
                    break
                self._bad_before = self.counts()["bad_frames"]
                self._source.close()
        except VljEdgeError as error:
            self.error = str(error)
        except Exception as error:  # one source that fails must not end the others, and a thread has no caller to tell
            self.error = f"{self.settings.name} failed inside vlj-edge ({error!r}): please report it"
        finally:
            if self._source is not None:
                self._source.close()
            self._set_state("ended")
            self._report_error()

    def _open(self) -> Source:
        rate = self._context.model.manifest.clip.frames_per_second
        source = open_source(
            self.settings.uri,
            rotate=self.settings.rotate,
            decoder=self.settings.decoder,
            sampled_at=rate,
            keep_trying=self._context.keep_trying,
            on_state=self._set_state,
        )
        if source.live:
            return source
        if self.settings.loop and not source.rereadable:
            source.close()
            raise VljEdgeError(f"{self.settings.name} can be read only once, as a pipe can: leave loop out")
        self._set_state("live")
        return PacedSource(source) if self._context.real_time else source

    def _play(self, source: ResumableSource) -> None:
        """Narrate to the end of the source, in as many runs as its settings ask for.

        Raises:
            VljEdgeError: it broke off. Of a recording that begins again this is only kept and reported.
        """
        while not self._stopping.is_set() and not source.ended:
            try:
                self._narrate(source, self.settings)
            except VljEdgeError as error:
                if not self._loops(source) or source.latest is None or source.source.incomplete is None:
                    raise
                self.error = str(error)
                self._report_error()

    def _loops(self, source: ResumableSource) -> bool:
        return self.settings.loop and source.source.rereadable

    def _report_error(self) -> None:
        if self.error != self._reported_error and self.error is not None:
            self._context.on_error(self.settings.name, self.error)
        self._reported_error = self.error

    def _narrate(self, source: ResumableSource, settings: SourceSettings) -> None:
        """Narrate until these are no longer the channel's settings, or the run ends otherwise."""
        frames = source.next_run(lambda: self.settings is settings and not self._stopping.is_set())
        bank = self._context.label_bank(settings.labels) if settings.labels else None
        if bank is None:
            self.label = None
        watch = partial(self._report, settings, frames, bank)
        run = self._context.model.narrate(frames, settings.query, gates=settings.gates, watch=watch)
        self._frames, self._run = frames, run
        self.statistics.start_run(run)
        try:
            for narration in run:
                self._emit(replace(narration, start=narration.start + frames.offset, end=narration.end + frames.offset))
        finally:
            run.close()
            self.statistics.end_run()

    def _emit(self, narration: Narration) -> None:
        number = 1 if self.last_event is None else self.last_event.number + 1
        self.last_event = Event(self.settings.name, narration, time.time(), number)
        self._context.on_event(self.last_event)

    def _report(
        self, settings: SourceSettings, frames: SourceRun, bank: LabelBank | None, report: WindowReport
    ) -> None:
        self._context.on_report(settings, time.time(), report)
        if bank is not None and report.embedding is not None:
            self.label = bank.labels[int((bank.embeddings @ report.embedding).argmax())]
            report = replace(report, label=self.label)
        centre = report.window.centre + frames.offset
        self.statistics.add_report(centre, replace(report, embedding=None), self._delay(frames, report))

    def _delay(self, frames: SourceRun, report: WindowReport) -> float | None:
        """Return the age of the window's newest sample, seconds; None where the source's clock is unknown."""
        origin: float | None = getattr(self._source and self._source.source, "origin", None)
        if origin is None:
            return None
        newest = report.window.end - 1 / self._context.model.manifest.clip.frames_per_second
        return time.monotonic() - (origin + frames.offset + newest)

    def _set_state(self, state: CameraState) -> None:
        self.state = state
        problem = self.problem or "no picture"
        if state == "lost" and problem != self._logged_problem:
            self._logged_problem = problem
            _LOG.warning("%s: %s", self.settings.name, problem)
        elif state == "live" and self._logged_problem is not None:
            self._logged_problem = None
            _LOG.info("%s gives pictures again", self.settings.name)
