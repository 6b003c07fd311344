"""A causal Llama from a transformers directory: config.json, safetensors and tokenizer.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Llama, RopeScaling
from vlj_edge.schema import Count, Positive, Range

from .causal_llama import (
    ADVICE,
    DEFAULT_ROPE_THETA,
    CausalLlama,
    check_end_token,
    check_shapes,
    check_tied_head,
    parse_metadata,
)
from .files import read_tokenizer, read_transformers
from .locations import CONFIG_FILE, TOKENIZER_FILE
from .shapes import shapes

_WholeHead = Annotated[float, Range(1, 1)]


@dataclass(frozen=True)
class _Rope:
    rope_type: Literal["default", "llama3"]
    rope_theta: Positive | None = None
    partial_rotary_factor: _WholeHead = 1.0


@dataclass(frozen=True)
class _Llama3Rope:
    factor: Positive
    low_freq_factor: Positive
    high_freq_factor: Positive
    original_max_position_embeddings: Count


@dataclass(frozen=True)
class _Config:
    """config.json. With other values than the Literals, weights of the same shapes compute something else."""

    model_type: Literal["llama"]
    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    rms_norm_eps: Positive
    rope_parameters: _Rope
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    rope_theta: Positive | None = None
    partial_rotary_factor: _WholeHead = 1.0
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    rope_interleaved: Literal[False] = False
    quantization_config: Literal[None] = None
    tie_word_embeddings: bool | None = False
    eos_token_id: Any = None


def read_llama_directory(directory: Path) -> CausalLlama:
    """Read a transformers directory.

    Raises:
        VljEdgeError: see decoders.read_causal_llama().
    """
    raw, tensors = read_transformers(directory)
    path = directory / CONFIG_FILE
    config, llama = _parse_config(raw, path)
    state = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    head = state.pop("lm_head.weight", None)
    check_shapes(path, llama, shapes(state))
    if head is None and not config.tie_word_embeddings:
        raise VljEdgeError(f"{path} unties the output layer, and {directory} holds no lm_head: {ADVICE}")
    check_tied_head(directory, head, state)
    end = config.eos_token_id
    if isinstance(end, list) and len(end) == 1:
        (end,) = end
    tokenizer = read_tokenizer(directory / TOKENIZER_FILE)
    return CausalLlama(llama, state, tokenizer, check_end_token(path, end, tokenizer, llama))


def _parse_config(raw: dict[str, Any], path: Path) -> tuple[_Config, Llama]:
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}  # the name before transformers 5
    if isinstance(rope, dict):
        rope = {"rope_type": rope.get("type", "default"), **rope}  # "type" before transformers 4.43
    config = parse_metadata(_Config, {**raw, "rope_parameters": rope}, path)
    return config, Llama(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads or config.num_attention_heads,
        head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
        mlp=config.intermediate_size,
        norm_eps=config.rms_norm_eps,
        rope_theta=config.rope_parameters.rope_theta or config.rope_theta or DEFAULT_ROPE_THETA,
        rope_scaling=_rope_scaling(rope, path),
    )


def _rope_scaling(rope: dict[str, Any], path: Path) -> RopeScaling | None:
    if rope["rope_type"] == "default":
        return None
    scaling = parse_metadata(dict[str, _Llama3Rope], {"rope_parameters": rope}, path)["rope_parameters"]
    return RopeScaling(
        factor=scaling.factor,
        low=scaling.low_freq_factor,
        high=scaling.high_freq_factor,
        original_context=scaling.original_max_position_embeddings,
    )
