"""Build TensorRT-RTX engines ahead of time; write sizes, seconds, layers and fused attention: tensorrt-builds.json.

python results/tensorrt_builds.py            (nano for three cards; a minute)
python results/tensorrt_builds.py --paper    (adds vl-jepa-1.6b at random weights for one; some minutes, 8 GB)
python results/tensorrt_builds.py --tokens   (adds the vision engines of both for parts of a clip's tokens; the same)
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples" / "train_nano"))
from provenance import add_to, provenance  # noqa: E402

from vlj_edge.bundle import Manifest, read_manifest  # noqa: E402
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
TOKENS = {"shares": (0.25, 0.37, 0.5, 0.75), "presets": {"nano": "fp16", "vl-jepa-1.6b": PAPER["precision"]}}


def export(name: str, precision: str, out: Path, token_shares: Sequence[float] = ()) -> Path:
    """Export without the parity run: nano with its own weights, other presets with random ones."""
    chosen = preset(name)
    sources = WeightSources(shipped_weights()) if name == "nano" else WeightSources(random=0)
    clips = spread_clips(DEMO, chosen.clip, chosen.preprocess, 36) if "int8" in precision else ()
    options: dict[str, Any] = {"precision": precision, "check_parity": False, "clips": clips}
    export_bundle(ExportRequest(sources, chosen, out, token_shares=token_shares, **options))
    return out


def build(bundle: Path, manifest: Manifest, sm: str, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Build engines of a bundle, all without `names`; return one row each, with the size of its graph."""
    trt = import_tensorrt("tensorrt_rtx")
    runtime = RuntimeId(trt.package, trt.version, sm, None)
    rows = []
    for engine in build_engines(bundle, manifest, trt, runtime, names=names):
        files = (seal.bytes for file, seal in manifest.files.items() if file.startswith(f"{engine.name}.onnx"))
        row = {key: value for key, value in asdict(engine).items() if key != "again"}
        rows.append(row | {"onnx_megabytes": round(sum(files) / 1e6, 2)})
    return rows


def build_for_tokens(bundle: Path) -> dict[str, Any]:
    """Build the vision engines for all tokens alone, and for every number of tokens."""
    manifest = read_manifest(bundle)
    assert manifest.tokens is not None
    alone = replace(manifest, tokens=replace(manifest.tokens, counts=manifest.tokens.counts[-1:]))
    of = {"all tokens alone": alone, "each number of tokens": manifest}
    return {what: build(bundle, each, PAPER["card"], manifest.vision_engines) for what, each in of.items()}


def main() -> None:
    trt = import_tensorrt("tensorrt_rtx")
    found = provenance("python results/tensorrt_builds.py, then with --paper")
    found["tensorrt"] = f"{trt.package} {trt.version}"
    (HERE.parent / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HERE.parent / "build") as scratch:
        if sys.argv[1:] == ["--paper"]:
            bundle = export("vl-jepa-1.6b", PAPER["precision"], Path(scratch) / "paper")
            rows = build(bundle, read_manifest(bundle), PAPER["card"])
            found["vl-jepa-1.6b"] = {"random_weights": True, PAPER["card"]: rows}
        elif sys.argv[1:] == ["--tokens"]:
            rows = {
                name: build_for_tokens(export(name, precision, Path(scratch) / name, TOKENS["shares"]))
                for name, precision in TOKENS["presets"].items()
            }
            found = {"token_shares": found | {"command": "python results/tensorrt_builds.py --tokens"} | rows}
        else:
            found["nano"] = {}
            for precision in NANO["precisions"]:
                bundle = export("nano", precision, Path(scratch) / precision)
                found["nano"][precision] = {sm: build(bundle, read_manifest(bundle), sm) for sm in NANO["cards"]}
                print(
                    precision, {sm: sum(r["megabytes"] for r in rows) for sm, rows in found["nano"][precision].items()}
                )
    add_to(HERE / "tensorrt-builds.json", found)


if __name__ == "__main__":
    main()
