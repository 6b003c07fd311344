"""vlj-edge labels: embed labels once and write a bank, for devices without a text encoder; or list a model's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from .options import EngineOptions, bundle_option, engine_options, load_model, template_option
from .outputs import output_file
from .say import say, stderr_console, tell


@click.command(short_help="Embed labels once, for classify and embed on a device.")
@click.argument("label_list", metavar="[LABELS]", required=False)
@click.option("--out", type=output_file, help="Bank to write (.npz).")
@template_option
@bundle_option
@engine_options
def labels(
    label_list: str | None,
    out: Path | None,
    templates: tuple[str, ...],
    bundle: Path | None,
    engine_options: EngineOptions,
) -> None:
    """Embed LABELS (comma-separated, or a file with one on each line) and write a label bank.

    It is read by vlj-edge classify --bank and vlj-edge embed --bank.

    Without LABELS, those that the bundle has of its own, or its captions, are embedded; without --out they are printed,
    one a line.
    """
    from vlj_edge.runtime.chain import check_embeds_texts
    from vlj_edge.runtime.embedding.labels import make_bank, read_labels, save_bank
    from vlj_edge.runtime.embedding.own_labels import captions_bank

    from ..atomic_write import is_no_file
    from ..bundle import nano_bundle, read_manifest
    from ..text_list import texts_of_file

    if out is None:
        _print_own(label_list, bundle)
        return
    if label_list is None and templates:
        raise click.UsageError("--template is for LABELS: name them, or leave --template out")
    names = None if label_list is None else read_labels(label_list)
    directory = bundle or nano_bundle()
    check_embeds_texts(directory, read_manifest(directory))
    with load_model(bundle, engine_options) as model, texts_of_file(label_list or ""), labels_shown() as shown:
        bank = captions_bank(model, shown) if names is None else make_bank(model, names, templates or None, shown)
    save_bank(bank, out)
    write = tell if is_no_file(out) else say
    write(f"{out}: {len(bank.labels)} labels, {bank.embeddings.nbytes / 1e3:.1f} kB of vectors")


@contextmanager
def labels_shown() -> Iterator[Callable[[int], None]]:
    """Count, on a terminal, the labels that are embedded: yield what takes the number of those that are done."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    console = stderr_console()
    columns = TextColumn("{task.description}"), MofNCompleteColumn()
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False)
    with shown:
        task = shown.add_task("labels embedded", total=None)
        yield lambda done: shown.update(task, completed=done)


def _print_own(label_list: str | None, bundle: Path | None) -> None:
    from vlj_edge.runtime.embedding.own_labels import own_texts

    from ..bundle import nano_bundle, read_manifest
    from ..errors import WrongCall

    if label_list is not None:
        raise click.UsageError(
            "name the bank to write with --out FILE; without LABELS, those that the bundle has of its own are printed"
        )
    directory = bundle or nano_bundle()
    own = own_texts(directory, read_manifest(directory))
    if not own:
        raise WrongCall(f"{directory} has no labels or captions of its own: name LABELS, and --out for their bank")
    for text in own:
        say(text)
