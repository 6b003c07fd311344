"""The comparisons of one gate: what is reported of a decision is what it was made of."""

from __future__ import annotations

from vlj_edge.decisions import Check, Operator


class Checks:
    """Makes comparisons and keeps those since the last reset().

    Attributes:
        made: the comparisons, in their order.
    """

    def __init__(self) -> None:
        self.made: list[Check] = []

    def __call__(self, name: str, value: float, operator: Operator, bound: float, as_set: float | None = None) -> bool:
        """Return whether a value is as the operator and the bound say. Arguments are those of Check."""
        check = Check(name, value, operator, bound, bound if as_set is None else as_set)
        self.made.append(check)
        return check.holds

    def reset(self) -> None:
        """Forget the comparisons."""
        self.made = []
