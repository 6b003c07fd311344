"""Measure peak memory and time of `vlj-edge export` at the paper's size, with random weights: paper-scale.json.

python results/paper_scale.py                    (two exports, three minutes)
python results/paper_scale.py --parity [WORD]    (with parity, of names with WORD; 8 minutes each)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples" / "train_nano"))
from provenance import add_to, provenance  # noqa: E402

EXPORTS = {
    "vl-jepa-1.6b": [],
    "vl-jepa-1.6b fp16": ["--precision", "fp16,text_encoder=bf16"],
}
DEMO = HERE.parent / "examples" / "media" / "demo.mp4"
PARITY = {
    "vl-jepa-1.6b fp16 with parity": ["--precision", "fp16,text_encoder=bf16"],
    "vl-jepa-1.6b with parity": [],
    "vl-jepa-1.6b int8w with parity": ["--precision", "int8w"],
    "vl-jepa-1.6b int4w with parity": ["--precision", "int4w"],
    "vl-jepa-1.6b int8 with parity": ["--precision", "int8", "--calibrate-on", str(DEMO.relative_to(HERE.parent))],
}


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run one export in a child process; return seconds, peak resident memory, file sizes and parity."""
    with tempfile.TemporaryDirectory(dir=HERE.parent / "build") as scratch:
        out = Path(scratch) / "bundle"
        command = [sys.executable, "-m", "vlj_edge", "export", "--preset", "vl-jepa-1.6b", "--random-weights", "0"]
        started = time.monotonic()
        asked = [*command, *arguments, "--out", str(out)]
        process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, cwd=HERE.parent)
        _, status, usage = os.wait4(process.pid, 0)  # this child's own peak, not the largest of all children
        seconds = time.monotonic() - started
        if status:
            raise SystemExit(f"export {' '.join(arguments)} failed")
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        files = {path.name: round(path.stat().st_size / 1e6, 1) for path in sorted(out.glob("*.onnx*"))}
    return {
        "arguments": arguments,
        "seconds": round(seconds, 1),
        "peak_memory_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "megabytes": files,
        "precision": {name: engine["precision"] for name, engine in manifest["engines"].items()},
        "parity": manifest["parity"]["rows"],
    }


def main() -> None:
    (HERE.parent / "build").mkdir(exist_ok=True)
    parity = sys.argv[1:2] == ["--parity"]
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    found = provenance("python results/paper_scale.py, then with --parity")
    chosen = {name: given for name, given in (PARITY if parity else EXPORTS).items() if word in name}
    for name, arguments in chosen.items():
        found[name] = measure([*arguments, *([] if parity else ["--skip-parity"])])
        print(name, found[name]["seconds"], "s", found[name]["peak_memory_gb"], "GB", flush=True)
        add_to(HERE / "paper-scale.json", found)


if __name__ == "__main__":
    main()
