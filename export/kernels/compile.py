"""`make kernels`: compile every kernel for every GPU generation with nvcc. No GPU is needed.

Writes vlj_edge/cuda/kernels.tar.xz, which the package ships, its seal kernels.json beside it, and results/kernels.json:
registers, shared memory and spills of every kernel. An attention kernel that spills registers is an error: its speed
depends on keeping queries and sums in registers.
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
SOURCES = ("attention", "pixels")
# Turing, A100, desktop Ampere, Orin, Ada, Hopper, Blackwell (data center, Thor, desktop, Spark)
CARDS = ("sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm110", "sm120", "sm121")
PTX_CARDS = ("sm75", "sm80")  # TensorRT takes PTX and compiles it for the GPU at hand (tensorrt.plugin.aot_impl)
_FLAGS = ("-std=c++17", "-O3", "-Werror", "all-warnings")
_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<spilled>\d+) bytes spill stores, (?P<reloaded>\d+) bytes spill"
    r" loads.*?Used (?P<registers>\d+) registers(?:[^\n]*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


def nvcc() -> str:
    """Return the path of the CUDA compiler.

    Raises:
        VljEdgeError: nvcc is not on the PATH.
    """
    found = shutil.which("nvcc")
    if found is None:
        raise VljEdgeError("nvcc is not on the PATH: install the CUDA toolkit 13 and add its bin folder to the PATH")
    return found


def nvcc_version() -> str:
    """Return nvcc's version, such as "13.0.88"."""
    shown = subprocess.run([nvcc(), "--version"], check=True, capture_output=True, text=True).stdout
    return shown.rpartition("V")[2].split()[0]


def source_hashes() -> dict[str, str]:
    """Return the sha256 of every source file by name; the seal of the shipped archive holds the same."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(HERE.glob("*.cu*"))}


def compile_one(source: str, card: str, kind: str = "cubin") -> tuple[bytes, dict[str, dict[str, int]]]:
    """Compile one source for one GPU generation.

    Args:
        source: a name of SOURCES.
        card: a name of CARDS.
        kind: "cubin" or "ptx".

    Returns:
        The code, and for every kernel in it the "registers", "shared" memory, "spilled" and "reloaded" bytes that
        ptxas reports (empty for PTX).

    Raises:
        VljEdgeError: nvcc fails, or an attention kernel spills registers.
    """
    number = card.removeprefix("sm")
    target = f"-arch=sm_{number}" if kind == "cubin" else f"-arch=compute_{number}"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "code"
        command = [nvcc(), *_FLAGS, target, f"-{kind}", "-Xptxas", "-v", "-o", str(out), f"{source}.cu"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
        if done.returncode:
            raise VljEdgeError(f"nvcc cannot compile {source}.cu for {card}: {done.stderr.strip()[:2000]}")
        code = out.read_bytes()
    report = {
        found["name"]: {key: int(found[key] or 0) for key in ("registers", "shared", "spilled", "reloaded")}
        for found in _ENTRY.finditer(done.stderr)
    }
    spilling = [name for name, used in report.items() if source == "attention" and used["spilled"] + used["reloaded"]]
    if spilling:
        raise VljEdgeError(f"{', '.join(spilling)} spills registers on {card}: shrink its tile (attention.cu, Tiling)")
    return code, report


def main() -> None:
    """Compile all kernels; write the archive, its seal and the report."""
    jobs = [(source, card, "cubin") for source in SOURCES for card in CARDS]
    jobs += [("attention", card, "ptx") for card in PTX_CARDS]
    with ThreadPoolExecutor(2) as pool:
        compiled = list(pool.map(lambda job: compile_one(*job), jobs))
    codes = {".".join(job): code for job, (code, _) in zip(jobs, compiled, strict=True)}
    packed = lzma.compress(_tar(codes), preset=9)
    ARCHIVE.write_bytes(packed)
    seal = {
        "sha256": hashlib.sha256(packed).hexdigest(),
        "cards": CARDS,
        "nvcc": nvcc_version(),
        "sources": source_hashes(),
    }
    SEAL.write_text(json.dumps(seal, indent=1) + "\n", encoding="utf-8")
    kernels: dict[str, dict[str, Any]] = {}
    for (_, card, _), (_, report) in zip(jobs, compiled, strict=True):
        for name, used in report.items():
            kernels.setdefault(name, {})[card] = used
    results = _provenance() | {"archive_bytes": len(packed), "kernels": kernels}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    most = max(used["registers"] for name, cards in kernels.items() if "attention" in name for used in cards.values())
    summary = f"{len(kernels)} kernels for {len(CARDS)} cards, {len(packed) / 1e6:.2f} MB"
    print(f"{summary}; attention: {most} registers, no spills")


def _tar(members: dict[str, bytes]) -> bytes:
    """Return a tar archive without times and owners: the same code gives the same bytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, code in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(code)
            archive.addfile(member, io.BytesIO(code))
    return raw.getvalue()


def _provenance() -> dict[str, Any]:
    """Return the fields that every file under results/ has: command, machine, versions and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE)
    return {
        "command": "make kernels",
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "versions": {"vlj-edge": importlib.metadata.version("vlj-edge"), "nvcc": nvcc_version()},
        "commit": commit.stdout.strip() or "unknown",
    }


if __name__ == "__main__":
    try:
        main()
    except VljEdgeError as error:
        sys.exit(f"error: {error}")
