"""The rows of a profile's table: one for each stage that was recorded, and for windows without and with a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .probe import Probe

Values: TypeAlias = npt.NDArray[np.float64]

# In the order in which a frame passes them; the decoder's stages come after these.
STAGES = (
    "capture",
    "preprocess",
    "token choice",
    "scene gate",
    "normalise",
    "vision_encoder",
    "predictor",
    "meaning gate",
)
DECODER_STAGES = ("decoder, first", "decoder, token")
WINDOWS = ("window without text", "window with text")


@dataclass(frozen=True)
class StageRow:
    """One stage: number of calls, and times in milliseconds; None where not measured.

    Attributes:
        sd: standard deviation of the calls' times.
        enqueue_p50: host time to queue a run, where the backend returns before the run is done.
        device_p50: device time of a run, by the device's own clock.
        share: fraction (0 to 1) of the time of all stages; stages overlap, so these are not fractions of wall time.
        variation: standard deviation divided by mean.
    """

    stage: str
    calls: int
    min: float
    mean: float
    sd: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    enqueue_p50: float | None
    device_p50: float | None
    share: float
    variation: float


def distribution(values: Values) -> dict[str, float]:
    """Return min, mean, sd, p50, p90, p95, p99 and max of one value or more."""
    p50, p90, p95, p99 = (float(x) for x in np.percentile(values, (50, 90, 95, 99)))
    middle = {"min": float(values.min()), "mean": float(values.mean()), "sd": float(values.std())}
    return middle | {"p50": p50, "p90": p90, "p95": p95, "p99": p99, "max": float(values.max())}


def stage_rows(probe: Probe) -> list[StageRow]:
    """Return a row for each stage that was recorded, in the order of a frame's way."""
    times: dict[str, list[float]] = {}
    for span in list(probe.spans):
        times.setdefault(span.stage, []).append((span.end - span.start) * 1e3)
    whole = sum(sum(values) for values in times.values())
    for has_text, seconds in list(probe.windows):  # two rows: decoding would dominate a common median
        times.setdefault(WINDOWS[has_text], []).append(seconds * 1e3)
    return [
        _row(stage, np.array(times[stage]), whole, probe)
        for stage in (*STAGES, *DECODER_STAGES, *WINDOWS)
        if stage in times
    ]


def _row(stage: str, values: Values, whole: float, probe: Probe) -> StageRow:
    engine = "decoder" if stage in DECODER_STAGES else stage
    queued, device = probe.enqueued.get(engine), probe.on_device.get(engine)
    return StageRow(
        stage=stage,
        calls=len(values),
        enqueue_p50=float(np.median(queued)) * 1e3 if queued and device else None,
        device_p50=float(np.median(device)) if device else None,
        share=float(values.sum()) / whole if whole and stage not in WINDOWS else 0.0,
        variation=float(values.std() / values.mean()) if values.mean() else 0.0,
        **distribution(values),
    )
