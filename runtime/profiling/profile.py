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

from ..model import AnySource, Model
from ..video.source import Source
from .clocks import Clocks, read_clocks, throttle_count
from .power import EnergyMeter, Power
from .probe import Probe

Values: TypeAlias = npt.NDArray[np.float64]

# Stages in the order of a frame's way; what a probe has noted besides comes after them.
STAGES = ("capture", "preprocess", "scene gate", "normalise", "vision_encoder", "predictor", "meaning gate")
_DECODER = ("decoder, first", "decoder, token")
_UNSTABLE = 0.2  # coefficient of variation above which one number does not describe a stage
_ENQUEUE_BOUND = 0.5  # of a run's time that the host spends queueing it: then the device waits for the host


@dataclass(frozen=True)
class StageRow:
    """One stage: number of calls, and milliseconds. None where it is not measured.

    Attributes:
        enqueue_p50: host time of a run, where the backend returns before it is done.
        device_p50: device time of a run, by the device's own clock.
        share: of all stages' time, 0..1; stages overlap, so it is work and not wall time.
        variation: standard deviation over mean.
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
    """What profile() found. Milliseconds, seconds, joules; None is unknown.

    Attributes:
        rows: stages; windows that decoded and windows that did not are rows of their own, by end-to-end time.
        totals: counts of the pass.
        cpu_seconds: of this process, all threads, warm-up left out.
        peak_megabytes: resident memory of this process, at its highest.
        clocks: at the end of the pass.
        frames: captured.
        ages: of a camera, how old the frame that completed a window is when the gate has decided: median and 95th
            percentile.
        warnings: one line each.
        how: how it was measured.
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
    said: list[tuple[float, str]] = field(default_factory=list)

    @property
    def windows_a_second(self) -> float:
        """Of wall time."""
        return self.totals.windows / self.totals.wall_seconds if self.totals.wall_seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
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
            "texts_a_minute": totals.said / minutes if minutes else None,
            "decodes_a_minute": totals.decoder_runs / minutes if minutes else None,
            "cpu_seconds_a_minute": self.cpu_seconds / minutes if minutes else None,
            "peak_megabytes": self.peak_megabytes,
            "watts": self.power.watts,
            "joules_a_window": joules / totals.windows if joules is not None and totals.windows else None,
            "joules_a_text": joules / totals.said if joules is not None and totals.said else None,
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
        said = [(event.centre, event.text) for event in run]
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
            "gates": {name: gate["enabled"] for name, gate in asdict(gates or model.manifest.gates).items()},
        },
        said=said,
    )


def compare_profiles(
    ours: Path,
    theirs: Path,
    source: AnySource | Callable[[], Source],
    rounds: int,
    gates: GateSettings | None = None,
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Two bundles on the same source, in turn and in both orders: medians of the rounds, and their ratio.

    Args:
        source: what can be read again and again, or makes a new Source each time.

    Returns:
        Quantity -> ours, theirs, ratio (ours / theirs) and the ends of its 95 % bootstrap interval. Milliseconds.

    Raises:
        VljEdgeError: as profile().
    """
    if rounds < 2:
        raise VljEdgeError(f"{rounds} rounds give no interval: name --rounds 2 or more")
    probes = [Probe(), Probe()]
    models = [Model(directory, probe=probe, **options) for directory, probe in zip((ours, theirs), probes, strict=True)]
    found: list[list[Profile]] = [[], []]
    for round_ in range(rounds):
        for which in (0, 1) if round_ % 2 == 0 else (1, 0):
            again = source() if callable(source) else source
            found[which].append(profile(models[which], again, probes[which], gates=gates))
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
    """The first runs of an engine allocate and choose; nobody's window should pay for them."""
    encoder, _, predictor = model.chain.vision
    for _ in range(runs):
        encoder.run()
        predictor.run()
        predictor.wait()
    if "decoder" in model.manifest.engines:
        for _ in range(runs):
            model.chain.decode(np.full(model.manifest.embedding, model.manifest.embedding**-0.5, np.float32))


def _rows(probe: Probe) -> list[StageRow]:
    times: dict[str, list[float]] = {}
    for span in probe.spans:
        times.setdefault(span.stage, []).append((span.end - span.start) * 1e3)
    whole = sum(sum(values) for values in times.values())
    for spoken, seconds in probe.windows:  # apart: the two have nothing in common, and one median would hide both
        times.setdefault(_WINDOWS[spoken], []).append(seconds * 1e3)
    rows = []
    for stage in (*STAGES, *_DECODER, *_WINDOWS):
        if stage in times:
            rows.append(_row(stage, np.array(times[stage]), whole, probe))
    return rows


_WINDOWS = ("window, silent", "window, spoken")


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
    """What makes the figures mean less than they seem to."""
    found = []
    for row in rows:
        if row.stage in ("vision_encoder", "predictor", *_DECODER) and row.variation > _UNSTABLE and row.calls > 1:
            found.append(f"{row.stage} is unstable: its time varies by {row.variation:.0%}; close other programs")
        if row.enqueue_p50 and row.device_p50 and row.enqueue_p50 > _ENQUEUE_BOUND * row.device_p50:
            found.append(f"{row.stage} is enqueue-bound: {row.enqueue_p50:.2f} of {row.device_p50:.2f} ms")
    if clocks.throttled:
        found.append("the processor or the card was slowed down: cool it, or choose a power mode that it can hold")
    if totals.windows_dropped:
        found.append(f"{totals.windows_dropped} windows were dropped: the device is slower than the camera")
    if totals.windows < 20:
        found.append(f"only {totals.windows} windows: percentiles mean little")
    return found


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
