"""Export the trained nano weights in fp16 from Python, as `vlj-edge export --fp16 --out DIRECTORY` does.

python examples/export_bundle.py nano-fp16
"""

import sys
from pathlib import Path

import vlj_edge

if len(sys.argv) != 2:
    print("usage: export_bundle.py DIRECTORY (exports nano in fp16 to a new bundle there)", file=sys.stderr)
    sys.exit(2)

try:
    sources = vlj_edge.WeightSources(vlj_edge.shipped_weights())
    request = vlj_edge.ExportRequest(sources, vlj_edge.preset("nano"), Path(sys.argv[1]), precision="fp16")
    exported = vlj_edge.export_bundle(request, progress=print)
    for row in exported.parity:
        print(f"{row.engine}: lowest cosine to torch {row.cosine:.6f} over {row.cases} cases")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
