"""The attention kernel's own source on the processor, against float64, and torch with transformers' rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.vjepa2.modeling_vjepa2 import rotate_queries_or_keys

from tests.export.kernels import host
from vlj_edge.cuda import kernels
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.models import rope

TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}  # of the norm; the first is what must be reached on a card


def bf16(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values.astype(np.float32)).bfloat16().view(torch.uint16).numpy()


def of_bf16(bits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(bits).view(torch.bfloat16).double().numpy()


def llama_tables(tokens: int, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    angle = np.outer(np.arange(tokens), 1 / 10000 ** (np.arange(head_dim // 2) / (head_dim / 2)))
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def turned(x: np.ndarray, rotation: str, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x: float64 [batch, tokens, heads, d]."""
    cos, sin = cos[None, :, None].astype(np.float64), sin[None, :, None].astype(np.float64)
    if rotation == "axes":
        return x * cos + x[..., rope.adjacent_swap(x.shape[-1]).numpy()] * sin
    low, high = np.split(x, 2, axis=-1)
    return np.concatenate((low * cos - high * sin, high * cos + low * sin), -1)


def attended(x: np.ndarray, heads: int, kv_heads: int, turn: Any, seen: np.ndarray | None) -> np.ndarray:
    """float64 [batch, tokens, heads * d] of float64 [batch, tokens, heads + 2 kv_heads, d]."""
    q, k, v = turn(x[:, :, :heads]), turn(x[:, :, heads : heads + kv_heads]), x[:, :, heads + kv_heads :]
    k, v = (np.repeat(y, heads // kv_heads, 2) for y in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(x.shape[-1])
    if seen is not None:
        scores = np.where(seen[:, None, None] != 0, scores, -np.inf)
    largest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(largest), 0, largest))
    total = weights.sum(-1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape[:2], -1)


def run(
    launch: kernels.Launch,
    qkv: np.ndarray,
    turns: np.ndarray,
    seen: np.ndarray | None,
    out_width: int,
    seed: int = 0,
    turing: bool = False,
) -> np.ndarray:
    """The kernel's output, after it was seen to write every value of it and none around it.

    What lies around the input are NaNs: whoever reads them has them in the output."""
    batch, tokens = qkv.shape[:2]
    nan = np.array(0x7FFF, np.uint16)
    before = 4096
    given = np.full(qkv.size + 2 * before, nan, np.uint16)
    given[before : before + qkv.size] = qkv.view(np.uint16).ravel()
    written = np.full(batch * tokens * out_width + 2 * before, nan, np.uint16)
    inputs = [given[before:], turns, *([] if seen is None else [seen])]
    host.start(
        launch.name,
        launch.grid,
        launch.threads,
        [*inputs, *launch.integers, written[before:]],
        seed=seed,
        turing=turing,
    )
    inside = written[before:-before]
    assert (written[:before] == nan).all() and (written[-before:] == nan).all(), "it wrote beside its output"
    assert (inside != nan).all(), "it left some of its output as it was"
    return inside.reshape(batch, tokens, out_width).copy()


def case(
    rng: np.random.Generator, rotation: str, dtype: str, tokens: int, grid: tuple[int, int], **shape: int
) -> tuple[kernels.Launch, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    head_dim = shape["head_dim"]
    if rotation == "axes":
        times = -(-tokens // (grid[0] * grid[1]))
        cos, sin = (t.numpy() for t in rope.vjepa_tables(times, *grid, head_dim))
        turns = kernels.axes_turns(cos, sin, *grid)
        cos, sin = cos[:tokens], sin[:tokens]
    else:
        cos, sin = llama_tables(tokens, head_dim)
        turns = kernels.halves_turns(cos, sin)
    width = (shape["heads"] + 2 * shape["kv_heads"]) * head_dim
    values = rng.standard_normal((shape["batch"], tokens, width)) * shape.get("scale", 1)
    return values, turns, cos, sin, width


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    rotation=st.sampled_from(("axes", "halves")),
    dtype=st.sampled_from(("float16", "bfloat16")),
    head_dim=st.sampled_from(kernels.HEAD_DIMS),
    tokens=st.one_of(st.integers(1, 200), st.sampled_from((1, 31, 32, 33, 63, 64, 65, 127, 128, 129))),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 4),
    batch=st.integers(1, 2),
    padding=st.sampled_from((None, 0.0, 0.3, 0.9, 1.0)),
    scale=st.sampled_from((0.01, 1.0, 30.0, 2000.0)),
    turing=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_shape_against_float64(
    rotation: str,
    dtype: str,
    head_dim: int,
    tokens: int,
    grid: tuple[int, int],
    kv_heads: int,
    group: int,
    batch: int,
    padding: float | None,
    scale: float,
    turing: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    heads = kv_heads * group
    if rotation == "axes" and kernels.axes_entries(tokens, *grid, head_dim) > kernels.TURNS:
        grid = (9, 9)
    if turing:
        dtype = "float16"
    values, turns, cos, sin, _ = case(
        rng, rotation, dtype, tokens, grid, batch=batch, heads=heads, kv_heads=kv_heads, head_dim=head_dim
    )
    values = values * scale
    qkv = values.astype(np.float16) if dtype == "float16" else bf16(values)
    exact = (qkv.astype(np.float64) if dtype == "float16" else of_bf16(qkv)).reshape(batch, tokens, -1, head_dim)
    seen = None if padding is None else (rng.random((batch, tokens)) >= padding).astype(np.uint8)
    launch = kernels.attention(
        rotation,  # type: ignore[arg-type]
        dtype,
        batch=batch,
        tokens=tokens,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        grid=grid if rotation == "axes" else None,
        masked=seen is not None,
    )
    out = run(launch, qkv, turns, seen, heads * head_dim, seed, turing)
    got = out.view(np.float16).astype(np.float64) if dtype == "float16" else of_bf16(out)
    expected = attended(exact, heads, kv_heads, lambda x: _rounded(turned(x, rotation, cos, sin), dtype, scale), seen)
    assert np.isfinite(got).all()
    assert np.linalg.norm(got - expected) <= TOLERANCE[dtype] * np.linalg.norm(expected)
    if padding == 1.0:
        assert not got.any(), "a query that sees nothing gets zeros"


def _rounded(x: np.ndarray, dtype: str, scale: float) -> np.ndarray:
    """Turned values as the kernel multiplies them. At scales where softmax picks one key, the last bit of a 16-bit
    value decides which; rounding like the kernel keeps such a tie a tie."""
    if scale <= 1:
        return x
    return x.astype(np.float16).astype(np.float64) if dtype == "float16" else of_bf16(bf16(x))


@pytest.mark.parametrize("turing", [False, True])
def test_a_predictors_padded_query(turing: bool) -> None:
    """32 query heads would take long here: 8 over 2, and what is padding at the end."""
    rng = np.random.default_rng(3)
    tokens, heads, kv_heads, head_dim = 150, 8, 2, 64
    values, turns, cos, sin, _ = case(
        rng, "halves", "float16", tokens, (1, 1), batch=1, heads=heads, kv_heads=kv_heads, head_dim=head_dim
    )
    qkv = values.astype(np.float16)
    seen = np.ones((1, tokens), np.uint8)
    seen[:, 130:] = 0
    shape = {"batch": 1, "tokens": tokens, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    launch = kernels.attention("halves", "float16", **shape, masked=True)
    got = run(launch, qkv, turns, seen, heads * head_dim, turing=turing).view(np.float16).astype(np.float64)
    q, k, v = torch.from_numpy(qkv).double().view(1, tokens, -1, head_dim).transpose(1, 2).split((8, 2, 2), dim=1)
    both = [torch.from_numpy(np.tile(t, 2)).double()[None] for t in (cos, sin)]
    q, k = apply_rotary_pos_emb(q, k, *both)
    mask = torch.from_numpy(seen != 0)[:, None, None]
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    expected = expected.transpose(1, 2).flatten(2).numpy()
    assert np.linalg.norm(got - expected) <= 1e-3 * np.linalg.norm(expected)


def test_the_vision_encoders_rotation_is_transformers() -> None:
    """Tiled cosines over adjacent pairs, as transformers spells it: one axis after the other."""
    rng = np.random.default_rng(4)
    times, rows, columns, heads, head_dim = 2, 6, 6, 2, 64
    tokens = times * rows * columns
    qkv = rng.standard_normal((1, tokens, 3 * heads * head_dim)).astype(np.float16)
    cos, sin = (t.numpy() for t in rope.vjepa_tables(times, rows, columns, head_dim))
    turns = kernels.axes_turns(cos, sin, rows, columns)
    shape = {"batch": 1, "tokens": tokens, "heads": heads, "kv_heads": heads, "head_dim": head_dim}
    launch = kernels.attention("axes", "float16", **shape, grid=(rows, columns))
    got = run(launch, qkv, turns, None, heads * head_dim).view(np.float16).astype(np.float64)
    q, k, v = torch.from_numpy(qkv).double().view(1, tokens, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
    axis = 2 * ((head_dim // 3) // 2)
    token = torch.arange(tokens)
    places = (token // (rows * columns), token % (rows * columns) // columns, token % columns)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        parts = [
            rotate_queries_or_keys(x[..., i * axis : (i + 1) * axis], places[i].expand(1, heads, -1)) for i in range(3)
        ]
        return torch.cat((*parts, x[..., 3 * axis :]), dim=-1)

    expected = (
        torch.nn.functional.scaled_dot_product_attention(rotate(q), rotate(k), v).transpose(1, 2).flatten(2).numpy()
    )
    assert np.linalg.norm(got - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("tables", ["2", "2.1"])
@pytest.mark.parametrize("head_dim", kernels.HEAD_DIMS)
def test_the_table_of_axes_holds_every_angle(tables: str, head_dim: int) -> None:
    cos, sin = (t.numpy() for t in rope.vjepa_tables(3, 4, 5, head_dim, squeezed_patch=16 if tables == "2.1" else None))
    turns = kernels.axes_turns(cos, sin, 4, 5)
    assert turns.shape == (kernels.axes_entries(60, 4, 5, head_dim), 4) and turns.dtype == np.float32
    with pytest.raises(VljEdgeError, match="time, row and column alone"):
        kernels.axes_turns(np.roll(cos, 1, axis=0), sin, 4, 5)


def test_the_table_of_halves_adds_up_to_every_angle() -> None:
    cos, sin = llama_tables(2600, 64)
    turns = kernels.halves_turns(cos, sin)
    fine, coarse = turns[: 4 * 64 * 4].reshape(4, 64, 4, 2, 2), turns[4 * 64 * 4 :].reshape(-1, 4, 4, 2, 2)
    token, value = 1931, 21
    unit, i, which = value // 8, value % 8 // 2, value % 2
    a, b = fine[i, token % 64, unit, which], coarse[token // 64, unit, i, which]
    assert a[0] * b[0] - a[1] * b[1] == pytest.approx(np.cos(token / 10000 ** (value / 32)), abs=3e-4)
    with pytest.raises(VljEdgeError, match="grow evenly"):
        kernels.halves_turns(cos[::-1].copy(), sin)


def test_llama3s_scaled_frequencies_grow_evenly_as_well() -> None:
    from vlj_edge.presets import preset

    cos, sin = (t[0].numpy() for t in rope.llama_tables(preset("vl-jepa-1.6b").predictor, 2560))
    assert kernels.halves_turns(cos, sin).shape == (4 * 64 * 4 + 40 * 16, 4)


SHAPE: dict[str, Any] = {"batch": 1, "tokens": 64, "heads": 4, "kv_heads": 4, "head_dim": 64}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"dtype": "float32"}, "float16 and bfloat16"),
        ({"head_dim": 80}, "heads of 32, 64 and 128"),
        ({"kv_heads": 3}, "cannot share"),
        ({"tokens": 0}, "1 to 65535"),
        ({"tokens": 70000}, "1 to 65535"),
        ({"tokens": 65000, "heads": 512, "kv_heads": 512}, "2\\^31"),
        ({"grid": None}, "rows and columns"),
        ({"grid": (60, 60), "tokens": 3600}, "room for 1024"),
    ],
)
def test_what_it_does_not_serve_is_said_before_it_starts(change: dict[str, Any], says: str) -> None:
    asked = {"dtype": "float16", "grid": (8, 8), **SHAPE, **change}
    with pytest.raises(VljEdgeError, match=says):
        kernels.attention("axes", asked.pop("dtype"), **asked)


def test_a_barrier_too_few_is_noticed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulation itself: without one of its barriers the kernel gives wrong numbers, or breaks a rule."""
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
        rng = np.random.default_rng(0)
        values, turns, cos, sin, _ = case(
            rng, "axes", "float16", 192, (8, 8), batch=1, heads=1, kv_heads=1, head_dim=64
        )
        qkv = values.astype(np.float16)
        launch = kernels.attention("axes", "float16", **SHAPE | {"tokens": 192, "heads": 1, "kv_heads": 1}, grid=(8, 8))
        expected = attended(
            qkv.astype(np.float64).reshape(1, 192, 3, 64), 1, 1, lambda x: turned(x, "axes", cos, sin), None
        )
        got = run(launch, qkv, turns, None, 64).view(np.float16).astype(np.float64)
        assert not np.linalg.norm(got - expected) <= 2e-3 * np.linalg.norm(expected)
    finally:
        monkeypatch.undo()
        host.library.cache_clear()
