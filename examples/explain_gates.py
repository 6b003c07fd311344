"""Why was there a text at this moment of a video, or none? What each gate decided, and on which numbers.

python examples/explain_gates.py examples/media/demo.mp4 15.5
"""

from __future__ import annotations

import sys

import vlj_edge


def decisions_at(path: str, seconds: float) -> vlj_edge.WindowReport | None:
    """Return the report of the window in whose middle this moment is nearest; None if the video has no window."""
    nearest: vlj_edge.WindowReport | None = None

    def watch(report: vlj_edge.WindowReport) -> None:
        nonlocal nearest
        if nearest is None or abs(report.window.centre - seconds) < abs(nearest.window.centre - seconds):
            nearest = report

    # What the gates decide depends on what came before: the video is narrated from its beginning.
    with vlj_edge.load() as model, vlj_edge.open_source(path, end=seconds + 5) as source:
        for _ in model.narrate(source, watch=watch):
            pass
    return nearest


if len(sys.argv) != 3 or not sys.argv[2].replace(".", "", 1).isdigit():
    print("usage: explain_gates.py VIDEO SECONDS (why was there a text then, or none?)", file=sys.stderr)
    sys.exit(2)

try:
    found = decisions_at(sys.argv[1], float(sys.argv[2]))
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
if found is None:
    sys.exit("the video is shorter than a window")
print(f"{found.window.start:.1f} to {found.window.end:.1f} s: {'a text' if found.spoke else 'no text'}")
for decision in found.decisions:
    print(f"{decision.gate}: {decision.verdict}" + (f" ({decision.cause})" if decision.cause else ""))
    for check in decision.checks:
        answer = "yes" if check.holds else "no"
        print(f"    {check.name}: {check.value:.4g} {check.operator} {check.bound:.4g}? {answer}")
