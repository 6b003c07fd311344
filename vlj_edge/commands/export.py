"""vlj-edge export: weights in, verified bundle out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vlj_edge.export.bundle import Exported


@click.command()
@click.argument("weights", required=False, type=click.Path(path_type=Path))
@click.option("--preset", "preset_name", default="nano", show_default=True, help="Model dimensions that WEIGHTS have.")
@click.option("--fp16", is_flag=True, help="Cast weights and activations to fp16; fails where parity does not hold.")
@click.option("--out", type=click.Path(path_type=Path), help="Bundle directory to make; named after the preset if not.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle that lies at --out.")
def export(weights: Path | None, preset_name: str, fp16: bool, out: Path | None, overwrite: bool) -> None:
    """Export WEIGHTS as four ONNX engines, compare each with torch, and seal them as a bundle.

    WEIGHTS is a directory as examples/train_nano writes it; the trained nano weights of the package when not named.
    """
    from vlj_edge.errors import VljEdgeError, require
    from vlj_edge.presets import preset

    chosen = preset(preset_name)
    if weights is None and preset_name != "nano":
        raise VljEdgeError(f"only nano comes with weights: vlj-edge export WEIGHTS --preset {preset_name}")
    for module, extra in (("torch", "export"), ("onnxscript", "export"), ("onnxruntime", "cpu")):
        require(module, extra)

    from rich.console import Console

    from vlj_edge.export.bundle import export_bundle
    from vlj_edge.export.weights import shipped_weights

    terminal = Console(stderr=True)
    with terminal.status("starting") as status:

        def progress(step: str) -> None:
            if terminal.is_terminal:
                terminal.print(f"[dim]{step}")
                status.update(step)

        exported = export_bundle(
            weights or shipped_weights(),
            chosen,
            out or Path(f"{preset_name}-fp16" if fp16 else preset_name),
            fp16=fp16,
            overwrite=overwrite,
            command=" ".join(["vlj-edge", *sys.argv[1:]]),
            progress=progress,
        )
    _print_summary(exported)


def _print_summary(exported: Exported) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    # A pipe has no width to fit: rich would cut the tables at 80 columns.
    width = None if sys.stdout.isatty() else 120
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    table = Table("engine", "precision", "opset", "nodes a layer", "MB", title="engines", title_justify="left")
    for engine in exported.engines:
        row = (engine.precision, str(engine.opset), str(engine.nodes_a_layer), f"{engine.megabytes:.1f}")
        table.add_row(engine.name, *row)
    console.print(table)
    columns = ("precision", "cases", "cosine", "worst token", "first differing token")
    parity = Table(Column("engine", no_wrap=True), *columns, title="parity with torch in fp32", title_justify="left")
    for line in exported.parity:
        worst = f"{line.worst_token:.7f}" if line.worst_token is not None else ""
        differing = "none" if line.first_differing_token is None else str(line.first_differing_token)
        figures = (line.precision, str(line.cases), f"{line.cosine:.7f}", worst)
        parity.add_row(line.engine, *figures, differing if line.makes_text else "")
    console.print(parity)
    for engine in exported.engines:
        for kept in engine.kept_fp32:
            console.print(f"kept in fp32 in {engine.name}: {kept}")
    console.print(f"{exported.bundle}: next, vlj-edge narrate VIDEO --bundle {exported.bundle}")
