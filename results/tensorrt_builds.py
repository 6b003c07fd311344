"""Build TensorRT-RTX engines ahead of time; write sizes, seconds, layers and fused attention: tensorrt-builds.json.

python results/tensorrt_builds.py            (nano for three cards; a minute)
python results/tensorrt_builds.py --paper    (adds vl-jepa-1.6b at random weights for one; some minutes, 8 GB)
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples" / "train_nano"))
from provenance import add_to, provenance  # noqa: E402

from vlj_edge.bundle import read_manifest  # noqa: E402
from vlj_edge.bundle.engine_cache import RuntimeId  # noqa: E402
from vlj_edge.export.bundle import export_bundle  # noqa: E402
from vlj_edge.export.request import ExportRequest  # noqa: E402
from vlj_edge.export.tensorrt.build import build_engines  # noqa: E402
from vlj_edge.export.weights.locations import WeightSources, shipped_weights  # noqa: E402
from vlj_edge.presets import preset  # noqa: E402
from vlj_edge.runtime.video.clips import spread_clips  # noqa: E402
from vlj_edge.tensorrt_package import import_tensorrt  # noqa: E402

DEMO = HERE.parent / "examples" / "media" / "demo.mp4"
NANO = {"precisions": ("fp16", "int8", "int8-fp16", "int4w-fp16"), "cards": ("sm86", "sm89", "sm120")}
PAPER = {"precision": "fp16,text_encoder=bf16", "card": "sm89"}


def export(name: str, precision: str, out: Path) -> Path:
    """Export without the parity run: nano with its own weights, other presets with random ones."""
    chosen = preset(name)
    sources = WeightSources(shipped_weights()) if name == "nano" else WeightSources(random=0)
    clips = spread_clips(DEMO, chosen.clip, chosen.preprocess, 36) if "int8" in precision else None
    export_bundle(ExportRequest(sources, chosen, out, precision=precision, check_parity=False, clips=clips))
    return out


def build(bundle: Path, sm: str) -> list[dict[str, Any]]:
    """Build every engine of a bundle; return one row each, with the size of its graph."""
    trt, manifest = import_tensorrt("tensorrt_rtx"), read_manifest(bundle)
    runtime = RuntimeId(trt.package, trt.version, sm, None)
    rows = []
    for engine in build_engines(bundle, manifest, trt, runtime):
        files = (seal.bytes for file, seal in manifest.files.items() if file.startswith(f"{engine.name}.onnx"))
        row = {key: value for key, value in asdict(engine).items() if key != "again"}
        rows.append(row | {"onnx_megabytes": round(sum(files) / 1e6, 2)})
    return rows


def main() -> None:
    trt = import_tensorrt("tensorrt_rtx")
    found = provenance("python results/tensorrt_builds.py, then with --paper")
    found["tensorrt"] = f"{trt.package} {trt.version}"
    (HERE.parent / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HERE.parent / "build") as scratch:
        if sys.argv[1:] == ["--paper"]:
            bundle = export("vl-jepa-1.6b", PAPER["precision"], Path(scratch) / "paper")
            found["vl-jepa-1.6b"] = {"random_weights": True, PAPER["card"]: build(bundle, PAPER["card"])}
        else:
            found["nano"] = {}
            for precision in NANO["precisions"]:
                bundle = export("nano", precision, Path(scratch) / precision)
                found["nano"][precision] = {sm: build(bundle, sm) for sm in NANO["cards"]}
                print(
                    precision, {sm: sum(r["megabytes"] for r in rows) for sm, rows in found["nano"][precision].items()}
                )
    add_to(HERE / "tensorrt-builds.json", found)


if __name__ == "__main__":
    main()
