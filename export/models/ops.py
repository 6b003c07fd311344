"""Operators that are one node in ONNX (opset 23) and several in torch.

In eager mode they are plain, differentiable torch. Under torch.export they become that one node, or inside `portable()`
several older ones (TensorRT 10.3 reads none newer than opset 19). The parity run of `vlj-edge export` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PORTABLE = ContextVar("portable", default=False)


@contextmanager
def portable() -> Iterator[None]:
    """Export without Attention, RMSNormalization and RotaryEmbedding inside this block."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def _as_one_node() -> bool:
    return torch.compiler.is_exporting() and not _PORTABLE.get()


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, kv_heads: int, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention on packed heads, bidirectional unless the mask says otherwise.

    q is (batch, tokens, heads * d); k and v are (batch, keys, kv_heads * d); mask is bool (batch or 1, 1, tokens,
    keys), True where a key may be seen. Returns (batch, tokens, heads * d).
    """
    if _as_one_node():
        onnx_attention: Tensor = torch.onnx.ops.attention(q, k, v, mask, q_num_heads=heads, kv_num_heads=kv_heads)[0]
        return onnx_attention
    q, k, v = (_split_heads(x, n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    if torch.compiler.is_exporting():
        return _decomposed_attention(q, k, v, mask).transpose(1, 2).flatten(2)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=heads != kv_heads)
    return y.transpose(1, 2).flatten(2)


def capped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float) -> Tensor:
    """Attention whose logits x become cap * tanh(x / cap), or stay as they are if `cap` is 0.

    q is (batch, heads, tokens, d); k and v are (batch, heads, keys, d); mask as for attention(). Returns (batch, heads,
    tokens, d).
    """
    if _as_one_node():
        onnx_attention: Tensor = torch.onnx.ops.attention(q, k, v, mask, scale=scale, softcap=cap)[0]
        return onnx_attention
    scores = (q * scale @ k.transpose(-1, -2)).float()
    if cap:
        scores = cap * torch.tanh(scores / cap)
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -1e9)
    attended: Tensor = scores.softmax(-1).to(q.dtype) @ v
    return attended


def rotate_half(x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """Llama's rotary embedding. x is (batch, tokens, heads * d); cos and sin are (1, tokens, d / 2)."""
    if _as_one_node():
        # With no position ids, the ONNX operator takes cos and sin per batch row and token.
        rotated: Tensor = torch.onnx.ops.rotary_embedding(x, cos, sin, num_heads=heads)
        return rotated
    cos, sin = cos[:, None], sin[:, None]
    first, second = _split_heads(x, heads).chunk(2, dim=-1)
    y = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return y.transpose(1, 2).flatten(2)


def write_cache(cache: Tensor, update: Tensor, position: Tensor) -> Tensor:
    """Return the cache (1, kv_heads, capacity, d) with `update` (1, 1, kv_heads * d) at `position` (int64, (1,)).

    ONNX Runtime writes the one row in place once input and output are bound to one buffer.
    """
    row = _single_token_heads(update, cache.shape[1])
    if _PORTABLE.get():
        return torch.where((torch.arange(cache.shape[2]) == position)[:, None], row, cache)
    # TensorScatter would do the same, but needs onnxruntime 1.25, and so Python 3.11.
    return torch.scatter(cache, 2, position.view(1, 1, 1, 1).expand(row.shape), row)


def cached_attention(q: Tensor, keys: Tensor, values: Tensor, length: Tensor, heads: int) -> Tensor:
    """One query token, (1, 1, heads * d), over the first `length` (int64, (1,)) entries of the caches.

    Returns (1, 1, heads * d).
    """
    q = _single_token_heads(q, heads)
    written = (torch.arange(keys.shape[2], device=keys.device) < length)[None]
    if _as_one_node():
        y: Tensor = torch.onnx.ops.attention(q, keys, values, written)[0]
    elif torch.compiler.is_exporting():
        y = _decomposed_attention(q, keys, values, written[None, None])
    else:
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=written, enable_gqa=True)
    return y.reshape(1, 1, -1)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last axis, the statistics in fp32."""
    if _as_one_node():
        return torch.onnx.ops.symbolic(
            "RMSNormalization", (x, weight), attrs={"epsilon": eps}, dtype=x.dtype, shape=x.shape, version=23
        )
    if torch.compiler.is_exporting():
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


class StaysFp32:
    """A module whose parameters and buffers stay fp32 under half() and bfloat16(); they still move between devices.

    The norms read the residual stream, which stays fp32 too: some of V-JEPA 2's channels are thousands of times larger
    than the others, and in fp16 the sums lose so much that single tokens fall to cosine 0.56.
    """

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        super()._apply(lambda t: t.to(fn(t).device), recurse)  # type: ignore[misc]
        return self


class TablesStayFp32(nn.Module):
    """A module whose rotary tables stay fp32 under half() and bfloat16(); they still move between devices."""

    cos: Tensor
    sin: Tensor

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        tables = self.cos, self.sin
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.cos, self.sin = (table.to(fn(table).device) for table in tables)
        return self


class LayerNorm(StaysFp32, nn.LayerNorm):
    """LayerNorm in fp32, whatever the module around it is cast to."""


class RMSNorm(StaysFp32, nn.RMSNorm):
    """RMSNorm in fp32 that exports as one RMSNormalization node."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.eps is not None
        return rms_norm(x, self.weight, self.eps)


def unit(x: Tensor) -> Tensor:
    """Return x in fp32, scaled to length 1 along the last axis."""
    return F.normalize(x.float(), dim=-1)


def unit_mean(x: Tensor) -> Tensor:
    """Return the mean of the rows' unit vectors, fp32 (1, width), scaled to length 1."""
    return unit(unit(x).mean(0, keepdim=True))


def _decomposed_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention over (batch, heads, tokens, d) as two products and a softmax in fp32; keys may have fewer heads."""
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = (x[:, :, None].expand(-1, -1, repeats, -1, -1).flatten(1, 2) for x in (k, v))
    scores = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).float()
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -1e9)  # -inf would make a row of padding alone NaN
    attended: Tensor = scores.softmax(-1).to(q.dtype) @ v
    return attended


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def _single_token_heads(x: Tensor, heads: int) -> Tensor:
    """Like _split_heads for one token, (1, 1, heads * d) -> (1, heads, 1, d), without a transpose in the graph."""
    return x.view(1, heads, 1, -1)
