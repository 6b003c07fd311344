"""A tiny Llama of transformers, and its text and logits compared with our decoder's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from tests.export.models.test_models import llama_config
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.models.decoder import Decoder
from vlj_edge.export.weights.causal_llama import CausalLlama
from vlj_edge.export.weights.decoders import read_causal_llama
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


def refused(path: Path, words: str) -> None:
    with pytest.raises(VljEdgeError, match=words) as error:
        read_causal_llama(path)
    assert "\n" not in str(error.value) and str(path.name) in str(error.value)
