"""Several sources at once: one chain, in fair turns; each has gates, settings and numbers of its own.

channel -> source -> Tap -> Model.narrate -> Event -> outlets

A channel outlives passes over its source: its settings may change, and its camera may be lost and come back. Each time
a new pass begins, with gates that know nothing, so that something is said at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import GateSettings
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration, Totals, WindowReport

from ..embedding.labels import LabelBank, make_bank
from ..model import Model
from ..sinks.base import Event
from ..stream.run import Run
from ..video.camera import CameraSource, CameraState
from ..video.source import Frame, Source
from ..video.uri import open_source

See: TypeAlias = "Callable[[SourceSettings, float, WindowReport], None]"

_GAP = 3.0  # seconds without a frame after which what comes is a new beginning
_REMEMBERED = 600  # looks of a channel that are kept, five minutes of two a second
_DELAYS = 512  # delays that percentiles are made of
_STUCK = 60.0  # seconds without a window, although pictures come, after which a channel is taken to hang


@dataclass(frozen=True)
class SourceSettings:
    """A source that is to be narrated.

    Attributes:
        name: unique; what its events are called.
        uri: as of uris.open_source().
        query, gates: None: the bundle's.
        labels: of which the nearest is told with every window that is encoded.
    """

    name: str
    uri: str
    query: str | None = None
    gates: GateSettings | None = None
    labels: tuple[str, ...] = ()


class ResumableSource(Source):
    """One source for many passes: each begins where the one before was cut, with times from its own first frame.

    Attributes:
        latest, latest_at: the newest frame, and the time.monotonic() at which it came.
        offset: seconds from the source's first frame to that of this pass.
        skipped: frames that were older than the one before them.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.live, self.period = source, source.live, source.period
        self.latest: Frame | None = None
        self.offset, self.ended, self.latest_at, self.skipped = 0.0, False, 0.0, 0
        self._frames = iter(source)
        self._held: Frame | None = None
        self._cut = threading.Event()

    def cut(self) -> None:
        """End this pass."""
        self._cut.set()

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        self._cut.clear()
        first: float | None = None
        while not self._cut.is_set():
            frame, self._held = self._held or next(self._frames, None), None
            if frame is None:
                self.ended, self.incomplete = True, self.source.incomplete
                return
            if self.live and self.latest is not None and frame.time < self.latest.time:
                self.skipped += 1  # it goes back in time
                continue
            before, self.latest = self.latest, frame
            self.latest_at = time.monotonic()
            if self.live and first is not None and before is not None and frame.time - before.time > _GAP:
                self._held = frame
                return
            if first is None:
                first = self.offset = frame.time
            self.period = self.source.period
            yield Frame(frame.time - first, frame.image)


class Channel:
    """One source of a station. What is read of it from other threads is a number, or replaced as a whole.

    Attributes:
        wanted: with the settings that hold now.
        state: of a live source; "live" and "ended" of others.
        error: why it ended, if that was no good reason; one line.
        looks: (seconds in the source, Look) of the last windows.
        last: the newest event.
        label: the nearest of the wanted labels, as of the last window that was encoded; None: there are none.
    """

    def __init__(
        self,
        wanted: SourceSettings,
        model: Model,
        emit: Callable[[Event], None],
        keep_trying: bool,
        see: See,
    ) -> None:
        self.wanted, self._model, self._emit, self._keep_trying = wanted, model, emit, keep_trying
        self._see = see
        self.state: CameraState = "connecting"
        self.error: str | None = None
        self.last: Event | None = None
        self.label: str | None = None
        self._bank: LabelBank | None = None
        self.looks: deque[tuple[float, WindowReport]] = deque(maxlen=_REMEMBERED)
        self._delays: deque[float] = deque(maxlen=_DELAYS)
        self._passed = Totals()
        self._pass: Run[Narration] | None = None
        self._tap: ResumableSource | None = None
        self._number, self._counting = 0, threading.Lock()
        self._looked_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"channel {wanted.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def change(
        self, query: str | None = None, gates: GateSettings | None = None, labels: Sequence[str] | None = None
    ) -> None:
        """Go on with other settings; None leaves one as it is.

        Raises:
            VljEdgeError: the model cannot be asked that, such gates cannot be, or labels that cannot be told apart.
        """
        self._model.validate(query, gates)
        if labels:
            label_bank_of(self._model, tuple(labels))
        changed = {"query": query, "gates": gates, "labels": None if labels is None else tuple(labels)}
        given: dict[str, Any] = {name: value for name, value in changed.items() if value is not None}
        self.settle(replace(self.wanted, **given))

    def settle(self, wanted: SourceSettings) -> None:
        """Go on as wanted, from a new pass on. It must have been checked."""
        self.wanted = wanted
        if self._tap is not None:
            self._tap.cut()

    def stuck(self) -> bool:
        """Pictures have come for longer than a minute, and no window was dealt with."""
        tap = self._tap
        return tap is not None and tap.live and tap.latest_at - self._looked_at > _STUCK

    def picture(self) -> npt.NDArray[np.uint8] | None:
        """The newest frame, uint8 [height, width, 3] BGR; None: there was none yet."""
        frame = self._tap.latest if self._tap is not None else None
        return None if frame is None else frame.image

    def counts(self) -> dict[str, Any]:
        """Plain numbers of all passes together, and how old a window's newest sample is once it was
        dealt with, seconds."""
        with self._counting:
            totals = self._passed if self._pass is None else sum_totals(self._passed, self._pass.totals)
        source = self._tap.source if self._tap is not None else None
        delays = sorted(self._delays)
        found = totals.as_dict() | {"events": self._number, "bad_frames": getattr(source, "bad", 0)}
        found["bad_frames"] += self._tap.skipped if self._tap is not None else 0
        if isinstance(source, CameraSource):
            found |= {"frames_dropped": source.dropped, "restarts": source.restarts}
        for share in (50, 95, 99):
            found[f"delay_p{share}"] = round(delays[(len(delays) - 1) * share // 100], 3) if delays else None
        return found

    def stop(self) -> None:
        """End, whatever is at work; join() waits for it."""
        self._stop.set()
        tap = self._tap
        if tap is not None:
            tap.cut()
            tap.source.close()

    def join(self, timeout: float | None = None) -> bool:
        """Has it ended?"""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            rate = self._model.manifest.clip.frames_per_second
            source = open_source(self.wanted.uri, rate, self._keep_trying, self._be)
            tap = self._tap = ResumableSource(source)
            if not source.live:
                self._be("live")
            while not self._stop.is_set() and not tap.ended:
                self._run(tap)
        except VljEdgeError as error:
            self.error = str(error)
        except Exception as error:  # one source that fails must not end the others, and a thread has no caller to tell
            self.error = f"{self.wanted.name} failed inside vlj-edge ({error!r}): please report it"
        finally:
            if self._tap is not None:
                self._tap.source.close()
            self._be("ended")

    def _run(self, tap: ResumableSource) -> None:
        with_settings = self.wanted
        self._know(with_settings.labels)
        look = partial(self._look, with_settings)
        narrations = self._model.narrate(tap, with_settings.query, gates=with_settings.gates, watch=look)
        with self._counting:
            self._pass = narrations
        try:
            for narration in narrations:
                shifted = replace(narration, start=narration.start + tap.offset, end=narration.end + tap.offset)
                self._number += 1
                self.last = Event(self.wanted.name, shifted, time.time(), self._number)
                self._emit(self.last)
        finally:
            narrations.close()
            with self._counting:
                self._passed, self._pass = sum_totals(self._passed, narrations.totals), None

    def _know(self, labels: tuple[str, ...]) -> None:
        """Have the bank of these labels."""
        self._bank = label_bank_of(self._model, labels) if labels else None
        if self._bank is None:
            self.label = None

    def _look(self, with_settings: SourceSettings, look: WindowReport) -> None:
        tap = self._tap
        if tap is None:
            return
        self._looked_at = time.monotonic()
        self._see(with_settings, time.time(), look)
        if self._bank is not None and look.embedding is not None:
            self.label = self._bank.labels[int((self._bank.embeddings @ look.embedding).argmax())]
            look = replace(look, label=self.label)
        self.looks.append((look.window.centre + tap.offset, replace(look, embedding=None)))
        origin = getattr(tap.source, "origin", None)
        if origin is not None:
            newest = look.window.end - 1 / self._model.manifest.clip.frames_per_second  # sample of the window
            self._delays.append(time.monotonic() - (origin + tap.offset + newest))

    def _be(self, state: CameraState) -> None:
        self.state = state


@lru_cache(maxsize=16)
def label_bank_of(model: Model, labels: tuple[str, ...]) -> LabelBank:
    """Made once: when settings are checked, and not again by each pass and channel that has them."""
    return make_bank(model, labels)


def sum_totals(one: Totals, other: Totals) -> Totals:
    """Sums of all counts."""
    return Totals(**{name: value + getattr(other, name) for name, value in vars(one).items()})
