"""The tables of vlj-edge eval, in a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import printable

if TYPE_CHECKING:
    from vlj_edge.runtime.evaluation.evaluation import Evaluation
    from vlj_edge.runtime.evaluation.figures import Measure

_TASKS = {
    "classification": "classification",
    "text_to_video": "text to video",
    "video_to_text": "video to text",
    "multiple_choice": "multiple choice",
    "narration": "narration",
}
_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "r1": "R@1",
    "r5": "R@5",
    "r10": "R@10",
    "median_rank": "median rank",
    "cider": "CIDEr",
    "true": "time true",
    "cider_kept": "CIDEr over that of a text a second",
    "decodes_saved": "times fewer texts decoded",
}
_WORST = 20  # classes in a terminal; --json and --md have all
_CONFUSIONS = 3  # classes that one is taken for

Named = Sequence[tuple[str, "Evaluation"]]


@dataclass(frozen=True)
class Table:
    """A header, rows of as many cells, and a line below."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: str = ""


def print_tables(evaluations: Named, clips: int) -> None:
    """Print the figures of each model side by side, and then the worst classes of each.

    Args:
        clips: how many the data has; a model that has not read them all is marked.
    """
    from rich.table import Table as RichTable

    from .say import say, stdout_console

    console = stdout_console()
    for name, each in evaluations:
        if each.clips != clips:  # the tables may break a long name over lines
            say(f"{name}: {each.clips} of {clips} clips")
    for table in tables(evaluations, clips, _WORST):
        shown = RichTable(*table.header)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        if table.below:
            say(table.below)


def markdown_of(evaluations: Named, clips: int) -> str:
    """Return the same tables, with all classes, as Markdown."""
    parts = []
    for table in tables(evaluations, clips, None):
        lines = (table.header, ("---",) * len(table.header), *table.rows)
        parts.append("".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines))
    return "\n".join(parts)


def tables(evaluations: Named, clips: int, most: int | None) -> Iterator[Table]:
    titles = [name if each.clips == clips else f"{name} ({each.clips} of {clips} clips)" for name, each in evaluations]
    yield _figures(titles, [each for _, each in evaluations])
    if len(evaluations) > 1:
        yield _differences(evaluations)
    for title, (_, each) in zip(titles, evaluations, strict=True):
        if each.classes:
            yield _classes(title, each, most)
        if each.rates:
            yield _rates(title, each)


def _figures(titles: Sequence[str], evaluations: Sequence[Evaluation]) -> Table:
    rows = []
    for task, shown in _TASKS.items():
        for name in {name: None for each in evaluations for name in each.measures.get(task, {})}:
            found = [each.measures.get(task, {}).get(name) for each in evaluations]
            one = next(measure for measure in found if measure is not None)
            chance = "" if one.chance is None else f"{one.chance:.3f}"
            rows.append((f"{shown} {_NAMES.get(name, name)}", *map(_value, found), chance, str(one.cases)))
    return Table(("", *titles, "guessing", "cases"), tuple(rows))


def _differences(evaluations: Named) -> Table:
    (first, to), *others = evaluations
    found = [each.minus(to) for _, each in others]
    rows = [
        (f"{shown} {_NAMES.get(name, name)}", *(_value(each.get(task, {}).get(name), signed=True) for each in found))
        for task, shown in _TASKS.items()
        for name in {name: None for each in found for name in each.get(task, {})}
    ]
    below = "" if rows else "too few videos that all have read for an interval of the difference"
    return Table((f"difference to {first}", *(name for name, _ in others)), tuple(rows), below)


def differences_as_dicts(evaluations: Named) -> list[dict[str, Any]]:
    """Return for each further model how much higher its figures are than those of the first."""
    (_, first), *others = evaluations
    return [
        {"bundle": name}
        | {task: {name: one.as_dict() for name, one in found.items()} for task, found in each.minus(first).items()}
        for name, each in others
    ]


def _classes(title: str, evaluation: Evaluation, most: int | None) -> Table:
    rows = []
    for each in evaluation.classes[:most]:
        taken = ", ".join(f"{label} ({count})" for label, count in each.taken_for[:_CONFUSIONS])
        rows.append((each.label, str(each.clips), _value(each.recall, 2), _value(each.precision, 2), taken))
    left = len(evaluation.classes) - len(rows)
    below = f"{left} better classes are not shown: --json and --md have all" if left else ""
    return Table((f"class, {title}", "clips", "recall", "precision", "taken for"), tuple(rows), below)


def _rates(title: str, evaluation: Evaluation) -> Table:
    rows = [
        ("with the gates" if each.every is None else f"every {each.every} s", f"{each.decodes_per_minute:.1f}",
         _value(each.cider), _value(each.true))
        for each in evaluation.rates
    ]  # fmt: skip
    return Table((f"decoded, {title}", "decodes a minute", "CIDEr", "time true"), tuple(rows))


def _value(measure: Measure | None, digits: int = 3, signed: bool = False) -> str:
    if measure is None:
        return ""
    form = f"{'+' if signed else ''}.{digits}f"
    if measure.low is None or measure.high is None:
        return f"{measure.value:{form}}"
    return f"{measure.value:{form}} ({measure.low:{form}} to {measure.high:{form}})"


def _cell(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
