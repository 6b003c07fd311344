"""Measure the parity of every precision with random weights of nano's size: precisions-random.json.

python results/random_precisions.py        (some minutes)

Random weights have no outlier channels, so this shows the cost of the arithmetic alone. precisions.json has nano's real
weights on real video, paper-scale.json the paper's size.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples" / "train_nano"))
from provenance import add_to, provenance  # noqa: E402

from vlj_edge.export.bundle import export_bundle  # noqa: E402
from vlj_edge.export.precisions import PRECISIONS  # noqa: E402
from vlj_edge.export.request import ExportRequest  # noqa: E402
from vlj_edge.export.weights.locations import WeightSources  # noqa: E402
from vlj_edge.presets import preset  # noqa: E402
from vlj_edge.runtime.video.clips import spread_clips  # noqa: E402

DEMO = HERE.parent / "examples" / "media" / "demo.mp4"


def main() -> None:
    nano = preset("nano")
    clips = spread_clips(DEMO, nano.clip, nano.preprocess, 36)
    found = provenance("python results/random_precisions.py") | {"precisions": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for name in PRECISIONS:
            exported = export_bundle(
                ExportRequest(WeightSources(random=0), nano, Path(scratch) / name, precision=name, clips=clips)
            )
            found["precisions"][name] = {
                "megabytes": {engine.name: round(engine.megabytes, 2) for engine in exported.engines},
                "parity": [asdict(row) for row in exported.parity],
            }
            print(name, {row.engine: round(row.cosine, 7) for row in exported.parity}, flush=True)
    add_to(HERE / "precisions-random.json", found)


if __name__ == "__main__":
    main()
