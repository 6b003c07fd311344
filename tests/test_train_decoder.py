"""examples/train_decoder end to end with a tiny language model: it learns, and what it writes can be exported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

import vlj_edge
from tests.export.test_models import llama_config
from tests.export.tiny_weights import TEXTS, TINY, byte_tokenizer
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.decoder_checkpoints import causal_llama
from vlj_edge.export.weights import Sources, shipped_weights
from vlj_edge.presets import preset

TRAIN = Path(__file__).parent.parent / "examples" / "train_decoder" / "train.py"


def train(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TRAIN, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_decoder_trained_on_text_alone_says_the_texts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = LlamaForCausalLM(llama_config(replace(TINY.decoder, width=64, mlp=128)))
    base.config.tie_word_embeddings, base.config.eos_token_id = True, 2
    base.tie_weights()
    base.save_pretrained(tmp_path / "base")
    byte_tokenizer().save(str(tmp_path / "base" / "tokenizer.json"))
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n")
    done = train(
        tmp_path / "texts.txt", "--base", tmp_path / "base", "--out", tmp_path / "decoder", "--steps", "300",
        "--batch", "16", "--rank", "32", "--rate", "0.02", "--noise", "0.2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = causal_llama(tmp_path / "base"), causal_llama(tmp_path / "decoder")
    same = [key for key, value in before.state.items() if torch.allclose(value, after.state[key].float(), atol=1e-3)]
    changed = {key.split(".")[-2] for key in before.state.keys() - set(same)}
    assert changed == {"q_proj", "v_proj", "o_proj"}, "all else is the language model's own"
    sources = Sources(shipped_weights(), decoder=tmp_path / "decoder")
    exported = export_bundle(sources, preset("nano"), tmp_path / "bundle")
    model = vlj_edge.load(exported.bundle)
    said = [model._say(model.embed_text(text))[0] for text in TEXTS]
    assert sum(text == own for text, own in zip(said, TEXTS, strict=True)) >= 3, said


def test_texts_that_are_not_there_and_a_base_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("nothing moves\n")
    done = train(tmp_path / "texts.txt", "--base", tmp_path, "--out", tmp_path / "decoder")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: " in done.stderr and ".gguf" in done.stderr
    done = train(tmp_path / "none.txt", "--out", tmp_path / "decoder")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert not (tmp_path / "decoder").exists()
