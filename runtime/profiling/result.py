"""What a profile found: its rows, totals, power and clocks, and the summary of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vlj_edge.results import Totals

from .capacity import Capacity
from .clocks import Clocks
from .conditions import Conditions
from .power import Power
from .stages import StageRow


@dataclass
class Profile:
    """Measurements of one pass over a source, or of several.

    Attributes:
        rows: one a stage; then the end-to-end time of windows without and with a text.
        totals: counts of all passes.
        capacity: what the machine sustains; None if no window was measured.
        rates: windows per second of wall time of each pass.
        cpu_seconds: CPU time of all threads of this process, without the warm-up.
        peak_megabytes: highest resident memory of this process.
        clocks: at the end of the last pass.
        frames: number of captured frames.
        ages: of a live source, milliseconds from a window's last frame to the gate's decision about it; else None.
        to_text: milliseconds to a text: of a live source from the last frame of its window, queueing included; of a
            recording, which is read ahead, those of the work alone. None without a text.
        kept_tokens: fraction (0 to 1) of the visual tokens that the engines were given, over the encoded windows;
            None where all are taken.
        ended: what ended the measurement.
        conditions: machine, versions, bundle, source and command.
        warnings: one line each.
        how: settings of the measurement.
        texts: (centre in seconds, text).
    """

    bundle: str
    backend: str
    rows: list[StageRow]
    totals: Totals
    capacity: Capacity | None
    rates: list[float]
    cpu_seconds: float
    peak_megabytes: float
    power: Power
    clocks: Clocks
    frames: int
    ages: dict[str, float] | None
    to_text: dict[str, float] | None
    kept_tokens: dict[str, float] | None
    ended: str
    conditions: Conditions
    warnings: list[str]
    how: dict[str, Any]
    texts: list[tuple[float, str]] = field(default_factory=list)

    @property
    def windows_a_second(self) -> float:
        """Windows per second of wall time."""
        return self.totals.windows / self.totals.wall_seconds if self.totals.wall_seconds else 0.0

    @property
    def headline(self) -> str:
        """What the machine sustains, the time to a text and what limits both, in one line."""
        capacity = self.capacity
        if capacity is None:
            return "no window was measured"
        parts = [
            f"sustains {capacity.windows_a_second:.3g} windows/s = {capacity.cameras}"
            f" camera{'s' if capacity.cameras != 1 else ''} at {capacity.camera_windows_a_second:.3g}/s"
        ]
        if self.to_text is not None:
            times = "/".join(f"{self.to_text[name]:.1f}" for name in ("p50", "p95", "p99"))
            parts.append(f"frame to text p50/p95/p99 {times} ms")
        if capacity.limited_by == "the source":
            parts.append("the source limits it, which gives no more")
        else:
            parts.append(f"{capacity.limited_by} limits it, {capacity.limit_share:.0%} of the time")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the profile in plain JSON types."""
        totals, capacity = self.totals, self.capacity
        minutes = totals.video_seconds / 60 or None
        joules = self.power.joules
        wall = totals.wall_seconds or None
        summary = {
            "frames_a_second": self.frames / wall if wall else None,
            "windows_a_second": self.windows_a_second,
            "windows_a_second_sd": float(np.std(self.rates)) if len(self.rates) > 1 else None,
            "sustained_windows_a_second": capacity.windows_a_second if capacity else None,
            "cameras": capacity.cameras if capacity else None,
            "camera_windows_a_second": capacity.camera_windows_a_second if capacity else None,
            "limited_by": capacity.limited_by if capacity else None,
            "limit_share": capacity.limit_share if capacity else None,
            **_percentiles("frame_to_text", self.to_text),
            **_percentiles("frame_age", self.ages),
            "windows_dropped": totals.windows_dropped,
            "tokens_kept": totals.tokens_kept / totals.tokens if totals.tokens else None,
            **_percentiles("tokens_kept", self.kept_tokens, ("p50", "min", "max")),
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
            "headline": self.headline,
            "conditions": self.conditions,
            "stages": [asdict(row) for row in self.rows],
            "summary": summary,
            "totals": totals.as_dict(),
            "ended": self.ended,
            "warnings": self.warnings,
            "how": self.how,
        }


def _percentiles(
    name: str, found: dict[str, float] | None, which: Sequence[str] = ("p50", "p95", "p99")
) -> dict[str, float | None]:
    return {f"{name}_{each}": found[each] if found else None for each in which}
