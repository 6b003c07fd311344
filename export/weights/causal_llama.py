"""A pretrained causal Llama, and the checks that are the same for every file format it may come in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Llama
from vlj_edge.schema import SchemaError, parse

from .files import State
from .shapes import Shapes, describe_differences

ADVICE = "choose a Llama with tied embeddings, such as SmolLM2-135M"
DEFAULT_ROPE_THETA = 10000.0  # transformers' LlamaConfig and llama.cpp

T = TypeVar("T")


@dataclass(frozen=True)
class CausalLlama:
    """Weights under the names of models.decoder.Decoder, without its `prefix_proj`, which no such checkpoint has.

    Attributes:
        config: dimensions as the checkpoint states them.
        state: `embed_tokens.weight` (vocabulary, width), `norm.weight` (width,) and `layers.N.*`, each checked against
            `config`; float32 from a GGUF, from a directory in the precision of its files.
        tokenizer: for the ids of the token table, without padding or truncation.
        end: the id that ends a text.
    """

    config: Llama
    state: State
    tokenizer: Tokenizer
    end: int


def parse_metadata(kind: type[T], raw: object, path: Path, *, ignore_unknown: bool = True) -> T:
    """Return a checkpoint's metadata as the dataclass `kind`; `path` is the file it was read from.

    Raises:
        VljEdgeError: a field is missing or has a value with which the weights would compute something else.
    """
    try:
        return parse(kind, raw, ignore_unknown=ignore_unknown)
    except SchemaError as error:
        raise VljEdgeError(f"{path}: {error}: {ADVICE}") from error


def check_shapes(path: Path, config: Llama, found: Shapes) -> None:
    """Check that the tensors are those that the configuration describes.

    Raises:
        VljEdgeError: tensors are missing, unexpected or of another shape (each is listed), or heads do not divide.
    """
    if config.heads % config.kv_heads or config.head_dim % 2:
        raise VljEdgeError(
            f"{path} has {config.heads} heads of {config.head_dim} dims and {config.kv_heads} key heads, which do not"
            f" divide: {ADVICE}"
        )
    if config.layers > len(found):  # before building as many names as a broken file may ask for
        raise VljEdgeError(f"{path} has {config.layers} layers, but only {len(found)} tensors: download it again")
    if differences := describe_differences(_expected_shapes(config), found):
        raise VljEdgeError(
            f"{path} does not describe the tensors found ({differences}): download it again, or {ADVICE}"
        )


def check_tied_head(path: Path, head: Tensor | None, state: State) -> None:
    """Check that an output layer, where the file has one, equals the token table, which Decoder uses in its place.

    Raises:
        VljEdgeError: the output layer has weights of its own.
    """
    if head is not None and not torch.equal(head, state["embed_tokens.weight"]):
        raise VljEdgeError(
            f"{path} has an output layer of its own (lm_head), but this decoder shares the token table: {ADVICE}"
        )


def check_end_token(path: Path, token: Any, tokenizer: Tokenizer, config: Llama) -> int:
    """Return the id that ends a text, after checking that every id of the tokenizer has a row in the token table.

    Raises:
        VljEdgeError: the tokenizer has more ids than the model, or `token` is not one of them.
    """
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= config.vocabulary:
        raise VljEdgeError(
            f"{path} has {config.vocabulary} tokens where its tokenizer gives ids up to {largest}: they are not of the"
            " same model, download both again"
        )
    if type(token) is not int or not 0 <= token < config.vocabulary:
        raise VljEdgeError(f"{path} has no single token that ends a text (eos_token_id {token!r}): set it there")
    return token


def _expected_shapes(config: Llama) -> dict[str, tuple[int, ...]]:
    width, mlp = config.width, config.mlp
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (mlp, width),
        "mlp.up_proj": (mlp, width),
        "mlp.down_proj": (width, mlp),
    }
    layers = {f"layers.{n}.{name}.weight": shape for n in range(config.layers) for name, shape in layer.items()}
    return {"embed_tokens.weight": (config.vocabulary, width), "norm.weight": (width,)} | layers
