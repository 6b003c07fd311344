"""The options of a budget: --texts-per-hour and --encodes-per-minute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from .options import NumberRange

if TYPE_CHECKING:
    from ..bundle import GateSettings

LIMIT = NumberRange(0, 1e6)  # that of vlj_edge/bundle/gate_ranges.py

encodes_option = click.option(
    "--encodes-per-minute",
    type=LIMIT,
    help="Run the vision encoder at most so often in the long run; 0: no limit.  [default: the bundle's]",
)
_texts_option = click.option(
    "--texts-per-hour",
    type=LIMIT,
    help="Make at most so many texts in the long run, of the largest changes; 0: no limit.  [default: the bundle's]",
)


@dataclass(frozen=True)
class BudgetOptions:
    """The values of --texts-per-hour and --encodes-per-minute; None: not given."""

    texts_per_hour: float | None = None
    encodes_per_minute: float | None = None

    @property
    def given(self) -> dict[str, float]:
        """Those that were given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def applied_to(self, gates: GateSettings) -> GateSettings:
        """Return gates with the limits that were given in place of theirs."""
        return replace(gates, budget=replace(gates.budget, **self.given)) if self.given else gates


def budget_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as one `budget`."""

    @_texts_option
    @encodes_option
    @wraps(command)
    def with_budget(*args: Any, texts_per_hour: float | None, encodes_per_minute: float | None, **kwargs: Any) -> Any:
        return command(*args, budget=BudgetOptions(texts_per_hour, encodes_per_minute), **kwargs)

    return with_budget
