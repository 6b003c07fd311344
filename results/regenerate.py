"""Regenerate parity.json and demo.json beside this file: `make results`. README.md and docs/evidence.md quote them.

nano-eval.json and nano-selective.svg come from examples/train_nano (evaluate.py, selective.py), which need the rendered
test episodes and streams; nano-train.jsonl is the log of train.py.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import vlj_edge
from vlj_edge import ExportRequest, WeightSources, export_bundle, preset, shipped_weights
from vlj_edge.bundle import MANIFEST, nano_bundle, seal
from vlj_edge.export.weights.locations import MODEL_FILE

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples" / "train_nano"))
from narration_score import score  # noqa: E402
from provenance import provenance  # noqa: E402

MEDIA = HERE.parent / "examples" / "media"


def main() -> None:
    write("parity.json", parity())
    write("demo.json", demo())


def parity() -> dict[str, Any]:
    """Compare every engine of nano with torch in fp32: fp32 and fp16, both flavours; with sizes and node counts."""
    found: dict[str, Any] = {"weights": seal(shipped_weights() / MODEL_FILE).sha256}
    with tempfile.TemporaryDirectory() as scratch:
        for flavour, precision in itertools.product(("native", "portable"), ("fp32", "fp16")):
            name = precision if flavour == "native" else f"{flavour} {precision}"
            out = Path(scratch) / name.replace(" ", "-")
            # None: the preset's own precision, which stores the text encoder as int8
            requested = None if precision == "fp32" else precision
            sources = WeightSources(shipped_weights())
            exported = export_bundle(ExportRequest(sources, preset("nano"), out, precision=requested, flavour=flavour))
            found[name] = {
                "engines": [asdict(engine) for engine in exported.engines],
                "parity": [asdict(row) for row in exported.parity],
            }
    return found


def demo() -> dict[str, Any]:
    """Narrate the demo video live and window by window; score both against its annotation."""
    model = vlj_edge.load()
    annotation = json.loads((MEDIA / "demo.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {"bundle": seal(nano_bundle() / MANIFEST).sha256}
    for name, every_window in (("live gates", False), ("every window", True)):
        narration = model.narrate(MEDIA / "demo.mp4", every_window=every_window)
        events = list(narration)
        found[name] = {"totals": narration.totals.as_dict(), **score(annotation["events"], events)}
        if not every_window:
            found[name]["narrations"] = [event.as_dict() for event in events]
    return found


def write(name: str, found: dict[str, Any]) -> None:
    (HERE / name).write_text(json.dumps(provenance("make results") | found, indent=2) + "\n", encoding="utf-8")
    print(HERE / name)


if __name__ == "__main__":
    main()
