"""Build a bundle's TensorRT engines ahead of time, for cards that this machine does not have.

pip install "vlj-edge[rtx]" && python build_engines.py BUNDLE sm86 sm89
"""

import sys
from pathlib import Path

from vlj_edge.bundle import read_manifest
from vlj_edge.bundle.engine_cache import RuntimeId
from vlj_edge.export.tensorrt.build import build_engines
from vlj_edge.tensorrt_package import import_tensorrt

bundle, *cards = sys.argv[1:]
trt = import_tensorrt("tensorrt_rtx")
for sm in cards:
    runtime = RuntimeId(trt.package, trt.version, sm, device=None)
    for engine in build_engines(Path(bundle), read_manifest(Path(bundle)), trt, runtime):
        fused = engine.attention - engine.decomposed
        print(f"{sm} {engine.name}: {engine.megabytes:.1f} MB, {fused} of {engine.attention} attention operators fused")
