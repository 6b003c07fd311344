"""vlj-edge labels: embed labels once and write a bank, so that a device needs no text encoder."""

from __future__ import annotations

from pathlib import Path

import click

from .options import EngineOptions, bundle_option, engine_options, load_model, template_option
from .outputs import output_file
from .say import say, stderr_console, tell


@click.command(short_help="Embed labels once, for classify and embed on a device.")
@click.argument("label_list", metavar="LABELS")
@click.option("--out", type=output_file, required=True, help="Bank to write (.npz).")
@template_option
@bundle_option
@engine_options
def labels(
    label_list: str, out: Path, templates: tuple[str, ...], bundle: Path | None, engine_options: EngineOptions
) -> None:
    """Embed LABELS (comma-separated, or a file with one on each line) and write a label bank.

    It is read by vlj-edge classify --bank and vlj-edge embed --bank.
    """
    from rich.progress import Progress

    from vlj_edge.runtime.embedding.labels import make_bank, read_labels, save_bank

    from ..atomic_write import is_no_file

    names = read_labels(label_list)
    console = stderr_console()
    with (
        load_model(bundle, engine_options) as model,
        Progress(console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False) as progress,
    ):
        task = progress.add_task("labels", total=len(names))
        bank = make_bank(model, names, templates or None, lambda done: progress.update(task, completed=done))
    save_bank(bank, out)
    write = tell if is_no_file(out) else say
    write(f"{out}: {len(names)} labels, {bank.embeddings.nbytes / 1e3:.1f} kB of vectors")
