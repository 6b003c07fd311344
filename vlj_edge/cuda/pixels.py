"""Launch parameters and resize weights of the pixel kernels (export/kernels/pixels.cu)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..errors import VljEdgeError
from .launch import DTYPE_SUFFIXES, Launch

Weights = npt.NDArray[np.int32]

_TILE, _TILE_ROWS, _THREADS, _MAX_TAPS = 16, 4, 384, 64  # export/kernels/pixels.cu
_LUMINANCE_THREADS = 128  # per block, one per cell
_PRECISION = 22  # fractional bits of weights (Pillow, src/libImaging/Resample.c, PRECISION_BITS)


def resize_weights(source: int, first: float, last: float, size: int, box: bool = False) -> Weights:
    """Return the weights with which Pillow resizes the part of a line from `first` to `last` to `size` values
    (src/libImaging/Resample.c, precompute_coeffs and normalize_coeffs_8bpc).

    Args:
        source: number of values of the whole line.
        first, last: ends of the part, in values; they may be fractional.
        box: average an area (Image.Resampling.BOX) instead of antialiased bilinear (BILINEAR).

    Returns:
        int32 [size, 2 + taps], for every output value: index of its first source value, number of source values, and
        their weights with 22 fractional bits.

    Raises:
        VljEdgeError: the part is too large for the size: the kernel has no room for so many weights.
    """
    low, high = np.float32(first), np.float32(last)  # Pillow keeps the box in fp32 and computes the weights in fp64
    scale = float(high - low) / size
    filter_scale = max(scale, 1.0)
    support = (0.5 if box else 1.0) * filter_scale
    taps = math.ceil(support) * 2 + 1
    if taps > _MAX_TAPS:
        raise VljEdgeError(
            f"{source} pixels are too many to be resized to {size} on the GPU (more than {_MAX_TAPS // 2 - 1} to one):"
            " use a smaller frame"
        )
    table = np.zeros((size, 2 + taps), np.int32)
    for index in range(size):
        centre = float(low) + (index + 0.5) * scale
        begin, end = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), source)
        offsets = [(value - centre + 0.5) * (1.0 / filter_scale) for value in range(begin, end)]
        weights = [float(-0.5 < x <= 0.5) if box else max(1.0 - abs(x), 0.0) for x in offsets]
        total = sum(weights)
        table[index, :2] = begin, end - begin
        table[index, 2 : 2 + len(weights)] = [int(0.5 + weight / total * (1 << _PRECISION)) for weight in weights]
    return table


def pixels_launch(pixel_format: str, dtype: str, *, stride: int, height: int, across: Weights, down: Weights) -> Launch:
    """Return the launch that makes a frame the encoder's input.

    Inputs: frame, uint8; across and down, the weights; norm, float32 [6], of runtime.video.preprocess.normalisation.
    Outputs: pixels, [3, side, side]; bytes, uint8 [3, side, side], the same before normalisation, may be None.

    Args:
        pixel_format: "bgr", packed rows of `stride` bytes, or "nv12", `height` rows of luma and half as many of chroma.
        dtype: of the output, "float32" or "float16".
        across, down: resize_weights() of columns and of rows, int32 [side, 2 + taps].

    Raises:
        VljEdgeError: the kernel does not support this format, type or size; the message says what it supports.
    """
    if pixel_format not in ("bgr", "nv12") or dtype not in ("float32", "float16"):
        raise VljEdgeError(
            f"the pixel kernel converts bgr and nv12 to float32 and float16, not {pixel_format} to {dtype}: convert the"
            " frame first"
        )
    if pixel_format == "nv12" and (height % 2 or stride % 2):
        raise VljEdgeError(f"NV12 has an even width and height, not {stride} x {height}: crop the frame")
    if not 0 < stride * height < 2**31:
        raise VljEdgeError(f"a frame of {height} rows of {stride} bytes is empty or beyond 2 GiB: use another size")
    side = len(across)
    rows = height * 3 // 2 if pixel_format == "nv12" else height
    frame_bytes = -(-stride * rows // 4) * 4  # the kernel reads whole words
    return Launch(
        name=f"pixels_{pixel_format}_{DTYPE_SUFFIXES[dtype]}",
        grid=(-(-side // _TILE), -(-side // _TILE_ROWS), 1),
        threads=_THREADS,
        integers=(stride, height, across.shape[1] - 2, down.shape[1] - 2, side),
        input_bytes=(frame_bytes, across.nbytes, down.nbytes, 4 * 6),
        output_bytes=(3 * side * side * np.dtype(dtype).itemsize, 3 * side * side),
    )


def luminance_launch(side: int, weights: Weights) -> Launch:
    """Return the launch that makes the scene gate's thumbnail of the pixel kernel's bytes.

    Inputs: bytes, uint8 [3, side, side]; the weights. Output: luminance, float32 [cells, cells], 0..1.

    Args:
        weights: resize_weights() with box=True, int32 [cells, 2 + taps], for both directions.
    """
    cells = len(weights)
    return Launch(
        name="luminance",
        grid=(-(-cells * cells // _LUMINANCE_THREADS), 1, 1),
        threads=_LUMINANCE_THREADS,
        integers=(weights.shape[1] - 2, side, cells),
        input_bytes=(3 * side * side, weights.nbytes),
        output_bytes=(4 * cells * cells,),
    )
