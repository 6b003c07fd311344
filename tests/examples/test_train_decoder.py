"""examples/train_decoder end to end with a tiny language model: it learns, and what it writes can be exported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

import vlj_edge
from tests.export.models.test_models import llama_config
from tests.export.tiny_weights import TEXTS, TINY, byte_tokenizer
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.decoders import read_causal_llama
from vlj_edge.export.weights.locations import WeightSources, shipped_weights
from vlj_edge.presets import preset

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"
TRAIN = Path(__file__).parents[2] / "examples" / "train_decoder" / "train.py"


def train(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TRAIN, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny language model of random weights, as a transformers directory."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config(replace(TINY.decoder, width=64, mlp=128)))
    model.config.tie_word_embeddings, model.config.eos_token_id = True, 2
    model.tie_weights()
    model.save_pretrained(tmp_path / "base")
    byte_tokenizer().save(str(tmp_path / "base" / "tokenizer.json"))
    return tmp_path / "base"


@pytest.mark.slow
def test_a_decoder_trained_on_text_alone_says_the_texts(base: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n")
    done = train(
        tmp_path / "texts.txt", "--base", base, "--out", tmp_path / "decoder", "--steps", "300",
        "--batch", "16", "--rank", "32", "--rate", "0.02", "--noise", "0.2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = read_causal_llama(base), read_causal_llama(tmp_path / "decoder")
    same = [key for key, value in before.state.items() if torch.allclose(value, after.state[key].float(), atol=1e-3)]
    changed = {key.split(".")[-2] for key in before.state.keys() - set(same)}
    assert changed == {"q_proj", "v_proj", "o_proj"}, "all else is the language model's own"
    sources = WeightSources(shipped_weights(), decoder=tmp_path / "decoder")
    exported = export_bundle(ExportRequest(sources, preset("nano"), tmp_path / "bundle"))
    model = vlj_edge.load(exported.bundle)
    said = [model.chain.decode(model.embed_text(text))[0] for text in TEXTS]
    assert sum(text == own for text, own in zip(said, TEXTS, strict=True)) >= 3, said


@pytest.mark.slow
def test_videos_without_texts_show_the_gap(base: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "videos").mkdir()
    options = ("--base", base, "--out", tmp_path / "decoder", "--steps", "3", "--batch", "8")
    empty = train(tmp_path / "texts.txt", "--clips", tmp_path / "videos", *options)
    assert empty.returncode == 1 and "no video in" in empty.stderr and "Traceback" not in empty.stderr
    (tmp_path / "videos" / "demo.mp4").symlink_to(DEMO)
    done = train(tmp_path / "texts.txt", "--clips", tmp_path / "videos", *options)
    assert done.returncode == 0 and (tmp_path / "decoder" / "prefix.safetensors").is_file(), done.stderr


def test_what_is_added_to_a_text_comes_from_clips_near_it() -> None:
    # by its file: train_nano has a train.py as well
    described = importlib.util.spec_from_file_location("train_decoder", TRAIN)
    assert described is not None and described.loader is not None
    program = importlib.util.module_from_spec(described)
    described.loader.exec_module(program)
    generator = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(6, 40, generator=generator), dim=-1)
    shift = torch.nn.functional.normalize(torch.randn(1, 40, generator=generator), dim=-1)
    nearest = torch.tensor([0, 0, 0, 0, 1, 2, 3, 4, 5])
    seen = torch.nn.functional.normalize(texts[nearest] + shift, dim=-1)
    gap, found = program.gaps(seen, texts)
    assert found.tolist() == nearest.tolist()
    torch.testing.assert_close(torch.nn.functional.normalize(gap + texts[found], dim=-1), seen)
    chosen = torch.arange(6).repeat(200)
    with_gap = program.bridged(chosen, texts, (gap, found), 1.0, generator)
    without = program.bridged(chosen, texts, None, 1.0, generator)
    torch.testing.assert_close(with_gap.norm(dim=-1), torch.ones(len(chosen)))
    assert (with_gap @ shift.T).mean() > 0.3 > abs((without @ shift.T).mean())
    assert ((with_gap @ texts.T).argmax(-1) == chosen).float().mean() > 0.9, "a text stays the nearest to its own"


def test_texts_that_are_not_there_and_a_base_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("nothing moves\na cat\n")
    done = train(tmp_path / "texts.txt", "--base", tmp_path, "--out", tmp_path / "decoder")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: " in done.stderr and ".gguf" in done.stderr
    done = train(tmp_path / "none.txt", "--out", tmp_path / "decoder")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert not (tmp_path / "decoder").exists()
