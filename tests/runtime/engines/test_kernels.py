"""Kernels through the device module. The fake GPU runs their own source on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.kernels.test_attention import from_bits, random_case, reference_attention, rotated, to_bits
from tests.runtime.engines.fake_card import FakeCard
from vlj_edge.cuda.attention import attention_launch
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt.device import Buffer
from vlj_edge.runtime.engines.tensorrt.kernels import Kernels

SHAPE = {"batch": 1, "tokens": 70, "heads": 2, "kv_heads": 1, "head_dim": 64}


def put(card: FakeCard, array: np.ndarray, stream: int) -> Buffer:
    buffer = card.allocate(array.nbytes)
    pinned = card.pinned(array.shape, array.dtype)
    pinned[...] = array
    card.copy_in(buffer, pinned, stream)
    return buffer


def test_attention_through_the_device_module() -> None:
    card = FakeCard()
    kernels, stream = Kernels(card), card.stream()
    shape = {key: size for key, size in SHAPE.items() if key != "tokens"}
    values, table, cos, sin = random_case(np.random.default_rng(0), "halves", 70, (1, 1), **shape)
    qkv, key_mask = to_bits(values, "float16"), np.ones((1, 70), np.uint8)
    key_mask[:, 60:] = 0
    launch = attention_launch("halves", "float16", **SHAPE)
    inputs = [put(card, array, stream) for array in (qkv, table, key_mask)]
    out, back = card.allocate(launch.output_bytes[0]), card.pinned((1, 70, 128), np.uint16)
    for _ in range(2):
        kernels.start(launch, inputs, (out,), stream)
    card.copy_out(back, out, stream)
    card.synchronise(stream)
    exact = from_bits(qkv, "float16").reshape(1, 70, 4, 64)
    expected = reference_attention(exact, 2, 1, lambda x: rotated(x, "halves", cos, sin), key_mask)
    assert np.linalg.norm(from_bits(back, "float16") - expected) <= 2e-3 * np.linalg.norm(expected)
    assert card.counted["kernel"] == 1 and card.counted["start"] == 2


def test_wrong_buffers_types_and_gpus_are_errors() -> None:
    card = FakeCard()
    kernels, stream = Kernels(card), card.stream()
    launch = attention_launch("halves", "float16", **SHAPE)
    qkv, table, key_mask, out = (card.allocate(size) for size in (*launch.input_bytes, *launch.output_bytes))
    for inputs, outputs, match in (
        ((qkv, table), (out,), "3 inputs, not 2"),
        ((qkv, table.part(0, 100), key_mask), (out,), "input 1 of attention_halves_fp16_64 has 100 bytes"),
        ((qkv.part(8, qkv.size), table, key_mask), (out,), "multiple of 16"),
        ((qkv, table, key_mask), (Buffer(0, out.size),), "multiple of 16"),
    ):
        with pytest.raises(VljEdgeError, match=match):
            kernels.start(launch, inputs, outputs, stream)
    card.sm = "sm75"
    with pytest.raises(VljEdgeError, match=r"sm75.*fp16"):
        kernels.start(attention_launch("halves", "bfloat16", **SHAPE), (qkv, table, key_mask), (out,), stream)
    assert not card.counted["start"]
    card.sm = "sm72"
    with pytest.raises(VljEdgeError, match="not for sm72"):
        Kernels(card)
