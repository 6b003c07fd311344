"""Other output of narrate: totals, counts, and changes of a source's state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import VljEdgeError
from ..json_text import json_text

_EVERY = 2  # seconds: what a program that asks about every N-th frame asks about

if TYPE_CHECKING:
    from vlj_edge.runtime.video.source import Source

    from ..bundle import BudgetSettings
    from ..results import Totals


def format_totals(name: str, totals: Totals, source: Source, as_json: bool, budget: BudgetSettings) -> str:
    """Return the last line for one source."""
    if as_json:
        counts = totals.as_dict() | {"bad_frames": getattr(source, "bad", 0)}
        camera = {"frames_dropped": "dropped", "restarts": "restarts"}
        counts |= {key: getattr(source, field) for key, field in camera.items() if hasattr(source, field)}
        return json_text({"totals": {"source": name} | counts})
    saved = f"{totals.decodes_saved:.1f}x fewer than" if totals.decoder_runs else "against"
    return (
        f"{totals.windows} windows, {totals.encoder_runs} encoder runs{_of_tokens(totals)},"
        f" {totals.decoder_runs} decoder runs ({saved} decoding every window), {totals.video_seconds:.1f} s of video"
        f" at {totals.real_time_factor:.1f}x real time{_left_out(totals.as_dict(), budget)}{_calls(totals.as_dict())}"
    )


def format_counts(name: str, counts: dict[str, Any], as_json: bool, budget: BudgetSettings) -> str:
    """Return the last line for one of several sources."""
    if as_json:
        # the other counts are for long-running stations
        fields = {key: value for key, value in counts.items() if key != "events" and not key.startswith("delay_")}
        return json_text({"totals": {"source": name} | fields})
    return (
        f"{name}: {counts['windows']} windows ({counts['windows_dropped']} dropped),"
        f" {counts['encoder_runs']} encoder runs, {counts['decoder_runs']} decoder runs,"
        f" {counts['video_seconds']:.1f} s of video{_left_out(counts, budget)}{_calls(counts)}"
    )


def require_answers(of_sources: Iterable[tuple[int, int]]) -> None:
    """Check the calls for words, given as (calls, those that failed) of each source.

    Raises:
        VljEdgeError: there were some, and not one got an answer.
    """
    calls, failed = map(sum, zip((0, 0), *of_sources, strict=True))
    if calls and failed == calls:
        raise VljEdgeError(f"no call for words got an answer, of {calls}: see above")


def _calls(counts: dict[str, Any]) -> str:
    """Return what the words of another model cost, to be added to a line; nothing where none was asked."""
    calls, left_out = counts["calls"], counts["calls_left_out"]
    if calls + left_out == 0:
        return ""
    tokens = f", {counts['call_tokens']:,} tokens" if counts["call_tokens"] else ""
    line = f"; {calls} call{'' if calls == 1 else 's'} for words ({counts['call_seconds']:.1f} s{tokens}"
    if calls:
        every = counts["video_seconds"] / _EVERY / calls
        line += f", {calls / max(counts['windows'], 1):.1%} of the windows, {every:.1f}x fewer than every {_EVERY} s"
    names = {"failed": "calls_failed", "cut off": "calls_cut_off", "passed over": "calls_passed_over"}
    about = {what: counts[name] for what, name in names.items()} | {"left out": left_out}
    return line + "".join(f", {number} {what}" for what, number in about.items() if number) + ")"


def _of_tokens(totals: Totals) -> str:
    """Return the share of the tokens that were computed, to be added to a line; nothing if all were."""
    if totals.tokens_kept == totals.tokens:
        return ""
    return f" on {totals.tokens_kept / totals.tokens:.0%} of the tokens"


def _left_out(counts: dict[str, Any], budget: BudgetSettings) -> str:
    """Return what a budget has left out, to be added to a line; nothing without one."""
    changes = f", {counts['changes_left_out']} changes left out" if budget.texts_per_hour > 0 else ""
    return changes + (f", {counts['looks_left_out']} looks left out" if budget.encodes_per_minute > 0 else "")
