"""A causal Llama from a GGUF file (llama.cpp; names and numbers from gguf-py/gguf/constants.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from vlj_edge.errors import VljEdgeError, require
from vlj_edge.presets import Llama
from vlj_edge.schema import Count, Positive

from .causal_llama import (
    ADVICE,
    DEFAULT_ROPE_THETA,
    CausalLlama,
    check_end_token,
    check_shapes,
    check_tied_head,
    parse_metadata,
)

_NORMAL, _CONTROL, _UNUSED = 1, 3, 5  # TokenType
_TENSOR_NAMES = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
_LAYER_TENSOR_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class _Attention:
    head_count: Count
    layer_norm_rms_epsilon: Positive
    head_count_kv: Count | None = None
    key_length: Count | None = None
    value_length: Count | None = None


@dataclass(frozen=True)
class _Rope:
    dimension_count: Count | None = None
    freq_base: Positive = DEFAULT_ROPE_THETA


@dataclass(frozen=True)
class _Hyperparameters:
    """The keys "llama.*". Any other, such as llama.expert_count, changes what the weights compute."""

    block_count: Count
    embedding_length: Count
    feed_forward_length: Count
    attention: _Attention
    rope: _Rope = _Rope()
    vocab_size: Count | None = None
    context_length: Any = None


@dataclass(frozen=True)
class _TokenizerFields:
    """The keys "tokenizer.ggml.*"."""

    model: Literal["gpt2"]
    pre: Literal["smollm"]
    tokens: tuple[str, ...]
    token_type: tuple[int, ...]
    merges: tuple[str, ...]
    eos_token_id: Any = None
    add_bos_token: Literal[False] = False
    add_eos_token: Literal[False] = False
    add_space_prefix: Literal[False] = False


def read_llama_gguf(path: Path) -> CausalLlama:
    """Read a GGUF file; its tensors are dequantised to float32.

    Raises:
        VljEdgeError: see decoders.read_causal_llama(); the package gguf is not installed.
    """
    gguf = require("gguf", "export")
    reader, metadata = _open(path, gguf)
    fields = parse_metadata(_TokenizerFields, metadata["tokenizer"], path)
    config = _config(path, metadata["llama"], len(fields.tokens))
    tensors = {_tensor_name(tensor.name): tensor for tensor in reader.tensors}
    head = tensors.pop("output.weight", None)
    # numpy's order of axes is the reverse of the file's.
    check_shapes(path, config, {name: tuple(reversed(tensor.shape.tolist())) for name, tensor in tensors.items()})
    tokenizer = _tokenizer(path, fields)
    end = check_end_token(path, fields.eos_token_id, tokenizer, config)
    state = {name: _dequantise(path, gguf, tensor) for name, tensor in tensors.items()}
    check_tied_head(path, None if head is None else _dequantise(path, gguf, head), state)
    for name in state:
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            state[name] = _rotate_half_order(state[name], config.head_dim)
    return CausalLlama(config, state, tokenizer, end)


def _open(path: Path, gguf: Any) -> tuple[Any, dict[str, Any]]:
    """Return the reader, and the metadata of the model ("llama", nested) and of its tokenizer ("tokenizer", flat)."""
    if not path.is_file():
        raise VljEdgeError(f"{path} does not exist: name a decoder's transformers directory or its GGUF file")
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        # Zero, false and "none" switch a feature off, as if the key were absent.
        switched_on = {key: value for key, value in fields.items() if value not in (0, False, "none")}
        llama = _nested(switched_on, "llama.")
    except Exception as error:  # gguf lets numpy's and its own errors through
        summary = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VljEdgeError(f"{path} is not a whole GGUF file ({summary}): download it again") from error
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise VljEdgeError(
            f"{path} holds a model of architecture '{architecture}' where a decoder has to be a 'llama': {ADVICE}"
        )
    prefix = "tokenizer.ggml."
    tokenizer = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    return reader, {"llama": llama, "tokenizer": tokenizer}


def _nested(fields: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return {"llama.rope.freq_base": 1.0} as {"rope": {"freq_base": 1.0}}."""
    nested: dict[str, Any] = {}
    for key in (key for key in fields if key.startswith(prefix)):
        *tables, name = key.removeprefix(prefix).split(".")
        table = nested
        for step in tables:
            table = table.setdefault(step, {})
        table[name] = fields[key]
    return nested


def _config(path: Path, raw: dict[str, Any], tokens: int) -> Llama:
    found = parse_metadata(dict[str, _Hyperparameters], {"llama": raw}, path, ignore_unknown=False)["llama"]
    attention, rope = found.attention, found.rope
    head_dim = attention.key_length or found.embedding_length // attention.head_count
    for key, value in (
        ("attention.value_length", attention.value_length),
        ("rope.dimension_count", rope.dimension_count),
    ):
        if value not in (None, head_dim):
            raise VljEdgeError(f"{path} has llama.{key} {value} where this decoder needs {head_dim}: {ADVICE}")
    return Llama(
        vocabulary=found.vocab_size or tokens,
        width=found.embedding_length,
        layers=found.block_count,
        heads=attention.head_count,
        kv_heads=attention.head_count_kv or attention.head_count,
        head_dim=head_dim,
        mlp=found.feed_forward_length,
        # float32 in the file; the configuration it was made from has the round number
        norm_eps=float(f"{attention.layer_norm_rms_epsilon:.6g}"),
        rope_theta=rope.freq_base,
    )


def _tensor_name(name: str) -> str:
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer is None or layer.group(2) not in _LAYER_TENSOR_NAMES:
        return _TENSOR_NAMES.get(name, name)  # check_shapes() lists unknown names
    return f"layers.{layer.group(1)}.{_LAYER_TENSOR_NAMES[layer.group(2)]}.weight"


def _dequantise(path: Path, gguf: Any, tensor: Any) -> Tensor:
    """Return float32, rows first."""
    try:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise VljEdgeError(
            f"{path} stores {tensor.name} as {tensor.tensor_type.name}, which gguf cannot read back: download it as F16"
        ) from error
    return torch.from_numpy(np.array(values, np.float32))  # a copy: F32 is a view of the file


def _rotate_half_order(rows: Tensor, head_dim: int) -> Tensor:
    """Undo llama.cpp's order of rows: it rotates adjacent dims, so its converter put dims i and i + d/2 of a head side
    by side (convert_hf_to_gguf.py, LlamaModel.permute)."""
    return rows.reshape(-1, head_dim // 2, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _tokenizer(path: Path, fields: _TokenizerFields) -> Tokenizer:
    tokens, types = fields.tokens, fields.token_type
    try:
        unknown = sorted(set(types) - {_NORMAL, _CONTROL, _UNUSED})
        ids = {token: i for i, token in enumerate(tokens)}
        if unknown or len(ids) < len(tokens) or len(types) != len(tokens):
            raise ValueError(f"{len(tokens)} tokens, {len(ids)} different, {len(types)} types, unknown types {unknown}")
        merges: Any = [tuple(merge.split(" ")) for merge in fields.merges]
        tokenizer = Tokenizer(models.BPE(ids, merges))
    except Exception as error:  # tokenizers raises Exception itself
        raise VljEdgeError(
            f"{path} holds no usable tokenizer ({error}): download it again, or name a transformers directory"
        ) from error
    # As llama.cpp splits for "smollm" (llama-vocab.cpp). transformers ignores `pre` and does not isolate digits, so it
    # splits white space before a digit differently.
    split: Any = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer
