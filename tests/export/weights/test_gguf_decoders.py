"""Decoders from GGUF files: the same texts as transformers', and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import dequantize, quantize
from transformers import LlamaForCausalLM

from tests.export.tiny_weights import byte_tokenizer
from tests.export.weights.tiny_llama import PLAIN, refused, same_text_and_logits, tiny_model
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.weights.decoders import read_causal_llama

SETTINGS: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "llama.rope.freq_base": 5e4,
    "llama.rope.dimension_count": 8,
    "llama.vocab_size": 300,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.eos_token_id": 2,
}


def as_llama_cpp_has_it(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """Names and order of llama.cpp: dims i and i + d/2 of each head of q and k come to lie side by side."""
    names, tensors = get_tensor_name_map(MODEL_ARCH.LLAMA, 2), {}
    for name, value in model.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = range(len(value) // 8)
            value = value[[head * 8 + i + half * 4 for head in heads for i in range(4) for half in (0, 1)]]
        tensors[names.get_name(name, try_suffixes=(".weight",))] = value.detach()
    return tensors


def write_gguf(
    path: Path,
    settings: dict[str, Any] | None = None,
    tensors: dict[str, torch.Tensor] | None = None,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    architecture: str = "llama",
) -> Path:
    """A tiny GGUF. Settings of None are left out."""
    tokenizer = json.loads(byte_tokenizer().to_str())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].__getitem__)
    tokens += [f"[PAD{i}]" for i in range(len(tokens), 300)]
    found = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(TokenType.CONTROL)] * 3 + [int(TokenType.NORMAL)] * (len(tokens) - 3),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in tokenizer["merges"]],
    }
    writer = GGUFWriter(str(path), architecture)
    adders = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, bool: writer.add_bool}
    for key, value in (SETTINGS | found | (settings or {})).items():
        if value is not None:
            adders.get(type(value), writer.add_array)(key, value)
    for key, tensor in (as_llama_cpp_has_it(tiny_model(PLAIN)) if tensors is None else tensors).items():
        raw_kind = kind if tensor.dim() == 2 else GGMLQuantizationType.F32
        writer.add_tensor(key, quantize(tensor.numpy(), raw_kind), raw_dtype=raw_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_a_tiny_gguf_decodes_as_transformers_does(tmp_path: Path, kind: str) -> None:
    stored, theirs = GGMLQuantizationType[kind], tiny_model(PLAIN)
    path = write_gguf(tmp_path / "tiny.gguf", kind=stored)
    for parameter in theirs.parameters():
        if parameter.dim() == 2:
            parameter.data = torch.from_numpy(dequantize(quantize(parameter.detach().numpy(), stored), stored).copy())
    for named in (path, tmp_path):
        ours = read_causal_llama(named)
        assert {value.dtype for value in ours.state.values()} == {torch.float32}
        assert all(torch.equal(value, theirs.model.get_parameter(key)) for key, value in ours.state.items())
    assert ours.config.norm_eps == 1e-6 and ours.config.rope_theta == 5e4 and ours.config.rope_scaling is None
    same_text_and_logits(ours, theirs)


def test_the_tokenizer_of_a_tiny_gguf_is_the_one_it_was_made_of(tmp_path: Path) -> None:
    ours, text = (
        read_causal_llama(write_gguf(tmp_path / "tiny.gguf")).tokenizer,
        "<eos>Describe the robot's drawer: été",
    )
    ids = ours.encode(text).ids
    assert ids == byte_tokenizer().encode(text).ids and ids[0] == 2
    assert ours.decode(ids, skip_special_tokens=False) == text


def test_an_output_that_is_the_token_table_is_dropped(tmp_path: Path) -> None:
    tensors = as_llama_cpp_has_it(tiny_model(PLAIN))
    tied = write_gguf(tmp_path / "tied.gguf", tensors=tensors | {"output.weight": tensors["token_embd.weight"]})
    assert read_causal_llama(tied).state.keys() == read_causal_llama(write_gguf(tmp_path / "plain.gguf")).state.keys()
    refused(write_gguf(tmp_path / "own.gguf", tensors=tensors | {"output.weight": torch.zeros(300, 32)}), "lm_head")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"llama.rope.scaling.type": "linear"}, r"llama\.rope\.scaling"),
        ({"llama.rope.scaling.factor": 2.0}, r"llama\.rope\.scaling"),
        ({"llama.expert_count": 8}, r"llama\.expert_count"),
        ({"llama.rope.dimension_count": 4}, "dimension_count 4"),
        ({"llama.attention.value_length": 16}, "value_length 16"),
        ({"llama.attention.head_count": [4, 4]}, r"head_count.*\[4, 4\]"),
        ({"llama.embedding_length": None}, "embedding_length"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "epsilon"),
        ({"llama.block_count": 3}, r"missing: layers\.2\."),
        ({"llama.vocab_size": 299}, r"embed_tokens\.weight \(300, 32\) instead of \(299, 32\)"),
        ({"tokenizer.ggml.model": "llama"}, "model.*llama"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "pre.*llama-bpe"),
        ({"tokenizer.ggml.pre": None}, "pre"),
        ({"tokenizer.ggml.add_bos_token": True}, "add_bos_token"),
        ({"tokenizer.ggml.merges": None}, "merges"),
        ({"tokenizer.ggml.merges": ["one"]}, "tokenizer"),
        ({"tokenizer.ggml.merges": ["no such"]}, "tokenizer"),
        ({"tokenizer.ggml.token_type": [1, 3]}, "2 types"),
        ({"tokenizer.ggml.token_type": [1] * 299 + [4]}, r"\[4\]"),
        ({"tokenizer.ggml.eos_token_id": None}, "eos_token_id"),
        ({"tokenizer.ggml.eos_token_id": 300}, "eos_token_id.*300"),
    ],
)
def test_a_gguf_that_computes_something_else_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    refused(write_gguf(tmp_path / "tiny.gguf", settings), words)


def test_ggufs_tensors_are_checked(tmp_path: Path) -> None:
    tensors = as_llama_cpp_has_it(tiny_model(PLAIN))
    half = {key: value for key, value in tensors.items() if not key.startswith("blk.1.ffn_")}
    for wrong, words in (
        (half, r"missing: layers\.1\.mlp"),
        (tensors | {"rope_freqs.weight": torch.ones(4)}, r"unexpected: rope_freqs\.weight"),
        (tensors | {"blk.0.attn_q.bias": torch.ones(32)}, r"unexpected: blk\.0\.attn_q\.bias"),
        (tensors | {"blk.0.attn_k.weight": torch.ones(32, 32)}, r"k_proj\.weight \(32, 32\) instead of \(16, 32\)"),
    ):
        refused(write_gguf(tmp_path / "tiny.gguf", tensors=wrong), words)


@pytest.mark.parametrize("kept", [0, 3, 10, 500, 5_000, 20_000, -1])
def test_a_gguf_that_was_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_gguf(tmp_path / "cut.gguf")
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:kept])  # the writer pads the end
    refused(path, "GGUF")


def test_what_is_no_gguf_of_a_llama_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, r"config\.json.*\.gguf")
    refused(tmp_path / "none.gguf", r"none\.gguf")
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(bytes(range(256)) * 8)
    refused(noise, "GGUF")
    refused(write_gguf(tmp_path / "other.gguf", architecture="gemma3"), "gemma3")
    refused(tmp_path, r"\.gguf")


def test_without_gguf_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(VljEdgeError, match=r"pip install 'vlj-edge\[export\]'"):
        read_causal_llama(tmp_path / "any.gguf")
