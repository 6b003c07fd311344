"""The V-JEPA 2 video encoder: tubelets, pre-norm blocks, 3-D RoPE inside attention (arXiv 2506.09985)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlj_edge.presets import Clip, Preprocess
from vlj_edge.presets import VisionEncoder as Config

from . import ops, rope, stem

_NORM_EPS = 1e-6


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, swap: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = (self._rotate(t, cos, sin, swap) for t in (q, k))
        y: Tensor = self.proj(ops.attention(q, k, v, self.heads, self.heads))
        return y

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor, swap: Tensor | None) -> Tensor:
        # The tables stay fp32 in an fp16 engine too: fp16 would round every angle.
        by_head = x.view(*x.shape[:-1], self.heads, -1).to(cos.dtype)
        if swap is None:
            first, second = by_head.chunk(2, dim=-1)
            swapped = torch.cat((second, first), dim=-1)
        else:
            swapped = by_head.index_select(-1, swap)
        return (by_head * cos + swapped * sin).to(x.dtype).flatten(2)

    def pair_by_halves(self) -> None:
        """See VisionEncoder.pair_by_halves."""
        order = rope.halves(self.qkv.out_features // 3 // self.heads)
        for parameter in self.qkv.parameters():
            by_head = parameter.data.view(3, self.heads, -1, *parameter.shape[1:])
            by_head[:2] = by_head[:2][:, :, order]


class Block(nn.Module):
    """Attention and MLP, each behind a norm; q and k are rotated by the position. Perception Encoder has the same."""

    def __init__(self, width: int, heads: int, mlp: int, norm_eps: float = _NORM_EPS) -> None:
        super().__init__()
        self.norm1 = ops.LayerNorm(width, eps=norm_eps)
        self.attention = _Attention(width, heads)
        self.norm2 = ops.LayerNorm(width, eps=norm_eps)
        self.fc1 = nn.Linear(width, mlp)
        self.fc2 = nn.Linear(mlp, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, swap: Tensor | None) -> Tensor:
        # x, the residual stream, is fp32 in every precision; what is added to it is computed in that of the weights.
        dtype = self.fc1.weight.dtype
        x = x + self.attention(self.norm1(x).to(dtype), cos, sin, swap).float()
        y: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x).to(dtype)))).float()
        return y


class VisionEncoder(ops.TablesStayFp32):
    """Clips to visual tokens.

    `forward` takes pixels (batch, frames, 3, crop, crop), normalised as the preset says, and returns visual tokens
    (batch, frames / tubelet * rows * columns, width), or those that `kept` names.
    """

    swap: Tensor | None

    def __init__(self, config: Config, clip: Clip, preprocess: Preprocess) -> None:
        super().__init__()
        self.stem = stem.ImageStem() if config.stem else None
        channels, side = (stem.CHANNELS, preprocess.crop // stem.STRIDE) if config.stem else (3, preprocess.crop)
        tubelet = (min(config.tubelet, clip.frames), config.patch, config.patch)  # one frame: an image (V-JEPA 2.1)
        self.patch_embed = nn.Conv3d(channels, config.width, tubelet, tubelet)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp) for _ in range(config.layers))
        self.norm = ops.LayerNorm(config.width, eps=_NORM_EPS)
        grid = side // config.patch
        squeezed = config.patch if config.squeezed_positions else None
        cos, sin = rope.vjepa_tables(
            clip.frames // tubelet[0], grid, grid, config.width // config.heads, squeezed_patch=squeezed
        )
        # (tokens, 1, head_dim), broadcast over all heads.
        self.register_buffer("cos", cos[:, None], persistent=False)
        self.register_buffer("sin", sin[:, None], persistent=False)
        self.register_buffer("swap", rope.adjacent_swap(config.width // config.heads), persistent=False)

    def forward(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        features = pixels.to(self.patch_embed.weight.dtype)
        if self.stem is not None:
            features = self.stem(features.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        return self.encode(features, kept)

    def encode(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """Encode the stem's output: feature maps (batch, frames, channels, rows, columns) -> visual tokens.

        `kept` (int64, (batch, n)) drops all tokens but these before the first block; each keeps its position.
        """
        dtype = self.patch_embed.weight.dtype
        x = self.patch_embed(features.to(dtype).transpose(1, 2)).flatten(2).transpose(1, 2).float()
        cos, sin = self.cos, self.sin
        if kept is not None:
            if len(kept) == 1:
                x = x.index_select(1, kept[0])
                cos, sin = cos.index_select(0, kept[0]), sin.index_select(0, kept[0])
            else:
                x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
                cos, sin = cos[kept], sin[kept]
        for block in self.blocks:
            x = block(x, cos, sin, self.swap)
        tokens: Tensor = self.norm(x).to(dtype)
        return tokens

    def pair_by_halves(self) -> None:
        """Reorder the query and key weights, in place, so that the two values of a rotated pair are half a head apart.

        Attention scores are sums over a head's values, so their order does not matter. Swapping halves copies two
        blocks, whereas swapping neighbours takes a Gather of single values: 16 of 256 ms a layer of ViT-L in ONNX
        Runtime 1.32 (int8, 2 cores of Zen 4). For export alone: the weights are no longer the checkpoint's.
        """
        order = rope.halves(self.cos.shape[-1])
        self.cos, self.sin, self.swap = self.cos[..., order], self.sin[..., order], None
        for block in self.blocks:
            block.attention.pair_by_halves()  # type: ignore[operator, union-attr]
