"""The CUDA kernels' contract: names, what they serve, how they are started, and the tables they read.

Their sources are in export/kernels. export/ puts them into TensorRT engines, runtime/ starts them by itself; both ask
here first, so that what a kernel does not serve is an error in Python and not a wrong number on a card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import VljEdgeError

THREADS = 128  # of a block of the attention (export/kernels/rotate.cuh)
TURNS = 1024  # its entries of shared memory for angles
HEAD_DIMS = (32, 64, 128)
_QUERIES = {32: 128, 64: 128, 128: 64}  # of a block (attention.cu, Shape)
PLACES = {32: 64, 64: 64, 128: 32}  # whose angles lie in shared memory
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_MOST_TOKENS = 65535  # quotients by multiplication are exact up to here (rotate.cuh)

Rotation = Literal["axes", "halves"]
Table = npt.NDArray[np.float32]
_UNTURNED: Table = np.array((1, 1, 0, 0), np.float32)


@dataclass(frozen=True)
class Launch:
    """A kernel, and how it is started.

    Attributes:
        name: of the kernel in the archive.
        grid, threads: blocks in x, y and z, and threads of a block.
        integers: int32 arguments, between the inputs and the outputs.
        inputs, outputs: bytes that it reads or writes at each address.
    """

    name: str
    grid: tuple[int, int, int]
    threads: int
    integers: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def source(self) -> str:
        """The file that it is compiled from."""
        first = self.name.partition("_")[0]
        return "pixels" if first == "luminance" else first


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
    if dtype not in ("float16", "bfloat16"):
        raise VljEdgeError(
            f"the attention kernel computes in float16 and bfloat16, not in {dtype}: cast the projection"
        )
    if head_dim not in HEAD_DIMS:
        raise VljEdgeError(
            f"the attention kernel serves heads of 32, 64 and 128, not of {head_dim}: use the native graph"
        )
    if kv_heads < 1 or heads % kv_heads:
        raise VljEdgeError(f"{heads} query heads cannot share {kv_heads} key heads evenly: use a multiple")
    if not (1 <= tokens <= _MOST_TOKENS and 1 <= batch <= _MOST_TOKENS and heads <= _MOST_TOKENS):
        raise VljEdgeError(
            f"the attention kernel serves 1 to {_MOST_TOKENS} tokens, sequences and heads, not {tokens}, {batch}, "
            f"{heads}: use the native graph"
        )
    if tokens * (heads + 2 * kv_heads) * head_dim >= 2**31:
        raise VljEdgeError(f"{tokens} tokens of {heads} + 2 x {kv_heads} heads are more than 2^31 values: use fewer")
    integers: tuple[int, ...] = (tokens, heads, kv_heads)
    entries = 4 * PLACES[head_dim] * (head_dim // 16) + -(-tokens // PLACES[head_dim]) * (head_dim // 4)
    if rotation == "axes":
        if grid is None or min(grid) < 1:
            raise VljEdgeError(f"rotation by axes needs the rows and columns of a picture, not {grid}")
        entries = axes_entries(tokens, *grid, head_dim)
        if entries > TURNS:
            raise VljEdgeError(
                f"{tokens} tokens in pictures of {grid[0]} x {grid[1]} need {entries} angles and the attention kernel"
                f" has room for {TURNS}: use the native graph"
            )
        integers += grid
    name = f"attention_{rotation}{'_masked' if masked else ''}_{_SHORT[dtype]}_{head_dim}"
    inputs = (2 * batch * tokens * (heads + 2 * kv_heads) * head_dim, 16 * entries)
    outputs = (2 * batch * tokens * heads * head_dim,)
    blocks = (-(-tokens // _QUERIES[head_dim]), heads, batch)
    return Launch(name, blocks, THREADS, integers, inputs + (batch * tokens,) * masked, outputs)


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
    again.append(np.broadcast_to(_UNTURNED, (tokens, head_dim // 2 - 3 * pairs, 4)))
    if not np.array_equal(np.concatenate(again, axis=1), angles):
        raise VljEdgeError("these tables do not turn by time, row and column alone: use the native graph")
    return np.concatenate([*(axis.reshape(-1, 4) for axis in axes), _UNTURNED[None]])


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


Weights = npt.NDArray[np.int32]
PixelFormat = Literal["bgr", "rgb", "nv12"]

TILE, TILE_ROWS, PIXEL_THREADS, TAPS = 16, 4, 384, 64  # export/kernels/pixels.cu
_PRECISION = 22  # fractional bits of weights (Pillow, src/libImaging/Resample.c, PRECISION_BITS)
GATE_THREADS = 256  # export/kernels/gate.cu


def resize_weights(source: int, first: float, last: float, size: int, box: bool = False) -> Weights:
    """What Pillow weighs `source` values with to make `size` of those between `first` and `last`, int32
    [size, 2 + taps]: the first that counts, how many do, and their weights in 22 fractional bits.

    Args:
        box: the mean of an area (Image.Resampling.BOX); otherwise antialiased bilinear (BILINEAR).

    Raises:
        VljEdgeError: more of them weigh on one value than the kernel has room for.
    """
    low, high = np.float32(first), np.float32(last)  # Pillow's box is in fp32, and what follows from it in fp64
    scale = float(high - low) / size
    filter_scale = max(scale, 1.0)
    support = (0.5 if box else 1.0) * filter_scale
    taps = math.ceil(support) * 2 + 1
    if taps > TAPS:
        raise VljEdgeError(
            f"{source} pixels are more than {TAPS // 2 - 1} times the {size} made of them: scale the camera down"
        )
    table = np.zeros((size, 2 + taps), np.int32)
    for place in range(size):
        centre = float(low) + (place + 0.5) * scale
        begin, end = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), source)
        at = [(value - centre + 0.5) * (1.0 / filter_scale) for value in range(begin, end)]
        weights = [float(-0.5 < x <= 0.5) if box else max(1.0 - abs(x), 0.0) for x in at]
        total = sum(weights)
        table[place, :2] = begin, end - begin
        for i, weight in enumerate(weights):
            table[place, 2 + i] = int(0.5 + weight / total * (1 << _PRECISION))
    return table


def pixels(pixel_format: str, dtype: str, *, stride: int, height: int, across: Weights, down: Weights) -> Launch:
    """How to see a frame: inputs frame, across, down, norm; outputs out (float32 or float16 [3, side, side]) and bytes
    (uint8 of the same shape, or null).

    Args:
        pixel_format: "bgr" or "rgb", packed rows of `stride` bytes, or "nv12".
        height: rows of luma.

    Raises:
        VljEdgeError: the kernel does not serve this; it says what it serves.
    """
    if pixel_format not in ("bgr", "rgb", "nv12") or dtype not in ("float32", "float16"):
        raise VljEdgeError(
            f"the pixel kernel makes float32 and float16 of bgr, rgb and nv12, not {dtype} of {pixel_format}: convert"
            " the frame first"
        )
    if pixel_format == "nv12" and (height % 2 or stride % 2):
        raise VljEdgeError(f"NV12 has an even width and height, not {stride} x {height}: crop the frame")
    if not 0 < stride * height < 2**31:
        raise VljEdgeError(
            f"a frame of {height} rows of {stride} bytes is none, or beyond 2 GiB: scale the camera down"
        )
    side = len(across)
    grid = (-(-side // TILE), -(-side // TILE_ROWS), 1)
    integers = (stride, height, across.shape[1] - 2, down.shape[1] - 2, side)
    rows = height * 3 // 2 if pixel_format == "nv12" else height
    inputs = (-(-stride * rows // 4) * 4, across.nbytes, down.nbytes, 4 * 6)
    outputs = (3 * side * side * np.dtype(dtype).itemsize, 3 * side * side)
    return Launch(f"pixels_{pixel_format}_{_SHORT[dtype]}", grid, PIXEL_THREADS, integers, inputs, outputs)


def luminance(side: int, weights: Weights) -> Launch:
    """How to make the scene gate's thumbnail: inputs bytes [3, side, side], weights; output float32 [cells, cells]."""
    cells = len(weights)
    integers = (weights.shape[1] - 2, side, cells)
    inputs, outputs = (3 * side * side, weights.nbytes), (4 * cells * cells,)
    return Launch("luminance", (-(-cells * cells // 128), 1, 1), 128, integers, inputs, outputs)


def gate_step(size: int, slots: int, smoothing: int, calm_windows: int) -> Launch:
    """How to take a window: inputs embedding, said, limits; then, written, ring, state, smoothed, word (gate.cu).

    Raises:
        VljEdgeError: the ring is too short for what is averaged.
    """
    if not 1 <= max(smoothing, calm_windows) <= slots or min(smoothing, calm_windows, size) < 1:
        raise VljEdgeError(
            f"a ring of {slots} windows does not hold {smoothing} to smooth and {calm_windows} for calm: make it longer"
        )
    integers = (size, slots, smoothing, calm_windows)
    inputs, outputs = (4 * size, 4 * size, 16), (4 * size * slots, 8, 4 * size, 4)
    return Launch("gate_step", (1, 1, 1), GATE_THREADS, integers, inputs, outputs)


def gate_say(size: int) -> Launch:
    """How to remember what is said: input embedding; then, written, said, state."""
    return Launch("gate_say", (1, 1, 1), GATE_THREADS, (size,), (4 * size,), (4 * size, 8))


@dataclass(frozen=True)
class GateWord:
    """What the gate's kernel found of a window, in 4 bytes (gate.cu)."""

    below: bool
    below_at_rest: bool
    above: bool
    calm: bool
    compared: bool  # something was said before
    finite: bool
    cosine: float  # within 2^-23


def read_word(word: int) -> GateWord:
    """The parts of a word."""
    below, below_at_rest, above, calm, compared, finite = (bool(word >> bit & 1) for bit in range(6))
    return GateWord(below, below_at_rest, above, calm, compared, finite, (word >> 8) / (1 << 23) - 1)


def check_dtype(dtype: str, sm: str) -> None:
    """Raises VljEdgeError: this card cannot compute in this type."""
    if dtype == "bfloat16" and int(sm.removeprefix("sm")) < 80:
        raise VljEdgeError(f"{sm} has no bfloat16: export the bundle in fp16")
