"""The compiled kernels on a real GPU, against float64 and Pillow.

`compute-sanitizer --tool memcheck python -m pytest tests/gpu/test_kernels.py` (and --tool racecheck) finds what results
do not show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.export.kernels.test_attention import (
    TOLERANCE,
    from_bits,
    random_case,
    reference_attention,
    rotated,
    to_bits,
)
from tests.export.kernels.test_pixels import LARGE, NANO, normalised
from vlj_edge.cuda.attention import attention_launch
from vlj_edge.cuda.launch import Launch
from vlj_edge.cuda.pixels import luminance_launch, pixels_launch, resize_weights
from vlj_edge.runtime.engines.tensorrt.device import Buffer, Device
from vlj_edge.runtime.engines.tensorrt.kernels import Kernels
from vlj_edge.runtime.video import preprocess as cpu
from vlj_edge.runtime.video.preprocess import THUMBNAIL, crop_and_resize, crop_box, normalisation
from vlj_edge.runtime.video.resize import resize_with_pillow

POISON = 0xFF  # NaN in every type


class Bench:
    """Copies arrays to the GPU, runs a kernel, and copies arrays back."""

    def __init__(self, card: Device) -> None:
        self.card, self.kernels, self.stream = card, Kernels(card), card.stream()

    def put(self, array: np.ndarray) -> Buffer:
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        buffer, pinned = self.card.allocate(-(-raw.size // 16) * 16), self.card.pinned(raw.shape, np.uint8)
        pinned[...] = raw
        self.card.copy_in(buffer, pinned, self.stream)
        self.card.synchronise(self.stream)
        return buffer

    def get(self, buffer: Buffer, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        back = self.card.pinned(shape, dtype)
        self.card.copy_out(back, buffer, self.stream)
        self.card.synchronise(self.stream)
        return back.copy()

    def poisoned(self, size: int) -> Buffer:
        return self.put(np.full(size, POISON, np.uint8))

    def run(self, launch: Launch, inputs: tuple[Buffer, ...], outputs: tuple[Buffer, ...]) -> None:
        self.kernels.start(launch, inputs, outputs, self.stream)
        self.card.synchronise(self.stream)


@pytest.fixture(scope="module")
def bench(card: Device) -> Bench:
    return Bench(card)


SHAPES = [
    # rotation, tokens, grid, heads, kv_heads, head_dim
    ("axes", 1024, (16, 16), 4, 4, 64),
    ("axes", 2048, (16, 16), 16, 16, 64),
    ("axes", 588, (14, 14), 6, 6, 32),
    ("axes", 75, (5, 5), 2, 1, 64),
    ("axes", 1, (1, 1), 1, 1, 64),
    ("halves", 2560, None, 8, 2, 64),
    ("halves", 129, None, 4, 4, 64),
    ("halves", 63, None, 3, 1, 32),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("rotation, tokens, grid, heads, kv_heads, head_dim", SHAPES)
def test_attention_against_float64(
    bench: Bench, dtype: str, rotation: Any, tokens: int, grid: Any, heads: int, kv_heads: int, head_dim: int
) -> None:
    if dtype == "bfloat16" and int(bench.card.sm[2:]) < 80:
        pytest.skip("this GPU has no bfloat16")
    rng = np.random.default_rng(tokens)
    shape = {"batch": 1, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    values, table, cos, sin = random_case(rng, rotation, tokens, grid or (1, 1), **shape)
    qkv = to_bits(values, dtype)
    key_mask = (rng.random((1, tokens)) < 0.8).astype(np.uint8) if rotation == "halves" else None
    launch = attention_launch(rotation, dtype, tokens=tokens, grid=grid, **shape)
    out = bench.poisoned(launch.output_bytes[0])
    inputs = tuple(bench.put(array) for array in (qkv, table, key_mask) if array is not None)
    bench.run(launch, inputs, (out,))
    found = from_bits(bench.get(out, (1, tokens, heads * head_dim), np.uint16), dtype)
    exact = from_bits(qkv, dtype).reshape(1, tokens, -1, head_dim)
    expected = reference_attention(exact, heads, kv_heads, lambda x: rotated(x, rotation, cos, sin), key_mask)
    assert np.linalg.norm(found - expected) <= TOLERANCE[dtype] * np.linalg.norm(expected)


def test_attention_in_a_graph_gives_the_same_bits_every_time(bench: Bench) -> None:
    shape = {"batch": 2, "heads": 16, "kv_heads": 16, "head_dim": 64}
    values, table, *_ = random_case(np.random.default_rng(0), "axes", 1024, (16, 16), **shape)
    launch = attention_launch("axes", "float16", tokens=1024, grid=(16, 16), **shape)
    inputs, out = (bench.put(to_bits(values, "float16")), bench.put(table)), bench.poisoned(launch.output_bytes[0])
    bench.run(launch, inputs, (out,))
    first = bench.get(out, (2, 1024, 1024), np.uint16)
    bench.card.begin_capture(bench.stream)
    bench.kernels.start(launch, inputs, (out,), bench.stream)
    graph = bench.card.end_capture(bench.stream)
    for _ in range(20):
        bench.card.launch(graph, bench.stream)
    np.testing.assert_array_equal(bench.get(out, (2, 1024, 1024), np.uint16), first)


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (321, 243), (96, 96)])
@pytest.mark.parametrize("preprocess, dtype", [(NANO, "float32"), (LARGE, "float16")])
def test_pixels_equal_pillows_bit_for_bit(
    bench: Bench, size: tuple[int, int], preprocess: Any, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "resize", resize_with_pillow)
    width, height = size
    frame = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    left, top, right, bottom = crop_box(width, height, preprocess)
    across = resize_weights(width, left, right, preprocess.crop)
    down = resize_weights(height, top, bottom, preprocess.crop)
    launch = pixels_launch("bgr", dtype, stride=3 * width, height=height, across=across, down=down)
    out, as_bytes = (bench.poisoned(size) for size in launch.output_bytes)
    inputs = tuple(bench.put(array) for array in (frame, across, down, normalisation(preprocess)))
    bench.run(launch, inputs, (out, as_bytes))
    expected, shape = crop_and_resize(frame, preprocess), (3, preprocess.crop, preprocess.crop)
    np.testing.assert_array_equal(bench.get(as_bytes, shape, np.uint8), expected.rgb)
    np.testing.assert_array_equal(bench.get(out, shape, dtype), normalised(expected, preprocess, dtype))
    weights = resize_weights(preprocess.crop, 0, preprocess.crop, THUMBNAIL, box=True)
    launch = luminance_launch(preprocess.crop, weights)
    cells = bench.poisoned(launch.output_bytes[0])
    bench.run(launch, (as_bytes, bench.put(weights)), (cells,))
    found = bench.get(cells, (THUMBNAIL, THUMBNAIL), np.float32)
    np.testing.assert_allclose(found, expected.luminance, atol=1e-6)
