"""Decoders from transformers and from GGUF: the real SmolLM2-135M, token for token, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.export.tiny_weights import byte_tokenizer
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.decoder_checkpoints import CausalLlama, causal_llama, packaged_smollm2
from vlj_edge.export.models.decoder import Decoder
from vlj_edge.presets import preset


def decoder_of(llama: CausalLlama, start: int) -> Decoder:
    """Our decoder, in which every embedding leads to the token `start`: then its text is that of the language model."""
    decoder = Decoder(replace(preset("vl-jepa-1.6b"), decoder=llama.config, decoder_tokens=64)).eval()
    prefix = {"prefix_proj.weight": torch.zeros(llama.config.width, 1536)}
    prefix["prefix_proj.bias"] = llama.state["embed_tokens.weight"][start].float()
    decoder.load_state_dict({**llama.state, **prefix})
    return decoder


def greedy(model: Any, start: int) -> list[int]:
    found = model.generate(
        torch.tensor([[start]]), max_new_tokens=64, do_sample=False, repetition_penalty=1.0, pad_token_id=2
    )[0, 1:].tolist()
    return found[: found.index(model.config.eos_token_id)] if model.config.eos_token_id in found else found


@pytest.fixture(scope="module")
def real() -> Any:
    path = packaged_smollm2()
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


@pytest.mark.slow
def test_the_real_smollm2_decodes_64_tokens_as_transformers_does(real: Any, tmp_path: Path) -> None:
    from_gguf = causal_llama(packaged_smollm2())
    theirs = {key.removeprefix("model."): value for key, value in real.state_dict().items() if key != "lm_head.weight"}
    assert from_gguf.state.keys() == theirs.keys()
    assert all(torch.equal(from_gguf.state[key], theirs[key]) for key in theirs)
    plain = real.config.to_dict()
    del plain["quantization_config"]  # transformers does not write what it read from a GGUF
    saved = LlamaForCausalLM(LlamaConfig(**plain))
    saved.load_state_dict(real.state_dict())
    saved.save_pretrained(tmp_path, max_shard_size="100MB")
    from_gguf.tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = json.loads((tmp_path / "config.json").read_text())
    assert len(list(tmp_path.glob("*.safetensors"))) > 1, "sharded"
    from_directory = causal_llama(tmp_path)
    assert from_directory.config.rope_theta == from_gguf.config.rope_theta == 100000
    assert abs(settings["rms_norm_eps"] - from_gguf.config.norm_eps) < 1e-11
    lengths = []
    for word in ("The", " A", "Once"):
        start = from_gguf.tokenizer.encode(word).ids[0]
        expected = greedy(real, start)
        lengths.append(len(expected))
        for llama in (from_gguf, from_directory):
            assert decoder_of(llama, start).generate(torch.zeros(1, 1536), llama.end) == expected
    assert max(lengths) == 64, "at least one text is as long as that"


@pytest.mark.slow
def test_the_tokenizer_of_the_gguf_is_that_of_transformers() -> None:
    path = packaged_smollm2()
    theirs, ours = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name), causal_llama(path).tokenizer
    for text in (
        "A robot arm opens the drawer.",
        "In 2024, 13 cats  \n\t ran: naïve café",
        "<|im_start|>user\nHi<|im_end|>",
        "日本語 and 🤖!",
        "",
    ):
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False).input_ids
        assert ours.decode(ids, skip_special_tokens=False) == text


TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 5e4,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "eos_token_id": 2,
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TINY)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_tiny_directory_decodes_as_transformers_does(tiny: Path) -> None:
    theirs, ours = LlamaForCausalLM.from_pretrained(tiny).eval(), causal_llama(tiny)
    assert ours.config.rope_scaling is not None and ours.config.kv_heads == 2
    tokens = torch.randint(0, 300, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = decoder_of(ours, start=7)(torch.zeros(1, 1536), tokens)
        expected = theirs(torch.cat((torch.tensor([[7]]), tokens), dim=1)).logits
    assert (logits - expected).abs().max() < 1e-4


def configure(tiny: Path, **changes: Any) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "qwen2"}, "model_type 'qwen2'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn'"),
        ({"vocab_size": None}, "has no vocab_size"),
        ({"eos_token_id": None}, "eos_token_id"),
    ],
)
def test_a_config_that_computes_something_else_is_refused(tiny: Path, changes: dict[str, Any], words: str) -> None:
    configure(tiny, **changes)
    with pytest.raises(VljEdgeError, match=words) as error:
        causal_llama(tiny)
    assert "\n" not in str(error.value)


def test_a_head_of_its_own_is_refused(tiny: Path) -> None:
    state = load_file(tiny / "model.safetensors")
    state["lm_head.weight"] = torch.zeros(300, 32)
    save_file(state, tiny / "model.safetensors")
    with pytest.raises(VljEdgeError, match="lm_head"):
        causal_llama(tiny)


def gguf_file(path: Path, architecture: str = "llama") -> Path:
    writer = GGUFWriter(str(path), architecture)
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_of_another_architecture_or_half_of_one_is_refused(tmp_path: Path) -> None:
    other = gguf_file(tmp_path / "other.gguf", "gemma3")
    with pytest.raises(VljEdgeError, match="architecture 'gemma3'"):
        causal_llama(other)
    with pytest.raises(VljEdgeError, match=r"lacks '.*': it is no whole GGUF"):
        causal_llama(gguf_file(tmp_path / "empty.gguf"))
    cut = tmp_path / "cut.gguf"
    with packaged_smollm2().open("rb") as whole:
        cut.write_bytes(whole.read(5_000_000))
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(bytes(range(256)) * 8)
    for path in (cut, noise):
        with pytest.raises(VljEdgeError, match="is no whole GGUF file") as error:
            causal_llama(path)
        assert "\n" not in str(error.value)
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(VljEdgeError, match=r"holds more than one|is not there"):
            causal_llama(path)
