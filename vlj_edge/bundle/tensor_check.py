"""Compare a loaded file's inputs and outputs with the manifest's; used by every backend and by the builder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import VljEdgeError
from .manifest import TensorSpec

_ANY = "tokens"


def check_tensors(
    path: Path,
    specs: Iterable[TensorSpec],
    found: Mapping[str, tuple[str, Sequence[int | str | None]]],
    reader: str,
    remedy: str,
) -> None:
    """Compare names, dtypes and shapes.

    Args:
        specs: from the manifest.
        found: name -> dtype (numpy's name, or the reader's own if numpy has none) and shape.
        reader: where `found` comes from, for the error: "the file", "the engine".
        remedy: what the user can do, for the error.

    Raises:
        VljEdgeError: a tensor differs, or only one side has it. The first of them by name is reported.
    """
    expected = {spec.name: f"{spec.dtype}{_shape(spec)}" for spec in specs}
    actual = {name: f"{dtype}[{', '.join(map(_size, shape))}]" for name, (dtype, shape) in found.items()}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise VljEdgeError(
                f"{path}: the manifest says {name} is {expected.get(name, 'absent')}, {reader} says"
                f" {actual.get(name, 'absent')}: {remedy}"
            )


def _shape(spec: TensorSpec) -> str:
    sizes = [_ANY if axis == spec.by_tokens else str(size) for axis, size in enumerate(spec.shape)]
    return f"[{', '.join(sizes)}]"


def _size(size: int | str | None) -> str:
    """Return a size as text; readers write one that is not fixed as a name, -1 or None."""
    return str(size) if isinstance(size, int) and size >= 0 else _ANY
