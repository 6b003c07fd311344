"""Launch parameters and rotary tables of the attention kernel (export/kernels/attention.cu, rotary.cuh).

Unsupported shapes and types are errors here, before a launch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import VljEdgeError
from .launch import DTYPE_SUFFIXES, Launch

HEAD_DIMS = (32, 64)
ROTARY_ENTRIES = 1024  # room for angles in shared memory (rotary.cuh)
_THREADS = 128  # per block (rotary.cuh)
_QUERIES = 128  # per block (attention.cu, Tiling)
_FINE_POSITIONS = 64  # rotary.cuh
_MAX_TOKENS = 65535  # up to here the kernel's divisions by multiplication are exact (rotary.cuh, quotient)

# "axes": V-JEPA 2's rotation over time, rows and columns, without a mask. "halves": Llama's rotation, with a key mask.
Rotation = Literal["axes", "halves"]
Table = npt.NDArray[np.float32]
_IDENTITY: Table = np.array((1, 1, 0, 0), np.float32)  # two cosines, two sines


def attention_launch(
    rotation: Rotation,
    dtype: str,
    *,
    batch: int,
    tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    grid: tuple[int, int] | None = None,
) -> Launch:
    """Return the launch of the attention kernel for a shape.

    Inputs: qkv [batch, tokens, (heads + 2 * kv_heads) * head_dim]; the rotary table, float32 [entries, 4], of
    axes_table() or halves_table(); and for "halves" the key mask, uint8 [batch, tokens], 1 for a key that is attended
    to. Output: [batch, tokens, heads * head_dim], of qkv's type.

    Args:
        dtype: of qkv and the output, "float16" or "bfloat16".
        grid: rows and columns of tokens in a frame, for "axes".

    Raises:
        VljEdgeError: the kernel does not support this type or shape; the message says what it supports.
    """
    _check_shape(dtype, batch, tokens, heads, kv_heads, head_dim)
    integers: tuple[int, ...] = (tokens, heads, kv_heads)
    mask_bytes: tuple[int, ...] = ()
    if rotation == "axes":
        if grid is None or min(grid) < 1:
            raise VljEdgeError(f"rotation by axes needs the rows and columns of tokens in a frame, not {grid}")
        entries = axes_table_entries(tokens, *grid, head_dim)
        if entries > ROTARY_ENTRIES:
            raise VljEdgeError(
                f"{tokens} tokens in frames of {grid[0]} x {grid[1]} need {entries} angles and the attention kernel"
                f" has room for {ROTARY_ENTRIES}: export with --flavour native"
            )
        integers += grid
    else:
        entries = 4 * (head_dim // 16) * _FINE_POSITIONS + -(-tokens // _FINE_POSITIONS) * (head_dim // 4)
        mask_bytes = (batch * tokens,)
    qkv_bytes = 2 * batch * tokens * (heads + 2 * kv_heads) * head_dim
    return Launch(
        name=f"attention_{rotation}_{DTYPE_SUFFIXES[dtype]}_{head_dim}",
        grid=(-(-tokens // _QUERIES), heads, batch),
        threads=_THREADS,
        integers=integers,
        input_bytes=(qkv_bytes, 16 * entries, *mask_bytes),
        output_bytes=(2 * batch * tokens * heads * head_dim,),
    )


def _check_shape(dtype: str, batch: int, tokens: int, heads: int, kv_heads: int, head_dim: int) -> None:
    if dtype not in ("float16", "bfloat16"):
        raise VljEdgeError(
            f"the attention kernel computes in float16 and bfloat16, not in {dtype}: cast the projection"
        )
    if head_dim not in HEAD_DIMS:
        raise VljEdgeError(
            f"the attention kernel supports heads of 32 and 64 values, not of {head_dim}: export with --flavour native"
        )
    if kv_heads < 1 or heads % kv_heads:
        raise VljEdgeError(f"{heads} query heads cannot share {kv_heads} key heads evenly: use a multiple")
    if not (1 <= tokens <= _MAX_TOKENS and 1 <= batch <= _MAX_TOKENS and heads <= _MAX_TOKENS):
        raise VljEdgeError(
            f"the attention kernel supports 1 to {_MAX_TOKENS} tokens, sequences and heads, not {tokens}, {batch}, "
            f"{heads}: export with --flavour native"
        )
    if tokens * (heads + 2 * kv_heads) * head_dim >= 2**31:
        raise VljEdgeError(f"{tokens} tokens of {heads} + 2 x {kv_heads} heads exceed 2^31 values: use fewer tokens")


def axes_table_entries(tokens: int, rows: int, columns: int, head_dim: int) -> int:
    """Return the number of rows of axes_table() for a sequence of frames of rows x columns tokens."""
    times = -(-tokens // (rows * columns))
    return (times + rows + columns) * (head_dim // 3 // 2) + 1


def axes_table(cos: Table, sin: Table, rows: int, columns: int) -> Table:
    """Return V-JEPA 2's rotation as the kernel reads it: one entry per axis, position on it and pair of values.

    Args:
        cos, sin: float32 [tokens, head_dim], of export.models.rope.vjepa_tables; the sine carries the rotation's sign.
        rows, columns: tokens in a frame.

    Returns:
        float32 [axes_table_entries(), 4]: cosines of the even and odd value of a pair, then their sines. The last entry
        is the identity, for values that are not rotated.

    Raises:
        VljEdgeError: the tables are not a rotation by time, row and column, or cover less than a frame.
    """
    tokens, head_dim = cos.shape
    pairs, frame_tokens = head_dim // 3 // 2, rows * columns
    angles = np.stack((cos[:, 0::2], cos[:, 1::2], sin[:, 0::2], sin[:, 1::2]), axis=-1)  # [tokens, head_dim / 2, 4]
    # For each axis, the tokens at which the axis has each of its positions and the others are 0.
    samples = (np.arange(0, tokens, frame_tokens), np.arange(rows) * columns, np.arange(columns))
    if any(of_axis[-1] >= tokens for of_axis in samples):
        raise VljEdgeError(f"{tokens} tokens are less than a frame of {rows} x {columns}: use whole frames")
    axes = [angles[of_axis, axis * pairs : (axis + 1) * pairs] for axis, of_axis in enumerate(samples)]
    token = np.arange(tokens)
    positions = (token // frame_tokens, token % frame_tokens // columns, token % columns)
    rebuilt = [axis[position] for axis, position in zip(axes, positions, strict=True)]
    rebuilt.append(np.broadcast_to(_IDENTITY, (tokens, head_dim // 2 - 3 * pairs, 4)))
    if not np.array_equal(np.concatenate(rebuilt, axis=1), angles):
        raise VljEdgeError("these tables do not rotate by time, row and column alone: export with --flavour native")
    return np.concatenate([*(axis.reshape(-1, 4) for axis in axes), _IDENTITY[None]])


def halves_table(cos: Table, sin: Table) -> Table:
    """Return Llama's rotation as the kernel reads it. With position = 64 * coarse + fine, the angles of the 64 fine
    positions come first and those of the coarse ones after them; the kernel adds the two.

    Args:
        cos, sin: float32 [tokens, head_dim / 2], of export.models.rope.llama_tables.

    Returns:
        float32 [64 * head_dim / 4 + ceil(tokens / 64) * head_dim / 4, 4]: cosine and sine of one value, then of the
        next. rotary.cuh (HalvesRotation) has the order of the entries.

    Raises:
        VljEdgeError: the angles do not grow evenly from token to token, beginning at 0.
    """
    tokens, half = cos.shape
    units = half // 8
    angles = np.stack((cos, sin), axis=-1)
    fine = np.zeros((_FINE_POSITIONS, half, 2), np.float32)
    fine[: min(_FINE_POSITIONS, tokens)] = angles[:_FINE_POSITIONS]
    coarse = angles[::_FINE_POSITIONS]
    rebuilt = (fine[..., 0] + 1j * fine[..., 1])[None] * (coarse[..., 0] + 1j * coarse[..., 1])[:, None]
    expected = angles[..., 0] + 1j * angles[..., 1]
    # An fp32 angle of some thousand radians is itself off by 1e-4 (export/models/rope.py).
    if np.abs(rebuilt.reshape(-1, half)[:tokens] - expected).max() > 1e-3:
        raise VljEdgeError(
            "the angles of these tables do not grow evenly from token to token: export with --flavour native"
        )
    fine = fine.reshape(_FINE_POSITIONS, units, 4, 4).transpose(2, 0, 1, 3)  # read without bank conflicts
    return np.concatenate((fine.reshape(-1, 4), coarse.reshape(-1, 4)))
