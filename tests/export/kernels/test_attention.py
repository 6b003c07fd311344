"""The attention kernel's own source on the CPU, against float64 and against torch with transformers' rotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.vjepa2.modeling_vjepa2 import rotate_queries_or_keys

from tests.export.kernels import host
from vlj_edge.cuda import attention
from vlj_edge.cuda.launch import Launch
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.models import rope

TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}  # relative to the norm; on a GPU as well (tests/gpu)


def to_bits(values: np.ndarray, dtype: str) -> np.ndarray:
    """Round to float16 or bfloat16: uint16, the bits."""
    return torch.from_numpy(values).to(getattr(torch, dtype)).view(torch.uint16).numpy()


def from_bits(bits: np.ndarray, dtype: str) -> np.ndarray:
    """The inverse of to_bits(): float64."""
    return torch.from_numpy(bits).view(getattr(torch, dtype)).double().numpy()


def llama_tables(tokens: int, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    angle = np.outer(np.arange(tokens), 1 / 10000 ** (np.arange(head_dim // 2) / (head_dim / 2)))
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotated(x: np.ndarray, rotation: str, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x: float64 [batch, tokens, heads, d]."""
    cos, sin = cos[None, :, None].astype(np.float64), sin[None, :, None].astype(np.float64)
    if rotation == "axes":
        return x * cos + x[..., rope.adjacent_swap(x.shape[-1]).numpy()] * sin
    low, high = np.split(x, 2, axis=-1)
    return np.concatenate((low * cos - high * sin, high * cos + low * sin), -1)


def reference_attention(
    x: np.ndarray, heads: int, kv_heads: int, rotate: Any, key_mask: np.ndarray | None
) -> np.ndarray:
    """float64 [batch, tokens, heads * d] of float64 [batch, tokens, heads + 2 kv_heads, d]."""
    q, k, v = rotate(x[:, :, :heads]), rotate(x[:, :, heads : heads + kv_heads]), x[:, :, heads + kv_heads :]
    k, v = (np.repeat(y, heads // kv_heads, 2) for y in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(x.shape[-1])
    if key_mask is not None:
        scores = np.where(key_mask[:, None, None] != 0, scores, -np.inf)
    largest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(largest), 0, largest))
    total = weights.sum(-1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape[:2], -1)


def run(
    launch: Launch, qkv: np.ndarray, table: np.ndarray, key_mask: np.ndarray | None, seed: int = 0, turing: bool = False
) -> np.ndarray:
    """Run the kernel on qkv, uint16 [batch, tokens, width], and return its output, uint16 [batch, tokens, width].

    Checks that it writes all of its output and nothing around it. Around the input are NaNs, so that reading out of
    bounds shows in the output."""
    batch, tokens = qkv.shape[:2]
    nan, margin = np.array(0x7FFF, np.uint16), 4096
    padded = np.full(qkv.size + 2 * margin, nan, np.uint16)
    padded[margin : margin + qkv.size] = qkv.ravel()
    written = np.full(launch.output_bytes[0] // 2 + 2 * margin, nan, np.uint16)
    masks = [] if key_mask is None else [key_mask]
    arguments = [padded[margin:], table, *masks, *launch.integers, written[margin:]]
    host.start(launch.name, launch.grid, launch.threads, arguments, seed=seed, turing=turing)
    assert (written[:margin] == nan).all() and (written[-margin:] == nan).all(), "it wrote outside of its output"
    assert (written[margin:-margin] != nan).all(), "it did not write all of its output"
    return written[margin:-margin].reshape(batch, tokens, -1).copy()


def random_case(
    rng: np.random.Generator, rotation: str, tokens: int, grid: tuple[int, int], **shape: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random values of qkv, float64 [batch, tokens, width]; the kernel's table; and cos and sin of every token."""
    head_dim = shape["head_dim"]
    if rotation == "axes":
        times = -(-tokens // (grid[0] * grid[1]))
        cos, sin = (t.numpy() for t in rope.vjepa_tables(times, *grid, head_dim))
        table = attention.axes_table(cos, sin, *grid)
        cos, sin = cos[:tokens], sin[:tokens]
    else:
        cos, sin = llama_tables(tokens, head_dim)
        table = attention.halves_table(cos, sin)
    width = (shape["heads"] + 2 * shape["kv_heads"]) * head_dim
    return rng.standard_normal((shape["batch"], tokens, width)), table, cos, sin


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    rotation=st.sampled_from(("axes", "halves")),
    dtype=st.sampled_from(("float16", "bfloat16")),
    head_dim=st.sampled_from(attention.HEAD_DIMS),
    tokens=st.one_of(st.integers(1, 200), st.sampled_from((1, 31, 32, 33, 63, 64, 65, 127, 128, 129))),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 4),
    batch=st.integers(1, 2),
    padding=st.sampled_from((0.0, 0.3, 0.9, 1.0)),
    scale=st.sampled_from((0.01, 1.0, 30.0, 2000.0)),
    turing=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_shape_against_float64(
    rotation: Any,
    dtype: str,
    head_dim: int,
    tokens: int,
    grid: tuple[int, int],
    kv_heads: int,
    group: int,
    batch: int,
    padding: float,
    scale: float,
    turing: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    if rotation == "axes" and attention.axes_table_entries(tokens, *grid, head_dim) > attention.ROTARY_ENTRIES:
        grid = (9, 9)
    if turing:
        dtype = "float16"
    shape = {"batch": batch, "heads": kv_heads * group, "kv_heads": kv_heads, "head_dim": head_dim}
    values, table, cos, sin = random_case(rng, rotation, tokens, grid, **shape)
    qkv = to_bits(values * scale, dtype)
    exact = from_bits(qkv, dtype).reshape(batch, tokens, -1, head_dim)
    by_axes = rotation == "axes"
    key_mask = None if by_axes else (rng.random((batch, tokens)) >= padding).astype(np.uint8)
    launch = attention.attention_launch(rotation, dtype, tokens=tokens, grid=grid if by_axes else None, **shape)
    found = from_bits(run(launch, qkv, table, key_mask, seed, turing), dtype)

    def rotate(x: np.ndarray) -> np.ndarray:
        """Where softmax picks a single key, the last bit of a 16-bit value decides which: round as the kernel does."""
        exactly = rotated(x, rotation, cos, sin)
        return exactly if scale <= 1 else from_bits(to_bits(exactly, dtype), dtype)

    expected = reference_attention(exact, kv_heads * group, kv_heads, rotate, key_mask)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - expected) <= TOLERANCE[dtype] * np.linalg.norm(expected)
    if not by_axes and padding == 1.0:
        assert not found.any(), "without any key the output is zero"


@pytest.mark.parametrize("turing", [False, True])
def test_a_predictors_padded_query(turing: bool) -> None:
    """As in the predictor, padding is at the end. 8 query heads instead of its 32, which would take long here."""
    tokens, heads, kv_heads, head_dim = 150, 8, 2, 64
    shape = {"batch": 1, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    values, table, cos, sin = random_case(np.random.default_rng(3), "halves", tokens, (1, 1), **shape)
    qkv = to_bits(values, "float16")
    key_mask = np.ones((1, tokens), np.uint8)
    key_mask[:, 130:] = 0
    launch = attention.attention_launch("halves", "float16", tokens=tokens, **shape)
    found = from_bits(run(launch, qkv, table, key_mask, turing=turing), "float16")
    exact = torch.from_numpy(from_bits(qkv, "float16"))
    q, k, v = exact.view(1, tokens, -1, head_dim).transpose(1, 2).split((8, 2, 2), dim=1)
    q, k = apply_rotary_pos_emb(q, k, *(torch.from_numpy(np.tile(t, 2)).double()[None] for t in (cos, sin)))
    mask = torch.from_numpy(key_mask != 0)[:, None, None]
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    expected = expected.transpose(1, 2).flatten(2).numpy()
    assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected)


def test_the_vision_encoders_rotation_is_transformers() -> None:
    """Tiled cosines over adjacent pairs, as transformers writes it: one axis after the other."""
    times, rows, columns, heads, head_dim = 2, 6, 6, 2, 64
    tokens = times * rows * columns
    shape = {"batch": 1, "heads": heads, "kv_heads": heads, "head_dim": head_dim}
    values, table, *_ = random_case(np.random.default_rng(4), "axes", tokens, (rows, columns), **shape)
    qkv = to_bits(values, "float16")
    launch = attention.attention_launch("axes", "float16", tokens=tokens, grid=(rows, columns), **shape)
    found = from_bits(run(launch, qkv, table, None), "float16")
    exact = torch.from_numpy(from_bits(qkv, "float16"))
    q, k, v = exact.view(1, tokens, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
    axis = 2 * ((head_dim // 3) // 2)
    token = torch.arange(tokens)
    positions = (token // (rows * columns), token % (rows * columns) // columns, token % columns)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        parts = [
            rotate_queries_or_keys(x[..., i * axis : (i + 1) * axis], position.expand(1, heads, -1))
            for i, position in enumerate(positions)
        ]
        return torch.cat((*parts, x[..., 3 * axis :]), dim=-1)

    expected = torch.nn.functional.scaled_dot_product_attention(rotate(q), rotate(k), v)
    expected = expected.transpose(1, 2).flatten(2).numpy()
    assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("tables", ["2", "2.1"])
@pytest.mark.parametrize("head_dim", attention.HEAD_DIMS)
def test_the_table_of_axes_holds_every_angle(tables: str, head_dim: int) -> None:
    cos, sin = (t.numpy() for t in rope.vjepa_tables(3, 4, 5, head_dim, squeezed_patch=16 if tables == "2.1" else None))
    table = attention.axes_table(cos, sin, 4, 5)
    assert table.shape == (attention.axes_table_entries(60, 4, 5, head_dim), 4) and table.dtype == np.float32
    with pytest.raises(VljEdgeError, match="time, row and column"):
        attention.axes_table(np.roll(cos, 1, axis=0), sin, 4, 5)


def test_the_table_of_halves_adds_up_to_every_angle() -> None:
    cos, sin = llama_tables(2600, 64)
    table = attention.halves_table(cos, sin)
    fine, coarse = table[: 4 * 64 * 4].reshape(4, 64, 4, 2, 2), table[4 * 64 * 4 :].reshape(-1, 4, 4, 2, 2)
    token, value = 1931, 21
    unit, i, which = value // 8, value % 8 // 2, value % 2
    a, b = fine[i, token % 64, unit, which], coarse[token // 64, unit, i, which]
    assert a[0] * b[0] - a[1] * b[1] == pytest.approx(np.cos(token / 10000 ** (value / 32)), abs=3e-4)
    with pytest.raises(VljEdgeError, match="grow evenly"):
        attention.halves_table(cos[::-1].copy(), sin)


def test_llama3s_scaled_frequencies_grow_evenly_as_well() -> None:
    from vlj_edge.presets import preset

    cos, sin = (t[0].numpy() for t in rope.llama_tables(preset("vl-jepa-1.6b").predictor, 2560))
    assert attention.halves_table(cos, sin).shape == (4 * 64 * 4 + 40 * 16, 4)


SHAPE: dict[str, Any] = {"batch": 1, "tokens": 64, "heads": 4, "kv_heads": 4, "head_dim": 64}


@pytest.mark.parametrize(
    "change, match",
    [
        ({"dtype": "float32"}, "float32"),
        ({"head_dim": 80}, "80.*--flavour native"),
        ({"head_dim": 128}, "128.*--flavour native"),
        ({"kv_heads": 3}, "4 query heads .* 3 key heads"),
        ({"tokens": 0}, "1 to 65535"),
        ({"tokens": 70000}, "1 to 65535"),
        ({"tokens": 65000, "heads": 512, "kv_heads": 512}, "2\\^31"),
        ({"grid": None}, "rows and columns"),
        ({"grid": (60, 60), "tokens": 3600}, "1024.*--flavour native"),
    ],
)
def test_unsupported_shapes_are_errors(change: dict[str, Any], match: str) -> None:
    arguments = {"dtype": "float16", "grid": (8, 8), **SHAPE, **change}
    with pytest.raises(VljEdgeError, match=match):
        attention.attention_launch("axes", arguments.pop("dtype"), **arguments)


def test_a_missing_barrier_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the emulation: without one of its barriers the kernel gives a wrong result, or an error."""
    source = (host.SOURCES / "attention.cu").read_text(encoding="utf-8")
    broken = source.replace(
        "        wait_for_copies();\n        __syncthreads();\n    }", "        wait_for_copies();\n    }"
    )
    assert broken != source
    for path in host.SOURCES.glob("*.cu*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "attention.cu").write_text(broken, encoding="utf-8")
    monkeypatch.setattr(host, "SOURCES", tmp_path)
    host.library.cache_clear()
    try:
        shape = {"batch": 1, "heads": 1, "kv_heads": 1, "head_dim": 64}
        values, table, cos, sin = random_case(np.random.default_rng(0), "axes", 192, (8, 8), **shape)
        qkv = to_bits(values, "float16")
        launch = attention.attention_launch("axes", "float16", tokens=192, grid=(8, 8), **shape)
        exact = from_bits(qkv, "float16").reshape(1, 192, 3, 64)
        expected = reference_attention(exact, 1, 1, lambda x: rotated(x, "axes", cos, sin), None)
        found = from_bits(run(launch, qkv, table, None), "float16")
        assert not np.linalg.norm(found - expected) <= 2e-3 * np.linalg.norm(expected)
    finally:
        monkeypatch.undo()
        host.library.cache_clear()
