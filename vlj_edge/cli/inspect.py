"""vlj-edge inspect: print what a bundle contains, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import bundle_argument
from .say import say, stdout_console

if TYPE_CHECKING:
    from ..bundle import Manifest, TensorSpec


@click.command(short_help="Show what a bundle holds and how it was made.")
@bundle_argument
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as it is.")
def inspect(bundle: Path | None, as_json: bool) -> None:
    """Show engines, preprocessing, gates, parity and build receipt of BUNDLE (nano if not given)."""
    from ..bundle import MANIFEST, nano_bundle, read_manifest
    from ..json_text import with_escapes

    directory = bundle or nano_bundle()
    manifest = read_manifest(directory)
    if as_json:
        for line in with_escapes((directory / MANIFEST).read_text(encoding="utf-8")).splitlines():
            say(line)
        return
    _print(directory, manifest)


def _print(directory: Path, manifest: Manifest) -> None:
    from rich.table import Table

    console = stdout_console(None)
    clip, preprocess = manifest.clip, manifest.preprocess
    console.print(f"{directory}: {manifest.preset}, {manifest.embedding}-d embeddings")
    console.print(
        f"clip: {clip.frames} frames at {clip.frames_per_second:g}/s, a window every"
        f" {clip.stride / clip.frames_per_second:g} s, {preprocess.crop} x {preprocess.crop} pixels"
    )
    console.print(f"question: {manifest.default_query}" if manifest.takes_query else "takes no query")
    if manifest.queries:
        console.print(f"trained to be asked {len(manifest.queries)} questions: " + " | ".join(manifest.queries))
    if not manifest.embeds_texts:
        console.print("has no text encoder: it knows its own labels alone")
    if manifest.labels.caveat:
        console.print(manifest.labels.caveat)
    cosines = _cosines(manifest)
    table = Table("engine", "precision", "opset", "MB", "cosine to torch")
    for name, engine in manifest.engines.items():
        size = manifest.files[engine.file].bytes / 1e6
        table.add_row(name, engine.precision, str(engine.opset), f"{size:.1f}", cosines.get(name, "unknown"))
    for name, engine in manifest.on_cpu.items():
        name, size = f"{name} on a CPU", manifest.files[engine.file].bytes / 1e6
        table.add_row(name, engine.precision, str(engine.opset), f"{size:.1f}", cosines.get(name, "unknown"))
    console.print(table)
    for name, engine in manifest.engines.items():
        if engine.plugins:
            measured = "; the cosine is that of its native graph" if name in cosines else ""
            console.print(f"{name}: fused, for TensorRT alone ({', '.join(engine.plugins)}){measured}")
    for name, engine in manifest.engines.items():
        console.print(f"{name}: {_shapes(engine.inputs)} -> {_shapes(engine.outputs)}")
    for name, engine in manifest.engines.items():
        for kept in engine.kept_fp32:
            console.print(f"kept in fp32 in {name}: {kept}")
    for name, gate in vars(manifest.gates).items():
        console.print(
            (name if name == "budget" else f"{name} gate") + ": " + ", ".join(f"{k} {v}" for k, v in vars(gate).items())
        )
    receipt = manifest.receipt
    if manifest.has_default_gates:
        console.print("the gates are defaults, not calibrated for this model: see vlj-edge calibrate")
    if receipt.get("random_weights") is not None:
        console.print("some weights are random: this bundle is for measuring size and speed, its outputs mean nothing")
    for line in _repositories(receipt.get("repositories")):
        console.print(line)
    console.print(f"made {receipt.get('made', 'unknown')} by: {receipt.get('command', 'unknown')}")


def _repositories(entries: Any) -> list[str]:
    """Return a line for each public repository of a receipt; for display only, so an unexpected form is no error."""
    entries = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    return [
        f"weights: {each.get('repository')} at commit {each.get('commit')}, licence {each.get('licence')}"
        for each in entries
    ]


def _cosines(manifest: Manifest) -> dict[str, str]:
    rows = manifest.parity.get("rows")  # for display only: an unexpected form is no error
    pairs = (
        [(row.get("engine"), row.get("cosine")) for row in rows if isinstance(row, dict)]
        if isinstance(rows, list)
        else []
    )
    return {name: f"{cosine:.7f}" for name, cosine in pairs if isinstance(name, str) and isinstance(cosine, float)}


def _shapes(tensors: tuple[TensorSpec, ...], most: int = 5) -> str:
    shapes = [f"{t.name} {t.dtype} {'x'.join(map(str, t.shape))}" for t in tensors[:most]]
    more = [f"{len(tensors) - most} more"] if len(tensors) > most else []
    return ", ".join(shapes + more)
