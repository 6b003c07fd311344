"""Show a profile as an HTML page, a Perfetto trace, or Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from .conditions import condition_texts
from .probe import Probe, Span
from .result import Profile

_DOTS = 400  # per stage; more make the page slow and no clearer
_TIMELINE_SPANS = 160
_IN_HEADLINE = ("sustained_", "camera", "limit", "frame_to_text_")
_OF_SOME = ("frame_age_", "tokens_kept", "windows_a_second_sd")  # of live sources, token shares and several passes


def page(profile: Profile, probe: Probe, threshold: float) -> str:
    """Return one self-contained HTML page, which loads nothing from elsewhere.

    Args:
        threshold: cosine below which the meaning gate lets a text through.
    """
    data = profile.as_dict() | {
        "samples": _samples(probe),
        "spans": [[span.stage, span.start, span.end] for span in _timeline(probe.spans)],
        "similarities": [[round(t, 3), round(c, 4)] for t, c in sorted(probe.similarities)],
        "shown_conditions": about_texts(profile),
        "texts": [[round(t, 3), text] for t, text in profile.texts],
        "threshold": threshold,
    }
    template = (files("vlj_edge") / "pages" / "profile.html").read_text(encoding="utf-8")
    # "</script>" in a text or a path would end the data's element
    return template.replace("{{DATA}}", json.dumps(data).replace("<", "\\u003c"))


def trace(profile: Profile, probe: Probe) -> str:
    """Return the spans in the Trace Event Format (complete events, microseconds) of Perfetto and chrome://tracing."""
    first = min((span.start for span in probe.spans), default=0.0)
    threads = {thread: number for number, thread in enumerate(dict.fromkeys(span.thread for span in probe.spans))}
    events: list[dict[str, Any]] = [
        {"name": span.stage, "ph": "X", "pid": 1, "tid": threads[span.thread], "cat": "stage"}
        | {"ts": round((span.start - first) * 1e6, 1), "dur": round((span.end - span.start) * 1e6, 1)}
        for span in probe.spans
    ]
    named = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": _lane(thread, probe.spans)}}
        for thread, number in threads.items()
    ]
    return json.dumps(
        {
            "traceEvents": [*named, *events],
            "displayTimeUnit": "ms",
            "otherData": about_texts(profile) | {"headline": profile.headline},
        }
    )


def markdown(profile: Profile) -> str:
    """Return the table of stages and the summary as Markdown."""
    columns = ("calls", "min", "mean", "sd", "p50", "p90", "p95", "p99", "max", "enqueue_p50", "device_p50", "share")
    rows = [
        {"stage": row["stage"]} | {name.replace("_", " "): _cell(name, row[name]) for name in columns}
        for row in profile.as_dict()["stages"]
    ]
    lines = [profile.headline, "", *markdown_table(rows), ""]
    lines += [f"- {line}" for line in summary_lines(profile)]
    return "\n".join([*lines, *(f"- warning: {line}" for line in profile.warnings)]) + "\n"


def markdown_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the lines of a table, whose columns are the keys of the first row."""
    names = list(rows[0]) if rows else []
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return lines + [f"| {' | '.join(row.values())} |" for row in rows]


def csv_text(profile: Profile) -> str:
    """Return a line a stage, each with the conditions and the summary, so that files of many machines can be joined."""
    about = about_texts(profile) | {f"summary_{k}": v for k, v in profile.as_dict()["summary"].items()}
    return csv_lines([row | about for row in profile.as_dict()["stages"]])


def csv_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a header; None is an empty cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def summary_lines(profile: Profile) -> list[str]:
    """Return one line for each quantity of the summary and each condition; what could not be found out is named in one
    line at the end."""
    values = {
        key: value
        for key, value in profile.as_dict()["summary"].items()
        if not key.startswith(_IN_HEADLINE) and not (value is None and key.startswith(_OF_SOME))
    }
    return value_lines(values | about_texts(profile))


def about_texts(profile: Profile) -> dict[str, str | None]:
    """Return the conditions and how it was measured, as texts; None for what is unknown."""
    how = profile.how
    gates = ", ".join(name for name, enabled in how["gates"].items() if enabled)
    return condition_texts(profile.conditions) | {
        "gates": gates or "none",
        "overlap": "yes" if how["overlap"] else "no",
        "cuda_graph": "yes" if how["cuda_graph"] else "no",
        "warm_up_runs": str(how["warm_up_runs"]),
        "passes": str(how["passes"]),
        "windows": str(how["windows"]),
        "ended": profile.ended,
    }


def value_lines(values: Mapping[str, Any]) -> list[str]:
    """Return a line for each value, and a last one that names those that are unknown."""
    lines, unknown = [], []
    for key, value in values.items():
        name = key.replace("_", " ")
        if value in (None, "unknown"):
            unknown.append(name)
        else:
            lines.append(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    return [*lines, f"unknown: {', '.join(unknown)}"] if unknown else lines


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "share":
        return f"{100 * value:.1f} %" if value else ""
    return str(value) if name == "calls" else f"{value:.3f}"


def _samples(probe: Probe) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for span in probe.spans:
        times.setdefault(span.stage, []).append(round((span.end - span.start) * 1e3, 4))
    for has_text, seconds in probe.windows:
        times.setdefault("window with text" if has_text else "window without text", []).append(round(seconds * 1e3, 4))
    return {stage: values[:: max(len(values) // _DOTS, 1)] for stage, values in times.items()}


def _timeline(spans: list[Span]) -> list[Span]:
    """Return the spans around the second text, when all queues are full."""
    ordered = sorted(spans, key=lambda span: span.start)
    texts = [number for number, span in enumerate(ordered) if span.stage == "decoder, first"]
    middle = texts[min(1, len(texts) - 1)] if texts else len(ordered) // 2
    return ordered[max(middle - _TIMELINE_SPANS // 2, 0) :][:_TIMELINE_SPANS]


def _lane(thread: int, spans: list[Span]) -> str:
    stages = dict.fromkeys(span.stage for span in spans if span.thread == thread)
    return ", ".join(list(stages)[:3])
