"""The CUDA kernels' contract: names, the cards they were compiled for, what they serve, and the tables they read.

Their sources are in export/kernels, `make kernels` compiles them into kernels.tar.xz beside this file. export/ puts them
into TensorRT engines, runtime/ starts them by itself; both ask here first, so that what a kernel does not serve is an
error in Python and not a wrong number on a card.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import VljEdgeError

ARCHIVE = Path(__file__).with_name("kernels.tar.xz")
SEAL = Path(__file__).with_name("kernels.json")  # sha256 of the archive, of the sources, and what ptxas said

THREADS = 128  # of a block of the attention (export/kernels/rotate.cuh)
TURNS = 1024  # its entries of shared memory for angles
HEAD_DIMS = (32, 64, 128)
_QUERIES = {32: 128, 64: 128, 128: 64}  # of a block (attention.cu, Shape)
PLACES = {32: 64, 64: 64, 128: 32}  # whose angles lie in shared memory
_NAMES = {"float16": "fp16", "bfloat16": "bf16"}
_MOST_TOKENS = 65535  # quotients by multiplication are exact up to here (rotate.cuh)

Rotation = Literal["axes", "halves"]
Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Launch:
    """A kernel, and how it is started.

    Attributes:
        name: of the kernel in the archive.
        grid, threads: blocks in x, y and z, and threads of a block.
        integers: int32 arguments, between the inputs and the outputs.
    """

    name: str
    grid: tuple[int, int, int]
    threads: int
    integers: tuple[int, ...]


def attention(
    rotation: Rotation,
    dtype: str,
    *,
    batch: int,
    tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    grid: tuple[int, int] | None = None,
    masked: bool = False,
) -> Launch:
    """How to attend: inputs qkv [batch, tokens, (heads + 2 kv_heads) * head_dim], the table of turns, and where masked
    `seen` (uint8 [batch, tokens]); output [batch, tokens, heads * head_dim].

    Args:
        rotation: "axes", V-JEPA 2's over time, rows and columns, or "halves", Llama's.
        dtype: of qkv and the output, "float16" or "bfloat16".
        grid: rows and columns of tokens in a picture, for "axes".

    Raises:
        VljEdgeError: the kernel does not serve this; it says what it serves.
    """
    if dtype not in _NAMES:
        raise VljEdgeError(f"the attention kernel computes in float16 and bfloat16, not in {dtype}: cast the projection")
    if head_dim not in HEAD_DIMS:
        raise VljEdgeError(f"the attention kernel serves heads of 32, 64 and 128, not of {head_dim}: use the native graph")
    if kv_heads < 1 or heads % kv_heads:
        raise VljEdgeError(f"{heads} query heads cannot share {kv_heads} key heads evenly: use a multiple")
    if not (1 <= tokens <= _MOST_TOKENS and 1 <= batch <= _MOST_TOKENS and heads <= _MOST_TOKENS):
        raise VljEdgeError(
            f"the attention kernel serves 1 to {_MOST_TOKENS} tokens, sequences and heads, not {tokens}, {batch}, {heads}"
        )
    if tokens * (heads + 2 * kv_heads) * head_dim >= 2**31:
        raise VljEdgeError(f"{tokens} tokens of {heads} + 2 x {kv_heads} heads are more than 2^31 values: use fewer")
    integers: tuple[int, ...] = (tokens, heads, kv_heads)
    if rotation == "axes":
        if grid is None or min(grid) < 1:
            raise VljEdgeError(f"rotation by axes needs the rows and columns of a picture, not {grid}")
        entries = axes_entries(tokens, *grid, head_dim)
        if entries > TURNS:
            raise VljEdgeError(
                f"{tokens} tokens in pictures of {grid[0]} x {grid[1]} need {entries} angles and the attention kernel has"
                f" room for {TURNS}: use the native graph"
            )
        integers += grid
    name = f"attention_{rotation}{'_masked' if masked else ''}_{_NAMES[dtype]}_{head_dim}"
    return Launch(name, (-(-tokens // _QUERIES[head_dim]), heads, batch), THREADS, integers)


def axes_entries(tokens: int, rows: int, columns: int, head_dim: int) -> int:
    """float4 entries of the table of axes_turns()."""
    return (-(-tokens // (rows * columns)) + rows + columns) * (head_dim // 3 // 2) + 1


def axes_turns(cos: Table, sin: Table, rows: int, columns: int) -> Table:
    """The table that rotation by axes reads, float32 [axes_entries, 4].

    Args:
        cos, sin: float32 [tokens, head_dim] as export.models.rope.vjepa_tables makes them: the sine carries the sign.

    Raises:
        VljEdgeError: they are no rotation by time, row and column; the kernel cannot do it.
    """
    tokens, head_dim = cos.shape
    pairs, plane = head_dim // 3 // 2, rows * columns
    angles = np.stack((cos[:, 0::2], cos[:, 1::2], sin[:, 0::2], sin[:, 1::2]), axis=-1)  # [tokens, head_dim / 2, 4]
    firsts = (np.arange(0, tokens, plane), np.arange(rows) * columns, np.arange(columns))  # one token a position
    if any(tokens_of_axis[-1] >= tokens for tokens_of_axis in firsts):
        raise VljEdgeError(f"{tokens} tokens are less than a picture of {rows} x {columns}: give whole pictures")
    axes = [angles[first, axis * pairs : (axis + 1) * pairs] for axis, first in enumerate(firsts)]
    token = np.arange(tokens)
    places = (token // plane, token % plane // columns, token % columns)
    again = [axis[place] for axis, place in zip(axes, places, strict=True)]
    again.append(np.broadcast_to(np.float32((1, 1, 0, 0)), (tokens, head_dim // 2 - 3 * pairs, 4)))
    if not np.array_equal(np.concatenate(again, axis=1), angles):
        raise VljEdgeError("these tables do not turn by time, row and column alone: use the native graph")
    return np.concatenate([*(axis.reshape(-1, 4) for axis in axes), np.float32([(1, 1, 0, 0)])])


def halves_turns(cos: Table, sin: Table) -> Table:
    """The table that rotation by halves reads, float32 [n, 4]: places first, then their multiples (rotate.cuh).

    Args:
        cos, sin: float32 [tokens, head_dim / 2] as export.models.rope.llama_tables makes them.

    Raises:
        VljEdgeError: their angles do not grow evenly from token to token, beginning at 0; the kernel cannot do it.
    """
    tokens, half = cos.shape
    places, units = PLACES[2 * half], half // 8
    angles = np.stack((cos, sin), axis=-1)
    fine = np.zeros((places, half, 2), np.float32)
    fine[: min(places, tokens)] = angles[:places]
    coarse = angles[::places]
    turned = (fine[..., 0] + 1j * fine[..., 1])[None] * (coarse[..., 0] + 1j * coarse[..., 1])[:, None]
    given = angles[..., 0] + 1j * angles[..., 1]
    # An fp32 angle of some thousand radians is itself off by 1e-4 (export/models/rope.py).
    if np.abs(turned.reshape(-1, half)[:tokens] - given).max() > 1e-3:
        raise VljEdgeError("the angles of these tables do not grow evenly from token to token: use the native graph")
    fine = fine.reshape(places, units, 4, 4).transpose(2, 0, 1, 3)  # as blocks read it without conflicts
    return np.concatenate((fine.reshape(-1, 4), coarse.reshape(-1, 4)))


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
    raw = ARCHIVE.read_bytes() if ARCHIVE.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != seal()["sha256"]:
        raise VljEdgeError(f"{ARCHIVE} is not the one that was compiled: install vlj-edge again")
    with lzma.open(ARCHIVE) as packed, tarfile.open(fileobj=packed) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]


def compiled_for() -> tuple[str, ...]:
    """The cards, "sm75" and so on."""
    return tuple(seal()["cards"])


def card_of(sm: str, cards: Sequence[str] | None = None) -> str:
    """The card whose code runs on this one: itself, or the newest older one of its generation (CUDA C++ Programming Guide,
    "Binary Compatibility").

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


def cubin(source: str, sm: str) -> bytes:
    """The compiled code of a source ("attention", "pixels", "gate") for a card.

    Raises:
        VljEdgeError: there is none for this card, or the archive is damaged.
    """
    return _archive()[f"{source}.{card_of(sm)}.cubin"]


def check_dtype(dtype: str, sm: str) -> None:
    """Raises VljEdgeError: this card cannot compute in this type."""
    if dtype == "bfloat16" and int(sm.removeprefix("sm")) < 80:
        raise VljEdgeError(f"{sm} has no bfloat16: export the bundle in fp16")


def check_aligned(address: int, what: str) -> None:
    """Raises VljEdgeError: the kernels read and write 16 bytes at once, and this address does not allow it."""
    if address % 16:
        raise VljEdgeError(f"{what} lies at {address:#x}, which is no multiple of 16: allocate it by itself")
