"""Embeddings in few bytes: shortened, and as float32, float16, int8 with a scale, or one bit a value.

All values are little-endian. How well each format agrees with float32 is in results/wearable.json.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import Manifest, verify_file
from vlj_edge.bundle.axes import read_axes
from vlj_edge.errors import WrongCall

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VectorFormat:
    """How a vector is stored.

    Attributes:
        code: identifies the format in a file's header.
        size: width -> bytes.
        pack: float32 [width] -> bytes.
        unpack: bytes and width -> float32 [width].
    """

    code: int
    size: Callable[[int], int]
    pack: Callable[[Vector], bytes]
    unpack: Callable[[bytes, int], Vector]


def _pack_int8(vector: Vector) -> bytes:
    scale = max(float(np.abs(vector).max()), 1e-12) / 127
    values: bytes = np.rint(vector / scale).astype(np.int8).tobytes()
    return struct.pack("<f", scale) + values


def _unpack_int8(raw: bytes, width: int) -> Vector:
    scale = np.frombuffer(raw, "<f4", 1)[0]
    return np.asarray(np.frombuffer(raw, np.int8, width, 4) * scale, np.float32)


def _unpack_bits(raw: bytes, width: int) -> Vector:
    signs = np.unpackbits(np.frombuffer(raw, np.uint8), count=width)
    return np.asarray((signs * 2.0 - 1.0) / np.sqrt(width), np.float32)  # of unit length again


FORMATS = {
    "float32": VectorFormat(
        0,
        lambda n: 4 * n,
        lambda v: v.astype("<f4").tobytes(),
        lambda raw, n: np.frombuffer(raw, "<f4", n).astype(np.float32),
    ),
    "float16": VectorFormat(
        1,
        lambda n: 2 * n,
        lambda v: v.astype("<f2").tobytes(),
        lambda raw, n: np.frombuffer(raw, "<f2", n).astype(np.float32),
    ),
    "int8": VectorFormat(2, lambda n: n + 4, _pack_int8, _unpack_int8),
    "bit": VectorFormat(3, lambda n: -(-n // 8), lambda v: np.packbits(v >= 0).tobytes(), _unpack_bits),
}


def parse_format(name: str) -> VectorFormat:
    """Return a format by its name.

    Raises:
        VljEdgeError: there is no such format.
    """
    if name not in FORMATS:
        raise WrongCall(f"no vector format is called '{name}': choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def read_basis(directory: Path, manifest: Manifest) -> Vector | None:
    """Return the axes on which a bundle's embeddings are shortened, float32 [embedding, axes], most informative first,
    each of unit length; None if the bundle has none, and embeddings are truncated.

    Raises:
        VljEdgeError: the file does not match the manifest, or is not an array of axes.
    """
    if manifest.prefix is None:
        return None
    return read_axes(verify_file(directory, manifest.prefix, manifest), manifest)


def shorten(vector: Vector, width: int, basis: Vector | None = None) -> Vector:
    """Return a vector shortened to `width` values and scaled to unit length; the vector itself at its full width.

    Args:
        basis: from read_basis(): project on its first `width` axes; None: keep the first `width` values.

    Raises:
        VljEdgeError: `width` is larger than the vector, or than the number of axes.
    """
    if not 1 <= width <= len(vector):
        raise WrongCall(
            f"a vector of {len(vector)} values cannot be shortened to {width}: give a width up to {len(vector)}"
        )
    if width == len(vector):
        return vector
    if basis is not None and width > basis.shape[1]:
        raise WrongCall(f"this bundle shortens vectors to {basis.shape[1]} values or fewer, not to {width}")
    part = vector[:width] if basis is None else vector @ basis[:, :width]
    return np.asarray(part / max(float(np.linalg.norm(part)), 1e-12), np.float32)
