"""The compiled kernels on a real card, against float64, Pillow and the runtime's own gate.

compute-sanitizer --tool memcheck (and racecheck) python -m pytest tests/gpu/test_kernels.py shows what numbers cannot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.export.kernels.test_attention import attended, bf16, case, of_bf16, turned
from tests.export.kernels.test_gate import stream as walk
from tests.export.kernels.test_pixels import LARGE, NANO, normalised
from vlj_edge.cuda import kernels
from vlj_edge.runtime.engines.tensorrt.device import Buffer, Device
from vlj_edge.runtime.engines.tensorrt.kernels import Kernels
from vlj_edge.runtime.video.preprocess import THUMBNAIL, crop_and_resize, crop_box, normalisation

POISON = 0xFF  # NaN in every type


class Bench:
    """Arrays to the card, a kernel, and arrays back."""

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

    def run(self, launch: kernels.Launch, inputs: tuple[Buffer, ...], outputs: tuple[Buffer, ...]) -> None:
        self.kernels.start(launch, inputs, outputs, self.stream)
        self.card.synchronise(self.stream)


@pytest.fixture(scope="module")
def bench(card: Device) -> Bench:
    return Bench(card)


SHAPES = [
    # rotation, tokens, grid, heads, kv_heads, head_dim, padded
    ("axes", 1024, (16, 16), 4, 4, 64, False),
    ("axes", 2048, (16, 16), 16, 16, 64, False),
    ("axes", 588, (14, 14), 6, 6, 32, False),
    ("axes", 75, (5, 5), 2, 1, 128, True),
    ("axes", 1, (1, 1), 1, 1, 64, False),
    ("halves", 2560, None, 8, 2, 64, True),
    ("halves", 129, None, 4, 4, 128, True),
    ("halves", 63, None, 3, 1, 32, False),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("rotation, tokens, grid, heads, kv_heads, head_dim, padded", SHAPES)
def test_attention_against_float64(
    bench: Bench,
    dtype: str,
    rotation: Any,
    tokens: int,
    grid: Any,
    heads: int,
    kv_heads: int,
    head_dim: int,
    padded: bool,
) -> None:
    if dtype == "bfloat16" and int(bench.card.sm[2:]) < 80:
        pytest.skip("this card has no bf16")
    rng = np.random.default_rng(tokens)
    shape = {"batch": 1, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    values, turns, cos, sin, _ = case(rng, rotation, dtype, tokens, grid or (1, 1), **shape)
    qkv = values.astype(np.float16) if dtype == "float16" else bf16(values)
    exact = (qkv.astype(np.float64) if dtype == "float16" else of_bf16(qkv)).reshape(1, tokens, -1, head_dim)
    seen = (rng.random((1, tokens)) < 0.8).astype(np.uint8) if padded else None
    launch = kernels.attention(rotation, dtype, tokens=tokens, grid=grid, masked=padded, **shape)
    out = bench.poisoned(launch.outputs[0])
    inputs = [bench.put(qkv), bench.put(turns)] + ([bench.put(seen)] if seen is not None else [])
    bench.run(launch, tuple(inputs), (out,))
    got = bench.get(out, (1, tokens, heads * head_dim), np.uint16)
    found = got.view(np.float16).astype(np.float64) if dtype == "float16" else of_bf16(got)
    expected = attended(exact, heads, kv_heads, lambda x: turned(x, rotation, cos, sin), seen)
    assert np.linalg.norm(found - expected) <= (2e-3 if dtype == "float16" else 2e-2) * np.linalg.norm(expected)


def test_attention_in_a_graph_gives_the_same_bits_every_time(bench: Bench) -> None:
    shape = {"batch": 2, "heads": 16, "kv_heads": 16, "head_dim": 64}
    values, turns, *_ = case(np.random.default_rng(0), "axes", "float16", 1024, (16, 16), **shape)
    launch = kernels.attention("axes", "float16", tokens=1024, grid=(16, 16), **shape)
    inputs, out = (bench.put(values.astype(np.float16)), bench.put(turns)), bench.poisoned(launch.outputs[0])
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
def test_pixels_are_the_hosts_bit_for_bit(bench: Bench, size: tuple[int, int], preprocess: Any, dtype: str) -> None:
    width, height = size
    frame = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    left, top, right, bottom = crop_box(width, height, preprocess)
    across = kernels.resize_weights(width, left, right, preprocess.crop)
    down = kernels.resize_weights(height, top, bottom, preprocess.crop)
    launch = kernels.pixels("bgr", dtype, stride=3 * width, height=height, across=across, down=down)
    out, seen = (bench.poisoned(size) for size in launch.outputs)
    inputs = tuple(bench.put(array) for array in (frame, across, down, normalisation(preprocess)))
    bench.run(launch, inputs, (out, seen))
    expected, shape = crop_and_resize(frame, preprocess), (3, preprocess.crop, preprocess.crop)
    np.testing.assert_array_equal(bench.get(seen, shape, np.uint8), expected.rgb)
    np.testing.assert_array_equal(bench.get(out, shape, dtype), normalised(expected, preprocess, dtype))
    weights = kernels.resize_weights(preprocess.crop, 0, preprocess.crop, THUMBNAIL, box=True)
    launch = kernels.luminance(preprocess.crop, weights)
    cells = bench.poisoned(launch.outputs[0])
    bench.run(launch, (seen, bench.put(weights)), (cells,))
    found = bench.get(cells, (THUMBNAIL, THUMBNAIL), np.float32)
    np.testing.assert_allclose(found, expected.luminance, atol=1e-6)


def test_the_gate_against_float64(bench: Bench) -> None:
    size, slots, smoothing, calm_windows = 1536, 6, 3, 4
    embeddings = walk(np.random.default_rng(0), 12, size, 0.02)
    limits = np.array((0.9, 0.8, 0.95, 0.02), np.float32)
    said, ring, smoothed = (bench.poisoned(4 * n) for n in (size, size * slots, size))
    state, word, limit = bench.put(np.zeros(2, np.int32)), bench.poisoned(4), bench.put(limits)
    step, say = kernels.gate_step(size, slots, smoothing, calm_windows), kernels.gate_say(size)
    before: np.ndarray | None = None
    for window in range(12):
        bench.run(step, (bench.put(embeddings[window]), said, limit), (ring, state, smoothed, word))
        found = kernels.read_word(int(bench.get(word, (1,), np.uint32)[0]))
        recent = embeddings[: window + 1].astype(np.float64)[-smoothing:]
        mean = recent.mean(axis=0)
        mean = mean / np.linalg.norm(mean) if len(recent) > 1 else mean
        np.testing.assert_allclose(bench.get(smoothed, (size,), np.float32), mean, atol=2e-6)
        assert found.finite and found.compared == (before is not None)
        if before is not None:
            assert found.cosine == pytest.approx(float(mean @ before), abs=2e-6)
        if window in (2, 7):
            bench.run(say, (smoothed,), (said, state))
            before = mean
