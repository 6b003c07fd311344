"""The archive of compiled CUDA kernels, and which of its members a GPU runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import VljEdgeError

ARCHIVE = Path(__file__).with_name("kernels.tar.xz")
SEAL = Path(__file__).with_name("kernels.json")  # sha256 of the archive and of the sources, and the cards


@lru_cache(maxsize=1)
def seal() -> dict[str, Any]:
    """Return the archive's seal, as `make kernels` wrote it: "sha256" of the archive, "cards" that it was compiled for,
    version of "nvcc", and sha256 of the "sources" by file name.

    Raises:
        VljEdgeError: the file is missing or unreadable.
    """
    try:
        found: dict[str, Any] = json.loads(SEAL.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VljEdgeError(f"{SEAL} cannot be read ({error}): install vlj-edge again") from error
    return found


@lru_cache(maxsize=1)
def _archive() -> dict[str, bytes]:
    import lzma  # some builds of Python lack it, and most users never need a kernel
    import tarfile

    raw = ARCHIVE.read_bytes() if ARCHIVE.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != seal()["sha256"]:
        raise VljEdgeError(f"{ARCHIVE} is missing or damaged: install vlj-edge again")
    with lzma.open(ARCHIVE) as packed, tarfile.open(fileobj=packed) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]


def compiled_for() -> tuple[str, ...]:
    """Return the compute capabilities that the kernels were compiled for, such as "sm75"."""
    return tuple(seal()["cards"])


def card_of(sm: str, cards: Sequence[str] | None = None) -> str:
    """Return the compute capability whose cubin runs on a GPU: its own, or the newest older one of the same major
    version (CUDA C++ Programming Guide, "Binary Compatibility").

    Args:
        sm: the GPU's compute capability, such as "sm86".
        cards: those to choose from; by default, those that the kernels were compiled for.

    Raises:
        VljEdgeError: there is none; the message lists those that exist.
    """
    cards = compiled_for() if cards is None else cards
    number = int(sm.removeprefix("sm"))
    fitting = [int(card[2:]) for card in cards if int(card[2:]) // 10 == number // 10 and int(card[2:]) <= number]
    if not fitting:
        raise _not_compiled_for(sm, cards)
    return f"sm{max(fitting)}"


def ptx(source: str, sm: str) -> str:
    """Return the PTX of a source that a GPU can compile: that for the newest compute capability up to its own.

    Args:
        source: "attention"; the archive has no other PTX.
        sm: the GPU's compute capability, such as "sm86".

    Raises:
        VljEdgeError: the GPU is older than all PTX in the archive, or the archive is damaged.
    """
    number = int(sm.removeprefix("sm"))
    members = [name.split(".") for name in _archive()]
    cards = [card for name, card, kind in members if name == source and kind == "ptx" and int(card[2:]) <= number]
    if not cards:
        raise _not_compiled_for(sm, compiled_for())
    newest = max(cards, key=lambda card: int(card[2:]))
    return _archive()[f"{source}.{newest}.ptx"].decode()


def cubin(source: str, sm: str) -> bytes:
    """Return the compiled code of a source for a GPU.

    Args:
        source: "attention" or "pixels".
        sm: the GPU's compute capability, such as "sm86".

    Raises:
        VljEdgeError: there is none for this GPU, or the archive is damaged.
    """
    return _archive()[f"{source}.{card_of(sm)}.cubin"]


def _not_compiled_for(sm: str, cards: Sequence[str]) -> VljEdgeError:
    return VljEdgeError(
        f"the CUDA kernels were compiled for {', '.join(cards)}, not for {sm}: export with --flavour native, and leave"
        " pixels_on_card out"
    )
