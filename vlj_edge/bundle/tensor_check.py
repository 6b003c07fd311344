"""Are a loaded file's inputs and outputs those of the manifest? Every backend and builder asks the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import VljEdgeError
from .manifest import TensorSpec


def check_tensors(
    path: Path,
    specs: Iterable[TensorSpec],
    found: Mapping[str, tuple[str, Sequence[int | str | None]]],
    whose: str,
    remedy: str,
) -> None:
    """Compare names, dtypes and shapes.

    Args:
        found: name -> dtype, as numpy calls it or in the reader's own word, and shape.
        whose: word it is: "the file", "the engine".
        remedy: what to do about it.

    Raises:
        VljEdgeError: the first tensor, by name, that differs or is on one side alone.
    """
    wanted = {spec.name: f"{spec.dtype}{list(spec.shape)}" for spec in specs}
    has = {name: f"{dtype}{list(shape)}" for name, (dtype, shape) in found.items()}
    for name in sorted(wanted.keys() | has.keys()):
        if wanted.get(name) != has.get(name):
            raise VljEdgeError(
                f"{path}: the manifest says {name} is {wanted.get(name, 'absent')}, {whose} says"
                f" {has.get(name, 'absent')}: {remedy}"
            )
