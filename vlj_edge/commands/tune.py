"""vlj-edge tune: the fastest threads for ONNX Runtime on this machine, measured and kept."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
def tune(bundle: Path | None) -> None:
    """Try thread counts and spinning with BUNDLE (nano when not named), and keep the best in its engines/ folder."""
    from rich.console import Console
    from rich.table import Table

    from vlj_edge.bundle import nano_bundle, read_manifest
    from vlj_edge.errors import require
    from vlj_edge.runtime import tuning

    directory = bundle or nano_bundle()
    manifest = read_manifest(directory)
    require("onnxruntime", "cpu")
    terminal = Console(stderr=True)
    with terminal.status("starting") as status:
        tried = tuning.tune(directory, manifest, progress=lambda step: status.update(step))
    console = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    table = Table("threads", "spinning", "ms a window", "CPU ms a window", "")
    for one in tried:
        spin, kept = "yes" if one.tuning.spin else "no", "kept" if one is tried[0] else ""
        table.add_row(str(one.tuning.threads), spin, f"{one.wall:.2f}", f"{one.cpu:.2f}", kept)
    console.print(table)
