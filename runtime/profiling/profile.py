"""Profile a run: a table of stages, totals, power, clocks and warnings."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import GateSettings
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Totals

from ..model import Model
from ..video.arrays import AnySource
from ..video.source import Source
from .clocks import Clocks, read_clocks, throttle_count
from .power import EnergyMeter, Power
from .probe import Probe

Values: TypeAlias = npt.NDArray[np.float64]

# In the order in which a frame passes them; the decoder's stages come after these.
STAGES = ("capture", "preprocess", "scene gate", "normalise", "vision_encoder", "predictor", "meaning gate")
_DECODER = ("decoder, first", "decoder, token")
_UNSTABLE = 0.2  # coefficient of variation above which a median does not describe a stage
_ENQUEUE_BOUND = 0.5  # host share of a run's device time above which the device waits for the host


@dataclass(frozen=True)
class StageRow:
    """One stage: number of calls, and times in milliseconds; None where not measured.

    Attributes:
        enqueue_p50: host time to queue a run, where the backend returns before the run is done.
        device_p50: device time of a run, by the device's own clock.
        share: fraction (0 to 1) of the time of all stages; stages overlap, so these are not fractions of wall time.
        variation: standard deviation divided by mean.
    """

    stage: str
    calls: int
    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    enqueue_p50: float | None
    device_p50: float | None
    share: float
    variation: float


@dataclass
class Profile:
    """Measurements of one run.

    Attributes:
        rows: one a stage; then the end-to-end time of windows without and with a text.
        totals: counts of the run.
        cpu_seconds: CPU time of all threads of this process, without the warm-up.
        peak_megabytes: highest resident memory of this process.
        clocks: at the end of the run.
        frames: number of captured frames.
        ages: median and 95th percentile of the milliseconds from a window's last frame to the gate's decision; None
            unless the source is live.
        warnings: one line each.
        how: settings of the measurement.
        texts: (centre in seconds, text).
    """

    bundle: str
    backend: str
    rows: list[StageRow]
    totals: Totals
    cpu_seconds: float
    peak_megabytes: float
    power: Power
    clocks: Clocks
    frames: int
    ages: tuple[float, float] | None
    warnings: list[str]
    how: dict[str, Any]
    texts: list[tuple[float, str]] = field(default_factory=list)

    @property
    def windows_a_second(self) -> float:
        """Windows per second of wall time."""
        return self.totals.windows / self.totals.wall_seconds if self.totals.wall_seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the profile in plain JSON types."""
        totals = self.totals
        minutes = totals.video_seconds / 60 or None
        joules = self.power.joules
        wall = totals.wall_seconds or None
        summary = {
            "frames_a_second": self.frames / wall if wall else None,
            "windows_a_second": self.windows_a_second,
            "frame_age_p50": self.ages[0] if self.ages else None,
            "frame_age_p95": self.ages[1] if self.ages else None,
            "windows_dropped": totals.windows_dropped,
            "encoder_skipped": 1 - totals.encoder_runs / totals.windows if totals.windows else None,
            "decoder_skipped": 1 - totals.decoder_runs / totals.windows if totals.windows else None,
            "texts_a_minute": totals.narrations / minutes if minutes else None,
            "decodes_a_minute": totals.decoder_runs / minutes if minutes else None,
            "cpu_seconds_a_minute": self.cpu_seconds / minutes if minutes else None,
            "peak_megabytes": self.peak_megabytes,
            "watts": self.power.watts,
            "joules_a_window": joules / totals.windows if joules is not None and totals.windows else None,
            "joules_a_text": joules / totals.narrations if joules is not None and totals.narrations else None,
            "power_from": self.power.source,
            "celsius": self.power.celsius,
            **asdict(self.clocks),
        }
        return {
            "bundle": self.bundle,
            "backend": self.backend,
            "stages": [asdict(row) for row in self.rows],
            "summary": summary,
            "totals": totals.as_dict(),
            "warnings": self.warnings,
            "how": self.how,
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
    _warm_up(model, warm_up)
    probe.clear()
    throttles, cpu = throttle_count(), time.process_time()
    with EnergyMeter() as meter:
        run = model.narrate(source, query=query, gates=gates)
        texts = [(event.centre, event.text) for event in run]
        clocks = read_clocks(throttles)
    cpu = time.process_time() - cpu
    rows = _rows(probe)
    return Profile(
        bundle=str(model.directory),
        backend=model.backend.description,
        rows=rows,
        totals=run.totals,
        cpu_seconds=cpu,
        peak_megabytes=_peak_megabytes(),
        power=meter.power,
        clocks=clocks,
        frames=next((row.calls for row in rows if row.stage == "capture"), 0),
        ages=_ages(probe) if run.live else None,
        warnings=_warnings(rows, run.totals, clocks),
        how={
            "overlap": model.overlap,
            "warm_up_runs": warm_up,
            "windows": run.totals.windows,
            "precision": {name: spec.precision for name, spec in model.manifest.engines.items()},
            "cuda_graph": model.backend.name == "tensorrt",
            "gates": {
                name: gate["enabled"]
                for name, gate in asdict(gates or model.manifest.gates).items()
                if "enabled" in gate
            },
        },
        texts=texts,
    )


def compare_profiles(
    ours: Path,
    theirs: Path,
    source: AnySource | Callable[[], Source],
    rounds: int,
    gates: GateSettings | None = None,
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Profile two bundles on the same source, alternately and in both orders, and compare their medians.

    Args:
        source: one that can be read repeatedly, or a function that returns a new Source.

    Returns:
        Quantity in milliseconds -> ours, theirs, ratio (ours / theirs), low and high of its 95 % bootstrap interval.

    Raises:
        VljEdgeError: fewer than two rounds, or as profile().
    """
    if rounds < 2:
        raise VljEdgeError(f"{rounds} rounds give no interval: use --rounds 2 or more")
    probes = [Probe(), Probe()]
    found: list[list[Profile]] = [[], []]
    with Model(ours, probe=probes[0], **options) as one, Model(theirs, probe=probes[1], **options) as other:
        for number in range(rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                opened = source() if callable(source) else source
                found[which].append(profile((one, other)[which], opened, probes[which], gates=gates))
    quantities: dict[str, Callable[[Profile], float]] = {
        "milliseconds a window": lambda p: 1e3 / p.windows_a_second,
        "CPU milliseconds a window": lambda p: 1e3 * p.cpu_seconds / p.totals.windows,
    }
    common = {row.stage for row in found[0][0].rows} & {row.stage for row in found[1][0].rows}
    for stage in (row.stage for row in found[0][0].rows if row.stage in common):
        quantities[f"{stage}, p50"] = partial(_p50, stage)
    return {
        name: _ratio(*(np.array([quantity(p) for p in profiles]) for profiles in found))
        for name, quantity in quantities.items()
    }


def _p50(stage: str, found: Profile) -> float:
    return next((row.p50 for row in found.rows if row.stage == stage), float("nan"))


def _ratio(ours: Values, theirs: Values) -> dict[str, float]:
    rng = np.random.default_rng(0)
    drawn = [rng.choice(values, (2000, len(values))) for values in (ours, theirs)]
    ratios = np.median(drawn[0], axis=1) / np.median(drawn[1], axis=1)
    low, high = (float(x) for x in np.percentile(ratios, (2.5, 97.5)))
    middle = float(np.median(ours)), float(np.median(theirs))
    return {"ours": middle[0], "theirs": middle[1], "ratio": middle[0] / middle[1], "low": low, "high": high}


def _warm_up(model: Model, runs: int) -> None:
    """Run the engines before measuring: the first runs allocate memory and choose algorithms."""
    vision = model.chain.vision
    for _ in range(runs):
        vision.run()
        vision.last.wait()
    if "decoder" in model.manifest.engines:
        for _ in range(runs):
            model.chain.decode(np.full(model.manifest.embedding, model.manifest.embedding**-0.5, np.float32))


def _rows(probe: Probe) -> list[StageRow]:
    times: dict[str, list[float]] = {}
    for span in probe.spans:
        times.setdefault(span.stage, []).append((span.end - span.start) * 1e3)
    whole = sum(sum(values) for values in times.values())
    for has_text, seconds in probe.windows:  # two rows: decoding would dominate a common median
        times.setdefault(_WINDOWS[has_text], []).append(seconds * 1e3)
    rows = []
    for stage in (*STAGES, *_DECODER, *_WINDOWS):
        if stage in times:
            rows.append(_row(stage, np.array(times[stage]), whole, probe))
    return rows


_WINDOWS = ("window without text", "window with text")


def _row(stage: str, values: Values, whole: float, probe: Probe) -> StageRow:
    p50, p90, p95, p99 = (float(x) for x in np.percentile(values, (50, 90, 95, 99)))
    engine = "decoder" if stage in _DECODER else stage
    queued, device = probe.enqueued.get(engine), probe.on_device.get(engine)
    return StageRow(
        stage=stage,
        calls=len(values),
        min=float(values.min()),
        mean=float(values.mean()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=float(values.max()),
        enqueue_p50=float(np.median(queued)) * 1e3 if queued and device else None,
        device_p50=float(np.median(device)) if device else None,
        share=float(values.sum()) / whole if whole and stage not in _WINDOWS else 0.0,
        variation=float(values.std() / values.mean()) if values.mean() else 0.0,
    )


def _ages(probe: Probe) -> tuple[float, float] | None:
    if not probe.ages:
        return None
    p50, p95 = (1e3 * float(x) for x in np.percentile(probe.ages, (50, 95)))
    return p50, p95


def _warnings(rows: list[StageRow], totals: Totals, clocks: Clocks) -> list[str]:
    """Return what makes the measurements unreliable, one line each."""
    found = []
    for row in rows:
        if row.stage in ("vision_encoder", "predictor", *_DECODER) and row.variation > _UNSTABLE and row.calls > 1:
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
