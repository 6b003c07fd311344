"""Measure passes over a source: the time of each stage, energy, clocks and counts."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from vlj_edge.bundle import GateSettings
from vlj_edge.results import Narration, Totals, WindowReport

from ..model import Model
from ..stream.run import Run
from ..video.arrays import AnySource, to_source
from ..video.source import Source
from .capacity import capacity
from .clocks import Clocks, read_clocks, throttle_count
from .conditions import Conditions, conditions
from .power import EnergyMeter, Power
from .probe import Probe
from .result import Profile
from .stages import DECODER_STAGES, StageRow, distribution, stage_rows

_UNSTABLE = 0.2  # coefficient of variation above which a median does not describe a stage
_ENQUEUE_BOUND = 0.5  # host share of a run's device time above which the device waits for the host

Watch = Callable[[Run[Narration], Source], AbstractContextManager[None]]


class Measurement:
    """A profile in the making: profile() returns what was measured so far, also after Ctrl-C or an error.

    Args:
        model: a Model made with this probe.
        gates: gate settings in place of the bundle's.
        command: the command line that began it.
    """

    def __init__(
        self,
        model: Model,
        probe: Probe,
        query: str | None = None,
        gates: GateSettings | None = None,
        command: str = "",
    ) -> None:
        self._command, self._conditions = command, Conditions()
        self._model, self._probe, self._query, self._gates = model, probe, query, gates
        self._runs: list[Run[Narration]] = []
        self._powers: list[tuple[float, Power]] = []  # seconds of each pass, and what it took
        self._clocks: Clocks | None = None
        self._cpu_seconds, self._warm_up, self._ended = 0.0, 0, "nothing"
        self.texts: list[tuple[float, str]] = []

    @property
    def windows(self) -> int:
        """Number of windows that were measured so far."""
        return sum(run.totals.windows for run in self._runs)

    @property
    def complete(self) -> bool:
        """Whether the last pass came to its end or limit."""
        return self._ended not in ("nothing", "interrupted")

    def warm_up(self, runs: int) -> None:
        """Run the engines before measuring: the first runs allocate memory and choose algorithms.

        Raises:
            VljEdgeError: an engine cannot be loaded, or the backend failed.
        """
        _warm_up(self._model, runs)
        self._warm_up = runs
        self._probe.clear()

    def read(
        self,
        source: AnySource,
        seconds: float | None = None,
        windows: int | None = None,
        watch: Watch = lambda run, source: nullcontext(),
    ) -> None:
        """Narrate a source, to its end or up to a limit, and measure every stage. Each call adds a pass.

        Args:
            seconds: of wall time after which the pass is closed, within a second.
            windows: after as many, the pass ends; those before are decoded.
            watch: entered with the run and its source while the pass goes on, to show its progress.

        Raises:
            VljEdgeError: as Model.narrate; what was measured until then stays.
        """
        opened = to_source(source, self._model.manifest.clip.frames_per_second)
        throttles, self._ended = throttle_count(), "interrupted"
        self._conditions = self._conditions or conditions(self._model, opened.shown, self._command)
        limit = _WindowLimit(windows)
        run = self._model.narrate(
            opened, query=self._query, gates=self._gates, watch=None if windows is None else limit.count
        )
        self._runs.append(run)
        cpu, meter = time.process_time(), EnergyMeter()
        try:
            with run, meter, watch(run, opened), _closed_after(run, seconds) as timer, suppress(_Enough):
                for event in run:
                    self.texts.append((event.centre, event.text))
            self._ended = f"{windows} windows" if limit.reached else timer() or "the end of the source"
        finally:
            self._clocks = read_clocks(throttles)
            self._cpu_seconds += time.process_time() - cpu
            self._powers.append((run.totals.wall_seconds, meter.power))

    def profile(self) -> Profile:
        """Return what was measured so far."""
        model, probe = self._model, self._probe
        rows, totals = stage_rows(probe), _sum([run.totals for run in self._runs])
        live = any(run.live for run in self._runs)
        clocks = self._clocks or read_clocks()
        to_text = _milliseconds(
            probe.text_ages if live else [seconds for has_text, seconds in probe.windows if has_text]
        )
        passes = [run.totals for run in self._runs if run.totals.wall_seconds]
        return Profile(
            bundle=str(model.directory),
            backend=model.backend.description,
            rows=rows,
            totals=totals,
            capacity=capacity(list(probe.spans), totals, model.manifest.clip, live, model.overlap),
            rates=[each.windows / each.wall_seconds for each in passes],
            cpu_seconds=self._cpu_seconds,
            peak_megabytes=_peak_megabytes(),
            power=_together(self._powers),
            clocks=clocks,
            frames=next((row.calls for row in rows if row.stage == "capture"), 0),
            ages=_milliseconds(probe.ages) if live else None,
            to_text=to_text,
            kept_tokens=distribution(np.array(probe.kept_tokens)) if probe.kept_tokens else None,
            ended=self._ended,
            conditions=self._conditions,
            warnings=_warnings(rows, totals, clocks),
            how=self._how(totals),
            texts=list(self.texts),
        )

    def _how(self, totals: Totals) -> dict[str, Any]:
        model = self._model
        gates = asdict(self._gates or model.manifest.gates)
        return {
            "overlap": model.overlap,
            "warm_up_runs": self._warm_up,
            "passes": len(self._runs),
            "windows": totals.windows,
            "tokens": model.tokens,
            "precision": {name: spec.precision for name, spec in model.manifest.engines.items()},
            "cuda_graph": model.backend.cuda_graph,
            "gates": {name: gate["enabled"] for name, gate in gates.items() if "enabled" in gate},
        }


def profile(
    model: Model,
    source: AnySource,
    probe: Probe,
    query: str | None = None,
    gates: GateSettings | None = None,
    warm_up: int = 3,
) -> Profile:
    """Narrate a source to its end and measure every stage.

    Args:
        model: a Model made with this probe.
        gates: gate settings in place of the bundle's.
        warm_up: runs of the engines before the measurement.

    Raises:
        VljEdgeError: as Model.narrate.
    """
    measurement = Measurement(model, probe, query, gates)
    measurement.warm_up(warm_up)
    measurement.read(source)
    return measurement.profile()


class _Enough(Exception):
    """As many windows as were asked for."""


class _WindowLimit:
    """Ends a run after a number of windows."""

    def __init__(self, windows: int | None) -> None:
        self._windows, self._counted, self.reached = windows, 0, False

    def count(self, report: WindowReport) -> None:
        self._counted += 1
        if self._counted == self._windows:
            self.reached = True
            raise _Enough


@contextmanager
def _closed_after(run: Run[Any], seconds: float | None) -> Iterator[Callable[[], str | None]]:
    """Close the run after these seconds; yield a function that says so afterwards, or returns None."""
    if seconds is None:
        yield lambda: None
        return
    over = threading.Event()

    def close() -> None:
        over.set()
        run.close()

    timer = threading.Timer(seconds, close)
    timer.daemon = True
    timer.start()
    try:
        yield lambda: f"{seconds:g} seconds" if over.is_set() else None
    finally:
        timer.cancel()


def _sum(passes: list[Totals]) -> Totals:
    """Return the counts of all passes."""
    counts = {each.name: sum(getattr(totals, each.name) for totals in passes) for each in fields(Totals)}
    return replace(Totals(**counts), video_end=max((totals.video_end for totals in passes), default=0.0))


def _together(passes: list[tuple[float, Power]]) -> Power:
    """Return the power of all passes."""
    if not passes:
        return Power(None, None, "unknown", None)
    last, joules, seconds = passes[-1][1], 0.0, 0.0
    for wall, power in passes:
        if power.joules is None:
            return Power(None, None, "unknown", last.celsius)
        joules, seconds = joules + power.joules, seconds + wall
    watts = last.watts if len(passes) == 1 else joules / seconds if seconds else None
    return Power(joules, watts, last.source, last.celsius)


def _milliseconds(seconds: list[float]) -> dict[str, float] | None:
    return distribution(1e3 * np.array(seconds)) if seconds else None


def _warm_up(model: Model, runs: int) -> None:
    """Run the engines before measuring: the first runs allocate memory and choose algorithms."""
    vision = model.chain.vision
    for _ in range(runs):
        vision.run()
        vision.last.wait()
    if "decoder" in model.manifest.engines:
        for _ in range(runs):
            model.chain.decode(np.full(model.manifest.embedding, model.manifest.embedding**-0.5, np.float32))


def _warnings(rows: list[StageRow], totals: Totals, clocks: Clocks) -> list[str]:
    """Return what makes the measurements unreliable, one line each."""
    found = []
    for row in rows:
        if (
            row.stage in ("vision_encoder", "predictor", *DECODER_STAGES)
            and row.variation > _UNSTABLE
            and row.calls > 1
        ):
            found.append(f"{row.stage} is unstable: its time varies by {row.variation:.0%}; close other programs")
        if row.enqueue_p50 and row.device_p50 and row.enqueue_p50 > _ENQUEUE_BOUND * row.device_p50:
            found.append(f"{row.stage} is enqueue-bound: {row.enqueue_p50:.2f} of {row.device_p50:.2f} ms")
    if clocks.throttled:
        found.append("the CPU or GPU was throttled: cool it, or choose a lower power mode")
    if totals.windows_dropped:
        found.append(f"{totals.windows_dropped} windows were dropped: the device is slower than the camera")
    if totals.windows < 20:
        found.append(f"only {totals.windows} windows: percentiles are unreliable")
    return found


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
