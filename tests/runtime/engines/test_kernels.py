"""Kernels through the device module: the stand-in for a card runs their own source."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.kernels.test_attention import attended, case, turned
from tests.runtime.engines.fake_card import FakeCard
from vlj_edge.cuda import kernels
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
    ours, stream = Kernels(card), card.stream()
    shape = {key: size for key, size in SHAPE.items() if key != "tokens"}
    values, turns, cos, sin, _ = case(np.random.default_rng(0), "halves", "float16", 70, (1, 1), **shape)
    qkv = values.astype(np.float16)
    launch = kernels.attention("halves", "float16", **SHAPE)
    given, angles = put(card, qkv, stream), put(card, turns, stream)
    out, back = card.allocate(launch.outputs[0]), card.pinned((1, 70, 128), np.float16)
    for _ in range(2):
        ours.start(launch, (given, angles), (out,), stream)
    card.copy_out(back, out, stream)
    card.synchronise(stream)
    exact = qkv.astype(np.float64).reshape(1, 70, 4, 64)
    expected = attended(exact, 2, 1, lambda x: turned(x, "halves", cos, sin), None)
    assert np.linalg.norm(back - expected) <= 2e-3 * np.linalg.norm(expected)
    assert card.counted["kernel"] == 1 and card.counted["start"] == 2


def test_nothing_is_started_that_the_kernel_does_not_serve() -> None:
    card = FakeCard()
    ours, stream = Kernels(card), card.stream()
    launch = kernels.attention("halves", "float16", **SHAPE)
    given, angles, out = (card.allocate(size) for size in (*launch.inputs, *launch.outputs))
    for inputs, outputs, says in (
        ((given,), (out,), "has 2 inputs, not 1"),
        ((given, angles.part(0, 100)), (out,), "input 1 of attention_halves_fp16_64 has 100 bytes"),
        ((given.part(8, given.size), angles), (out,), "no multiple of 16"),
        ((given, angles), (Buffer(0, out.size),), "no multiple of 16"),
    ):
        with pytest.raises(VljEdgeError, match=says):
            ours.start(launch, inputs, outputs, stream)
    card.sm = "sm75"
    with pytest.raises(VljEdgeError, match="sm75 has no bfloat16"):
        ours.start(kernels.attention("halves", "bfloat16", **SHAPE), (given, angles), (out,), stream)
    assert not card.counted["start"]
    card.sm = "sm72"
    with pytest.raises(VljEdgeError, match="not for sm72"):
        Kernels(card)
