"""What the gates decided about a window, as the comparisons that they made."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple

Operator = Literal["<", "<=", ">", ">="]

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Check(NamedTuple):
    """One comparison that a gate made.

    Attributes:
        name: of the setting that gives the bound (vlj_edge.bundle.gate_settings). Limits without a setting are
            "wander" (cells that the picture moves by within a clip), "restless" (share of the picture that always
            moves), "crept" (cells that differ from the beginning of the time of rest to its end), "pictures" (different
            ones in the time of rest), "agreeing" and "rival" (texts of the memory),
            "another" (the cosine of another of its texts), and "price" (1 - cosine from which
            on a change is worth a text of the budget). "texts_per_hour" and "encodes_per_minute" compare what is saved
            up.
        value: what was measured; cosines are -1..1, luminances and shares 0..1, times seconds, the rest are counts.
        operator: how it was compared.
        bound: what it was compared with.
        as_set: the bound before the gate adapted it to the stream: a cosine that noise lowers, a time that grows.

    Example:
        >>> from vlj_edge import Check
        >>> Check("speak_below", 0.91, "<", bound=0.9, as_set=0.965).holds
        False
    """

    name: str
    value: float
    operator: Operator
    bound: float
    as_set: float

    @property
    def holds(self) -> bool:
        """Whether the value is as the operator and the bound say."""
        return bool(_COMPARE[self.operator](self.value, self.bound))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields, and `holds`; an infinite value is None."""
        value = self.value if isfinite(self.value) else None
        return self._asdict() | {"value": value, "holds": self.holds}


@dataclass(frozen=True)
class Decision:
    """What one gate decided, and on which numbers. docs/gates.md says how each verdict follows from the checks.

    Attributes:
        gate: "rest", "meaning", "scene" or "memory".
        verdict: rest: "resting", "moving" or "unknown". meaning: "text"; "waits" (there is a change, its text comes
            later), "refused" (the budget has no text for it), "dropped" (that change is gone), "same" (compared:
            nothing new), "skipped" (not compared). scene: "encoded" or "repeated" (the last embedding). memory:
            "recalled" or "decoded".
        checks: the comparisons that it made, in their order; one that did not matter is not made.
        cause: meaning: why there is a change: "first" (window of the run), "turn" (the picture came to rest or began
            to move), "change" (of the embedding), or "overdue" (it got its text since a turn followed). Otherwise "off"
            (by its settings), "first" or "empty" (nothing to compare with), or None.
        window: the index of the window that was decided on; None for a text.
        noise: the cosine of one look at the resting picture to the next, as usual in this stream, 1 without noise;
            None for the other gates.
        unrelated: meaning, with relative thresholds: the cosine of two moments of this stream, as usual; None until it
            is known.

    Example:
        >>> import vlj_edge
        >>> reports = []
        >>> with vlj_edge.load() as model:
        ...     text = next(model.narrate("examples/media/demo.mp4", watch=reports.append))
        >>> {decision.gate: decision.verdict for decision in reports[0].decisions}
        {'rest': 'resting', 'meaning': 'waits'}
    """

    gate: str
    verdict: str
    checks: tuple[Check, ...] = ()
    cause: str | None = None
    window: int | None = None
    noise: float | None = None
    unrelated: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields."""
        return vars(self) | {"checks": [check.as_dict() for check in self.checks]}


@dataclass(frozen=True)
class TextReport:
    """Where one text came from.

    Attributes:
        start, end: of what it describes, seconds, as of the Narration.
        origin: "decoder", "memory" or "words", as of the Narration.
        told: whether it became a Narration: the same text as the one before does not.
        decision: of the caption memory.

    Example:
        >>> import vlj_edge
        >>> reports = []
        >>> with vlj_edge.load() as model:
        ...     told = list(model.narrate("examples/media/demo.mp4", watch_texts=reports.append))
        >>> len(told) == sum(report.told for report in reports)
        True
    """

    start: float
    end: float
    text: str
    origin: Literal["decoder", "memory", "words"]
    told: bool
    decision: Decision

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields."""
        return vars(self) | {"decision": self.decision.as_dict()}
