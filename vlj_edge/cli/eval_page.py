"""The figures of vlj-edge eval as one HTML page, which holds its pictures and loads nothing."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from ..errors import printable
from .eval_output import Named, Table, tables

if TYPE_CHECKING:
    from vlj_edge.runtime.evaluation.data import Clip
    from vlj_edge.runtime.evaluation.evaluation import Evaluation, Mistake
    from vlj_edge.runtime.evaluation.figures import Measure

_CONFUSIONS = 8  # pairs of texts of a model that are shown
_PICTURES = 3  # of a pair
_COLOURS = 5  # of models in the page's style
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 800, 320, 48, 48, 12, 16
_TITLES = {"classification": "taken for another class", "video_to_text": "taken for another text"}


def page(data: str, clips: int, evaluations: Named, picture: Callable[[Clip], bytes | None]) -> str:
    """Return the page.

    Args:
        data: its name.
        clips: how many it has.
        picture: returns a JPEG of a clip, None if there is none.
    """
    names = ", ".join(name for name, _ in evaluations)
    parts = [f"<h1>{_text(names)}</h1>\n<div class='soft'>measured on {clips} clips of {_text(data)}; in brackets are "
             "bootstrap intervals of 95 % over videos</div>"]  # fmt: skip
    first, *others = tables(evaluations, clips, None)
    parts.append(_section("Figures", _table(first)))
    if len(evaluations) > 1:
        parts.append(_section("Differences", _table(others.pop(0))))
    if any(each.rates for _, each in evaluations):
        parts.append(_section("Quality of the narration against the rate of decoding", _curve(evaluations)))
    for name, each in evaluations:
        parts += [_section(f"{title}: {name}", body) for title, body in _confusions(each, picture)]
    parts += [_section("", _table(table)) for table in others]
    template = (files("vlj_edge") / "pages" / "eval.html").read_text(encoding="utf-8")
    return template.replace("{{BODY}}", "\n".join(parts))


def _text(text: str) -> str:
    return escape(printable(text))


def _section(title: str, body: str) -> str:
    return f"<section>{f'<h2>{_text(title)}</h2>' if title else ''}{body}</section>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.header)
    rows = ("".join(f"<td>{_text(cell)}</td>" for cell in row) for row in table.rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _confusions(evaluation: Evaluation, picture: Callable[[Clip], bytes | None]) -> list[tuple[str, str]]:
    """Return a title and the pictures of each task's worst confusions: those of most clips, then the surest."""
    found = []
    for task in dict.fromkeys(mistake.task for mistake in evaluation.mistakes):
        pairs: dict[tuple[object, ...], list[Mistake]] = {}
        for each in evaluation.mistakes:
            if each.task == task:
                pairs.setdefault((each.question, each.right, each.taken_for), []).append(each)
        worst = sorted(pairs.values(), key=len, reverse=True)[:_CONFUSIONS]
        figures = [_figure(each, len(pair), picture) for pair in worst for each in pair[:_PICTURES]]
        found.append((_TITLES.get(task, "answered wrongly"), f"<div class='clips'>{''.join(figures)}</div>"))
    return found


def _figure(mistake: Mistake, count: int, picture: Callable[[Clip], bytes | None]) -> str:
    jpeg = picture(mistake.clip)
    shown = "<div class='soft'>no picture</div>"
    if jpeg is not None:
        shown = f"<img alt='' src='data:image/jpeg;base64,{b64encode(jpeg).decode()}'>"
    asked = "" if mistake.question is None else f"{_text(mistake.question)}<br>"
    often = "" if count == 1 else f" ({count} clips)"
    return (
        f"<figure>{shown}<figcaption>{asked}{_text(' / '.join(mistake.right))}<br>taken for <b>"
        f"{_text(mistake.taken_for)}</b>{often}<br><span class='soft'>{_text(mistake.clip.name)}, nearer by "
        f"{mistake.margin:.3f}</span></figcaption></figure>"
    )


def _curve(evaluations: Named) -> str:
    """Return CIDEr against decodes a minute as SVG: a line for each model, a ring for its gates."""
    points = [each for _, found in evaluations for each in found.rates]
    most_x = max(*(each.decodes_per_minute for each in points), 1e-6) * 1.02
    most_y = max(*(_high(each.cider) for each in points), 1e-6) * 1.05

    def x(value: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * math.sqrt(value / most_x), 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / most_y, 1)

    parts = [f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='CIDEr against decodes a minute'>"]
    for level in (0, 0.25, 0.5, 0.75, 1):
        at, label = y(level * most_y), f"{level * most_y:.2f}"
        parts.append(f"<line class='axis' x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{at}' y2='{at}'/>")
        parts.append(f"<text x='{_LEFT - 8}' y='{at + 4}' text-anchor='end'>{label}</text>")
    for share in (0, 0.06, 0.25, 0.5, 1):
        label = f"{share * most_x:.3g}"
        parts.append(f"<text x='{x(share * most_x)}' y='{_HEIGHT - 30}' text-anchor='middle'>{label}</text>")
    parts.append(f"<text x='{_LEFT}' y='{_HEIGHT - 10}'>CIDEr against decodes a minute; rings: with the gates</text>")
    for number, (name, found) in enumerate(evaluations):
        parts += _line(number, name, found, x, y)
    return "".join(parts) + "</svg>"


def _line(
    number: int, name: str, evaluation: Evaluation, x: Callable[[float], float], y: Callable[[float], float]
) -> Sequence[str]:
    parts = [f"<g class='m{number % _COLOURS}'>"]
    regular = [each for each in evaluation.rates if each.every is not None]
    line = " ".join(f"{x(each.decodes_per_minute)},{y(each.cider.value)}" for each in regular)
    parts.append(f"<polyline class='curve' points='{line}'/>")
    for each in evaluation.rates:
        at, kind, size = (
            x(each.decodes_per_minute),
            "gates" if each.every is None else "dot",
            6 if each.every is None else 3,
        )
        if each.cider.low is not None:
            parts.append(
                f"<line class='span' x1='{at}' x2='{at}' y1='{y(each.cider.low)}' y2='{y(_high(each.cider))}'/>"
            )
        way = "with the gates" if each.every is None else f"every {each.every} s"
        title = f"{_text(name)}, {way}: {each.cider.value:.3f} at {each.decodes_per_minute:.1f} a minute"
        parts.append(
            f"<circle class='{kind}' cx='{at}' cy='{y(each.cider.value)}' r='{size}'><title>{title}</title></circle>"
        )
    key = f"<text class='key' x='{_WIDTH - _RIGHT}' y='{_HEIGHT - _BOTTOM - 16 * (number + 1)}' text-anchor='end'>"
    return [*parts, f"{key}{_text(name)}</text></g>" if evaluation.rates else "</g>"]


def _high(measure: Measure) -> float:
    return measure.value if measure.high is None else measure.high
