"""`make kernels`: every kernel for every card, with nvcc alone; no card is needed.

Writes vlj_edge/kernels.tar.xz, which the package ships, its seal kernels.json, and results/kernels.json: registers,
shared memory and spills of each. Spills in the attention are an error: its registers are what it lives on.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import lzma
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vlj_edge.cuda.cubins import ARCHIVE, SEAL
from vlj_edge.errors import VljEdgeError

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results" / "kernels.json"
SOURCES = ("attention", "gate", "pixels")
# Turing, A100, desktop Ampere, Orin, Ada, Hopper, Blackwell (data centre, Thor, desktop, Spark)
CARDS = ("sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm110", "sm120", "sm121")
PORTABLE = ("sm75", "sm80")  # what TensorRT is given: PTX, which it compiles for its card (tensorrt.plugin.aot_impl)
_FLAGS = ("-std=c++17", "-O3", "-Werror", "all-warnings")
_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<spilled>\d+) bytes spill stores, (?P<reloaded>\d+) bytes spill"
    r" loads.*?Used (?P<registers>\d+) registers(?:.*?(?P<shared>\d+) bytes smem)?[^\n]*",
    re.DOTALL,
)


def nvcc() -> str:
    """The compiler.

    Raises:
        VljEdgeError: it is not installed.
    """
    found = shutil.which("nvcc")
    if found is None:
        raise VljEdgeError("there is no nvcc: install the CUDA toolkit 13 and put its bin folder on the PATH")
    return found


def version() -> str:
    """nvcc's, "13.0.88"."""
    said = subprocess.run([nvcc(), "--version"], check=True, capture_output=True, text=True).stdout
    return said.rpartition("V")[2].split()[0]


def source_hashes() -> dict[str, str]:
    """sha256 of every source file: what the shipped archive must have been made of."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(HERE.glob("*.cu*"))}


def compile_one(source: str, card: str, kind: str = "cubin") -> tuple[bytes, dict[str, dict[str, int]]]:
    """A source for a card: the code, and what ptxas says of each kernel in it.

    Raises:
        VljEdgeError: nvcc refuses, or the attention spills.
    """
    number = card.removeprefix("sm")
    target = f"-arch=sm_{number}" if kind == "cubin" else f"-arch=compute_{number}"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "code"
        command = [nvcc(), *_FLAGS, target, f"-{kind}", "-Xptxas", "-v", "-o", str(out), f"{source}.cu"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
        if done.returncode:
            raise VljEdgeError(f"nvcc refuses {source}.cu for {card}: {done.stderr.strip()[:2000]}")
        code = out.read_bytes()
    report = {
        found["name"]: {key: int(found[key] or 0) for key in ("registers", "shared", "spilled", "reloaded")}
        for found in _ENTRY.finditer(done.stderr)
    }
    spilling = [name for name, said in report.items() if source == "attention" and said["spilled"] + said["reloaded"]]
    if spilling:
        raise VljEdgeError(f"{', '.join(spilling)} spills registers on {card}: shrink its tile (attention.cu, Shape)")
    return code, report


def main() -> None:
    """Compile all, and write the archive, its seal and the report."""
    jobs = [(source, card, "cubin") for source in SOURCES for card in CARDS]
    jobs += [("attention", card, "ptx") for card in PORTABLE]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda job: compile_one(*job), jobs))
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for (source, card, kind), (code, _) in zip(jobs, made, strict=True):
            member = tarfile.TarInfo(
                f"{source}.{card}.{kind}"
            )  # no times and owners: the same sources, the same archive
            member.size = len(code)
            archive.addfile(member, io.BytesIO(code))
    packed = lzma.compress(raw.getvalue(), preset=9)
    ARCHIVE.write_bytes(packed)
    seal = {
        "sha256": hashlib.sha256(packed).hexdigest(),
        "cards": CARDS,
        "nvcc": version(),
        "sources": source_hashes(),
    }
    SEAL.write_text(json.dumps(seal, indent=1) + "\n", encoding="utf-8")
    kernels: dict[str, dict[str, Any]] = {}
    for (_, card, _), (_, report) in zip(jobs, made, strict=True):
        for name, said in report.items():
            kernels.setdefault(name, {})[card] = said
    found = _provenance() | {"archive_bytes": len(packed), "kernels": kernels}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    most = max(said["registers"] for name, cards in kernels.items() if "attention" in name for said in cards.values())
    summary = f"{len(kernels)} kernels for {len(CARDS)} cards, {len(packed) / 1e6:.2f} MB"
    print(f"{summary}; attention: {most} registers, no spills")


def _provenance() -> dict[str, Any]:
    """What every file under results/ says of itself."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE)
    return {
        "command": "make kernels",
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "versions": {"vlj-edge": importlib.metadata.version("vlj-edge"), "nvcc": version()},
        "commit": commit.stdout.strip() or "unknown",
    }


if __name__ == "__main__":
    try:
        main()
    except VljEdgeError as error:
        sys.exit(f"error: {error}")
