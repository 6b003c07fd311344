"""PE-Core's towers from the tensors of open_clip's layout: the vision tower is a module of this project, the text tower
transformers' CLIP."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import ModelShape

from ..models import ops, rope
from ..models.vision_encoder import Block
from ..weights.files import State, read_safetensors
from ..weights.locations import OPEN_CLIP_MODEL
from ..weights.shapes import describe_differences, shapes
from .dual_encoder import TextTower
from .loading import transformers_class
from .pe_core import TextTrunk, Trunk

_NORM_EPS = 1e-5
_POOL_HEADS, _POOL_MLP = 8, 4  # of every size


class AttentionPool(nn.Module):
    """One learned query over all tokens, then an MLP. Names of parameters are timm's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm = ops.LayerNorm(width, eps=_NORM_EPS)
        self.fc1, self.fc2 = nn.Linear(width, _POOL_MLP * width), nn.Linear(_POOL_MLP * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(images, tokens, width), in the type of the weights -> (images, width)."""
        keys, values = self.kv(x).chunk(2, dim=-1)
        query = self.q(self.latent).expand(x.shape[0], -1, -1)
        pooled = self.proj(ops.attention(query, keys, values, _POOL_HEADS, _POOL_HEADS))[:, 0].float()
        hidden = F.gelu(self.fc1(self.norm(pooled).to(x.dtype)))
        y: Tensor = (pooled + self.fc2(hidden).float()).to(x.dtype)
        return y


class VisionTower(ops.TablesStayFp32):
    """The encoder of single images, applied to the frames of a clip at once. Names of parameters are timm's, almost."""

    def __init__(self, trunk: Trunk, side: int, embedding: int) -> None:
        super().__init__()
        width, grid = trunk.width, side // trunk.patch
        self.patch_embed = nn.Conv2d(3, width, trunk.patch, trunk.patch, bias=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if trunk.class_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, grid**2 + trunk.class_token, width))
        self.norm_pre = ops.LayerNorm(width, eps=_NORM_EPS)
        blocks = [Block(width, trunk.heads, trunk.mlp, _NORM_EPS) for _ in range(trunk.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = ops.LayerNorm(width, eps=_NORM_EPS)
        self.attn_pool = AttentionPool(width)
        self.head = nn.Linear(width, embedding)
        order = rope.halves(width // trunk.heads)
        cos, sin = rope.perception_tables(grid, width // trunk.heads, trunk.class_token)
        # (tokens, 1, head_dim), in the order of pair_by_halves()
        self.register_buffer("cos", cos[:, None, order], persistent=False)
        self.register_buffer("sin", sin[:, None, order], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, frames, 3, side, side) -> (1, embedding), fp32, the unit mean of the frames' unit embeddings."""
        dtype = self.patch_embed.weight.dtype
        x = self.patch_embed(pixels[0].to(dtype)).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.norm_pre((x + self.pos_embed).float())
        for block in self.blocks:
            x = block(x, self.cos, self.sin, None)
        return ops.unit_mean(self.head(self.attn_pool(self.norm(x).to(dtype))))

    def pair_by_halves(self) -> None:
        """See models.vision_encoder.VisionEncoder.pair_by_halves: to be called once, with the checkpoint's weights."""
        for block in self.blocks:
            block.attention.pair_by_halves()  # type: ignore[operator, union-attr]


def load_vision_tower(directory: Path, trunk: Trunk, shape: ModelShape) -> nn.Module:
    """Load the vision tower.

    Raises:
        VljEdgeError: tensors are missing, unexpected or of another shape.
    """
    tower, prefix = VisionTower(trunk, shape.preprocess.crop, shape.embedding), "visual.trunk."
    state: State = {}
    for key, value in read_safetensors(directory / OPEN_CLIP_MODEL).items():
        if key.startswith(prefix) and ".rope." not in key:
            key = key.removeprefix(prefix).replace(".attn.", ".attention.").replace(".mlp.fc", ".fc")
            state[key.replace("patch_embed.proj.", "patch_embed.")] = value
    _load(directory, tower, state)
    tower.pair_by_halves()
    return tower.eval().requires_grad_(False)


def load_text_tower(directory: Path, text: TextTrunk, shape: ModelShape) -> nn.Module:
    """Load the text tower. Arguments and errors as of load_vision_tower()."""
    config = transformers_class("CLIPTextConfig", "5.0")(
        hidden_size=text.width,
        intermediate_size=4 * text.width,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        vocab_size=text.vocabulary,
        max_position_embeddings=text.tokens,
        projection_dim=shape.embedding,
        hidden_act="gelu",
        bos_token_id=text.vocabulary - 2,
        eos_token_id=2,  # transformers' mark for: the largest id ends the text
        attn_implementation="sdpa",
    )
    tower = transformers_class("CLIPTextModelWithProjection", "5.0")(config)
    state = read_safetensors(directory / OPEN_CLIP_MODEL)
    _load(directory, tower, _as_transformers({k: v for k, v in state.items() if k.startswith("text.")}))
    return TextTower(tower.eval().requires_grad_(False), "text_embeds").eval()


_TEXT_NAMES = {
    "text.token_embedding.": "text_model.embeddings.token_embedding.",
    "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text.ln_final.": "text_model.final_layer_norm.",
    "text.transformer.resblocks.": "text_model.encoder.layers.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
}


def _as_transformers(state: State) -> State:
    """Rename open_clip's tensors of a text tower to those of CLIPTextModelWithProjection."""
    renamed: State = {}
    for key, value in state.items():
        for old, new in _TEXT_NAMES.items():
            key = key.replace(old, new)
        layer, joined, kind = key.partition(".attn.in_proj_")
        if key == "text.text_projection":
            renamed["text_projection.weight"] = value.T.contiguous()
        elif joined:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{layer}.self_attn.{name}_proj.{kind}"] = part
        else:
            renamed[key] = value
    return renamed


def _load(directory: Path, module: nn.Module, state: State) -> None:
    if differences := describe_differences(shapes(module.state_dict()), shapes(state)):
        raise VljEdgeError(
            f"{directory} does not hold what its open_clip_config.json says ({differences}): download it again"
        )
    module.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
