"""vlj-edge labels: labels in, a bank of their vectors out, so that a device needs no text encoder."""

from __future__ import annotations

from pathlib import Path

import click

from .options import EngineOptions, bundle_option, engine_options, load_model


@click.command()
@click.argument("given", metavar="LABELS")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bank to write (.npz).")
@click.option("--template", "templates", multiple=True, help='Wording with {} for the label, such as "a video of {}".')
@bundle_option
@engine_options
def labels(
    given: str, out: Path, templates: tuple[str, ...], bundle: Path | None, engine_options: EngineOptions
) -> None:
    """Embed LABELS (with commas between, or a file with one a line) and write them to a bank.

    vlj-edge classify --bank and vlj-edge embed --bank read it.
    """
    from rich.console import Console
    from rich.progress import Progress

    from vlj_edge.runtime.embedding.labels import make_bank, read_labels, save_bank

    names = read_labels(given)
    model = load_model(bundle, engine_options)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("labels", total=len(names))
        bank = make_bank(model, names, templates or None, lambda done: progress.update(task, completed=done))
    save_bank(bank, out)
    click.echo(f"{out}: {len(names)} labels, {bank.embeddings.nbytes / 1e3:.1f} kB of vectors")
