"""Build a bundle's TensorRT engines ahead of time, for cards that this machine does not have.

pip install -e ".[rtx]" && python examples/build_engines.py BUNDLE sm86 sm89
"""

import sys

import vlj_edge

if len(sys.argv) < 3:
    print("usage: build_engines.py BUNDLE CARD... (builds TensorRT-RTX engines; a card is sm86 or so)", file=sys.stderr)
    sys.exit(2)

bundle, *cards = sys.argv[1:]
try:
    for card in cards:
        for engine in vlj_edge.build_engines(bundle, card):
            fused = f"{engine.attention - engine.decomposed} of {engine.attention} attention operators fused"
            print(f"{card} {engine.name}: {engine.megabytes:.1f} MB, {fused}")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
