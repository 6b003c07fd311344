"""vlj-edge verify: check the files of a bundle, and compare a backend with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import VljEdgeError
from .options import bundle_argument, engines_option, key_file_option, threads_option
from .part_options import PartOptions, part_options
from .progress import steps
from .say import say, stdout_console

if TYPE_CHECKING:
    from vlj_edge.runtime.profiling.backends_diff import Comparison

    from ..bundle import Manifest


@click.command(short_help="Check a bundle's files, and a backend against ONNX Runtime.")
@bundle_argument
@click.option("--backend", help="Also compare this backend (tensorrt, cuda) with ONNX Runtime, on --source.")
@click.option("--source", type=click.Path(path_type=Path), help="Video file for the comparison with --backend.")
@part_options
@engines_option
@key_file_option
@threads_option
def verify(
    bundle: Path | None,
    backend: str | None,
    source: Path | None,
    part: PartOptions,
    engines: Path | None,
    threads: int | None,
) -> None:
    """Hash every file of BUNDLE (nano if not given) and compare with its manifest; say who signed its built engines.

    With --backend, also run every engine on clips of a video with that backend and with ONNX Runtime, and compare
    the outputs, the final embedding and the texts.
    """
    from ..bundle import nano_bundle, verify_bundle

    if (backend is None) != (source is None):
        raise click.UsageError("a comparison needs both --backend and --source VIDEO")
    if source is None and part != PartOptions():
        raise click.UsageError("--start and the like say which part of --source is compared: give that, too")
    if source is not None:
        part.check(str(source))
    directory = bundle or nano_bundle()
    manifest = verify_bundle(directory)
    size = sum(file.bytes for file in manifest.files.values()) / 1e6
    say(f"{directory}: {len(manifest.files)} files, {size:.1f} MB, all as exported")
    _print_signatures(directory, manifest)
    if backend is None or source is None:
        return

    from vlj_edge.runtime.profiling.backends_diff import compare_backends

    with steps() as step, part.open(str(source), manifest.clip) as video:
        found = compare_backends(directory, manifest, video, backend, engines, threads, progress=step)
    _print(found, backend)
    if not found.agrees:
        again = f"run vlj-edge build {directory} --force, and if that does not help, "
        raise VljEdgeError(
            f"{backend} differs from ONNX Runtime: {again if backend == 'tensorrt' else ''}export the bundle in another"
            " precision, or use another backend"
        )


def _print_signatures(directory: Path, manifest: Manifest) -> None:
    """Say who signed each built engine. Raises VljEdgeError if one is not the engine that was built."""
    from ..bundle.engine_cache import find_signatures

    found = find_signatures(directory, manifest)
    for each in found:
        path = each.receipt.relative_to(directory).with_suffix("")
        if each.key is not None:
            say(f"{path}: signed by {each.signer}, with {each.key}")
        else:
            say(
                f"{path}: not signed with a key of this user or machine; runs only with --engines {each.receipt.parent}"
            )
    damaged = [str(each.receipt.with_suffix("")) for each in found if not each.whole]
    if damaged:
        raise VljEdgeError(f"{', '.join(damaged)}: not the engine that was built: run vlj-edge build {directory}")


def _print(found: Comparison, backend: str) -> None:
    from rich.table import Table

    console = stdout_console()
    table = Table(
        "engine",
        "precision",
        "cases",
        "cosine",
        "export to torch",
        "agrees",
        title=f"{backend} and ONNX Runtime on the same inputs",
        title_justify="left",
    )
    for row in found.rows:
        to_torch = f"{row.torch_cosine:.7f}" if row.torch_cosine is not None else "not measured"
        agrees = "yes" if row.agrees else "NO"
        table.add_row(row.engine, row.precision, str(row.cases), f"{row.cosine:.7f}", to_torch, agrees)
    console.print(table)
    console.print(f"{backend}: {found.described}", markup=False)
    same = sum(a == b for a, b in found.texts)
    if found.texts:
        console.print(f"texts: {same} of {len(found.texts)} are the same")
    for ours, theirs in found.texts:
        if ours != theirs:
            console.print(f"ONNX Runtime: {ours}")
            console.print(f"{backend}: {theirs}")
