"""The compiled CUDA kernels that the package ships: where they are, and which of them runs on which card."""

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
    """What `make kernels` wrote beside the archive.

    Raises:
        VljEdgeError: it is not there or not readable.
    """
    try:
        found: dict[str, Any] = json.loads(SEAL.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VljEdgeError(f"{SEAL} cannot be read ({error}): install vlj-edge again") from error
    return found


@lru_cache(maxsize=1)
def _archive() -> dict[str, bytes]:
    import lzma  # some builds of Python lack it, and most people never need a kernel
    import tarfile

    raw = ARCHIVE.read_bytes() if ARCHIVE.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != seal()["sha256"]:
        raise VljEdgeError(f"{ARCHIVE} is not the one that was compiled: install vlj-edge again")
    with lzma.open(ARCHIVE) as packed, tarfile.open(fileobj=packed) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]


def compiled_for() -> tuple[str, ...]:
    """The cards, "sm75" and so on."""
    return tuple(seal()["cards"])


def card_of(sm: str, cards: Sequence[str] | None = None) -> str:
    """The card whose code runs on this one: itself, or the newest older one of its generation (CUDA C++ Programming
    Guide, "Binary Compatibility").

    Args:
        sm: "sm86".

    Raises:
        VljEdgeError: there is none; the message lists what there is.
    """
    cards = compiled_for() if cards is None else cards
    number = int(sm.removeprefix("sm"))
    fitting = [int(card[2:]) for card in cards if int(card[2:]) // 10 == number // 10 and int(card[2:]) <= number]
    if not fitting:
        raise VljEdgeError(f"the kernels were compiled for {', '.join(cards)}, not for {sm}: use the native graph")
    return f"sm{max(fitting)}"


def ptx(source: str, sm: str) -> str:
    """The intermediate code of a source that this card and every newer one can compile: TensorRT takes no other.

    Raises:
        VljEdgeError: the card is older than all there is, or the archive is damaged.
    """
    number = int(sm.removeprefix("sm"))
    parts = [name.split(".") for name in _archive()]
    ages = [int(card[2:]) for name, card, kind in parts if name == source and kind == "ptx"]
    fitting = [age for age in ages if age <= number]
    if not fitting:
        known = ", ".join(compiled_for())
        raise VljEdgeError(f"the kernels were compiled for {known}, not for {sm}: use the native graph")
    return _archive()[f"{source}.sm{max(fitting)}.ptx"].decode()


def cubin(source: str, sm: str) -> bytes:
    """The compiled code of a source ("attention", "pixels", "gate") for a card.

    Raises:
        VljEdgeError: there is none for this card, or the archive is damaged.
    """
    return _archive()[f"{source}.{card_of(sm)}.cubin"]
