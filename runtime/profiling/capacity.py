"""How many windows a second the machine sustains, how many cameras that is, and which stage limits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlj_edge.presets import Clip
from vlj_edge.results import Totals

from .probe import Span
from .stages import DECODER_STAGES

_READING = ("capture", "preprocess")


@dataclass(frozen=True)
class Capacity:
    """What a run says about the machine, with the gates and the scene of that run.

    Attributes:
        windows_a_second: of a recording, those decided on in a second; of a live source, which gives no more than it
            has, as many as the busiest thread could work on.
        camera_windows_a_second: windows that one camera gives in a second.
        limited_by: the stage that takes most of the busiest thread's time, or "the source".
        limit_share: that stage's fraction (0 to 1) of the wall time.
    """

    windows_a_second: float
    camera_windows_a_second: float
    limited_by: str
    limit_share: float

    @property
    def cameras(self) -> int:
        """Number of cameras that can be watched at once."""
        return int(self.windows_a_second / self.camera_windows_a_second + 1e-9)


def capacity(spans: Sequence[Span], totals: Totals, clip: Clip, live: bool, overlap: bool) -> Capacity | None:
    """Return what the spans of a run say; None if no window was decided on.

    Args:
        live: the source gives frames in real time: the time of "capture" is spent waiting for it.
        overlap: reading, encoding and decoding have a thread each.
    """
    if not totals.windows or not totals.wall_seconds:
        return None
    threads: dict[str, dict[str, float]] = {}
    for span in spans:
        if not (live and span.stage == "capture"):
            stages = threads.setdefault(_thread_of(span.stage) if overlap else "all", {})
            stages[span.stage] = stages.get(span.stage, 0.0) + span.end - span.start
    busiest = max(threads.values(), key=lambda stages: sum(stages.values()), default={})
    busy = sum(busiest.values())
    rate = clip.frames_per_second / clip.stride
    if not busy:
        return None
    stage = max(busiest, key=lambda name: busiest[name])
    share = min(1.0, busiest[stage] / totals.wall_seconds)
    if not live:
        limit = "reading the source" if stage == "capture" else stage
        return Capacity(totals.windows / totals.wall_seconds, rate, limit, share)
    limit = stage if totals.windows_dropped else "the source"
    return Capacity(totals.windows / busy, rate, limit, share)


def _thread_of(stage: str) -> str:
    if stage in _READING:
        return "reading"
    return "decoding" if stage in DECODER_STAGES else "encoding"
