"""Export the trained nano weights in fp16 from Python, as `vlj-edge export --fp16 --out DIR` does.

python examples/export_bundle.py DIR
"""

import sys
from pathlib import Path

from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.weights.sources import shipped_weights
from vlj_edge.presets import preset

exported = export_bundle(shipped_weights(), preset("nano"), Path(sys.argv[1]), precision="fp16", progress=print)
for row in exported.parity:
    print(f"{row.engine}: lowest cosine to torch {row.cosine:.6f} over {row.cases} cases")
