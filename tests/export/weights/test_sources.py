"""Every kind of weight source: exported to a bundle that runs, and its errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Gemma3TextConfig, Gemma3TextModel, LlamaForCausalLM, LlamaModel

import vlj_edge
from tests.export.models.test_models import llama_config, scramble, transformers_vjepa2
from tests.export.tiny_weights import TEXTS, TINY, byte_tokenizer
from vlj_edge import memory
from vlj_edge.bundle import read_manifest, verify_bundle
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.models.predictor import Predictor
from vlj_edge.export.parity_cases import probe_clip
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights import text_encoders
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.export.weights.sources import open_weights
from vlj_edge.presets import TextEncoder, preset, variant

GEMMA: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 96,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "use_bidirectional_attention": True,
}
# The preset of the paper, with every dimension of TINY.
PAPER = replace(
    TINY, name="paper", text=TextEncoder("embeddinggemma-300m", width=96, tokens=64), query_pad=1, decoder_end=2
)


@pytest.fixture(autouse=True)
def _tiny_gemma(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoders, "_EMBEDDINGGEMMA", {"model_type": "gemma3_text", **GEMMA})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What someone has who downloaded open-vljepa's best.pt and the parts that it names."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("checkpoints")
    encoder = transformers_vjepa2(48, 2, 2, frames=4, crop=32, patch=8, mlp_ratio=80 / 48)
    encoder.save_pretrained(out / "vjepa2", max_shard_size="60KB")
    llama = LlamaModel(llama_config(replace(TINY.predictor, layers=3)))
    scramble(llama)
    llama.save_pretrained(out / "llama")
    gemma = Gemma3TextModel(Gemma3TextConfig(**GEMMA))
    scramble(gemma)
    gemma.save_pretrained(out / "gemma")
    for name in ("llama", "gemma"):
        byte_tokenizer().save(str(out / name / "tokenizer.json"))
    predictor, projector = Predictor(TINY, visual_tokens=32), torch.nn.Linear(96, TINY.embedding)
    scramble(predictor)
    state = {f"predictor.{key}": value for key, value in predictor.state_dict().items()}
    state |= {f"y_encoder.projector.{key}": value for key, value in projector.state_dict().items()}
    state |= {f"y_encoder.model.{key}": value * 1.5 for key, value in gemma.state_dict().items()}
    torch.save({"model_state_dict": state, "config": {}, "epoch": 7}, out / "best.pt")
    decoder = LlamaForCausalLM(llama_config(TINY.decoder))
    scramble(decoder)
    decoder.config.tie_word_embeddings, decoder.config.eos_token_id = True, 2
    decoder.tie_weights()
    decoder.save_pretrained(out / "decoder")
    byte_tokenizer().save(str(out / "decoder" / "tokenizer.json"))
    prefix = {"prefix_proj.weight": torch.randn(32, TINY.embedding) * 2, "prefix_proj.bias": torch.zeros(32)}
    save_file(prefix, out / "decoder" / "prefix.safetensors")
    return out


def sources(checkpoints: Path, **changes: Any) -> WeightSources:
    return replace(
        WeightSources(checkpoints / "best.pt", checkpoints / "vjepa2", checkpoints / "llama", checkpoints / "gemma"),
        **changes,
    )


def test_open_vljepa_and_its_encoders_become_a_bundle_without_a_decoder(checkpoints: Path, tmp_path: Path) -> None:
    exported = export_bundle(ExportRequest(sources(checkpoints), PAPER, tmp_path / "bundle"))
    manifest = verify_bundle(exported.bundle)
    assert set(manifest.engines) == {"vision_encoder", "predictor", "text_encoder"}
    assert set(manifest.receipt["weights"]) >= {"best.pt", "model.safetensors"}
    model = vlj_edge.load(exported.bundle)
    with pytest.raises(VljEdgeError, match="no decoder"):
        model.narrate(np_pictures(tmp_path))
    assert len(list(model.embed(np_pictures(tmp_path)))) > 0
    # The text encoder is what open-vljepa trained, not the published one beside it.
    saved = torch.load(checkpoints / "best.pt", weights_only=True)["model_state_dict"]
    theirs = Gemma3TextModel(Gemma3TextConfig(**GEMMA)).eval()
    theirs.load_state_dict({k.removeprefix("y_encoder.model."): v for k, v in saved.items() if "y_encoder.model" in k})
    ids, mask = model.chain.text_encoder[1].encode("nothing moves")
    with torch.no_grad():
        hidden = theirs(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        weight = torch.from_numpy(mask)[..., None].float()
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        expected = pooled @ saved["y_encoder.projector.weight"].T + saved["y_encoder.projector.bias"]
    assert np.dot(model.embed_text("nothing moves"), torch.nn.functional.normalize(expected)[0].numpy()) > 0.99999


def np_pictures(folder: Path) -> Path:
    (folder / "pictures").mkdir(exist_ok=True)
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), np.uint8)):
        cv2.imwrite(str(folder / "pictures" / f"{i}.png"), picture)
    return folder / "pictures"


@pytest.mark.slow
def test_a_decoder_of_its_own_dimensions_can_be_added(checkpoints: Path, tmp_path: Path) -> None:
    wrong = replace(PAPER, decoder=replace(PAPER.decoder, layers=7, width=64))  # its config.json says otherwise
    exported = export_bundle(
        ExportRequest(sources(checkpoints, decoder=checkpoints / "decoder"), wrong, tmp_path / "bundle")
    )
    row = next(row for row in exported.parity if row.engine == "decoder")
    assert row.first_differing_token is None
    assert isinstance(list(vlj_edge.load(exported.bundle).narrate(np_pictures(tmp_path), every_window=True)), list)


def test_the_nearest_caption_is_a_decoder_too(tiny_weights: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join([*TEXTS, "", TEXTS[0], "  two   spaces "]))
    bundle = export_bundle(
        ExportRequest(WeightSources(tiny_weights, captions=captions), TINY, tmp_path / "bundle")
    ).bundle
    manifest = verify_bundle(bundle)
    assert manifest.captions == "captions.txt" and "decoder" not in manifest.tokenizers
    model = vlj_edge.load(bundle)
    known = [*TEXTS, "two spaces"]
    assert (bundle / "captions.txt").read_text().splitlines() == known
    said = list(model.narrate(np_pictures(tmp_path), every_window=True))
    bank = np.stack([model.embed_text(text) for text in known])
    seen = list(model.embed(np_pictures(tmp_path), every_window=True))
    for narration, window in zip(said, seen, strict=True):
        scores = bank @ window.embedding
        assert scores[known.index(narration.text)] > scores.max() - 0.02, "the bank is fp32, this is int8w"
    for text in known:
        assert model.chain.decode(model.embed_text(text))[0] == text, "a caption's own embedding leads to it"
    (bundle / "captions.txt").write_text("\n".join(["something else"] * 5))
    with pytest.raises(VljEdgeError, match=r"captions\.txt"):
        vlj_edge.load(bundle).narrate(np_pictures(tmp_path))


@pytest.mark.slow
def test_random_weights_fill_what_is_missing_and_the_bundle_says_so(checkpoints: Path, tmp_path: Path) -> None:
    given = WeightSources(None, checkpoints / "vjepa2", checkpoints / "llama", random=3)
    first = export_bundle(ExportRequest(given, PAPER, tmp_path / "first"))
    again = export_bundle(ExportRequest(given, PAPER, tmp_path / "again", check_parity=False))
    manifest = read_manifest(first.bundle)
    assert manifest.receipt["random_weights"] == 3
    assert manifest.files["predictor.onnx"] == read_manifest(again.bundle).files["predictor.onnx"], "seeded"
    assert again.parity == [] and read_manifest(again.bundle).parity["rows"] == []
    real = open_weights(given, PAPER).loaders["vision_encoder"]()
    other = open_weights(replace(given, random=4), PAPER).loaders["vision_encoder"]()
    assert torch.equal(real(probe_clip(TINY, 0)), other(probe_clip(TINY, 0))), "what has weights is not random"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_encoder": None}, "--vision-encoder"),
        ({"predictor": None}, r"--predictor"),
        ({"text_encoder": None}, r"--text-encoder"),
        ({"weights": None}, r"missing.*out_proj\.bias"),
    ],
)
def test_a_part_without_weights_is_named(checkpoints: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(VljEdgeError, match=words) as error:
        open_weights(sources(checkpoints, **changes), PAPER)
    assert "\n" not in str(error.value)


def test_a_decoder_without_a_prefix_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(checkpoints / "decoder", tmp_path / "decoder"))
    (bare / "prefix.safetensors").unlink()
    with pytest.raises(VljEdgeError, match=r"prefix\.safetensors.*examples/train_decoder"):
        open_weights(sources(checkpoints, decoder=bare), PAPER)


@pytest.mark.parametrize(
    ("key", "value"), [("use_bidirectional_attention", False), ("model_type", "gemma2"), ("hidden_size", 640)]
)
def test_another_gemma_is_refused(checkpoints: Path, tmp_path: Path, key: str, value: Any) -> None:
    other = Path(shutil.copytree(checkpoints / "gemma", tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(VljEdgeError, match=rf"config\.json.*{key}.*{value}"):
        open_weights(sources(checkpoints, text_encoder=other), PAPER)


def test_text_weights_that_do_not_fit_are_not_filled_with_random_ones(checkpoints: Path, tmp_path: Path) -> None:
    loaded = torch.load(checkpoints / "best.pt", weights_only=True)
    del loaded["model_state_dict"]["y_encoder.model.layers.1.mlp.up_proj.weight"]
    torch.save(loaded, tmp_path / "best.pt")
    load = open_weights(sources(checkpoints, weights=tmp_path / "best.pt"), PAPER).loaders["text_encoder"]
    with pytest.raises(VljEdgeError, match=r"layers\.1\.mlp\.up_proj\.weight.*missing"):
        load()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_captions_that_are_none_are_refused(tiny_weights: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "captions.txt").write_bytes(content)
    with pytest.raises(VljEdgeError, match=r"captions\.txt"):
        open_weights(WeightSources(tiny_weights, captions=tmp_path / "captions.txt"), TINY)


def test_what_would_not_fit_into_memory_is_said_before_it_starts(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 900_000_000)
    with pytest.raises(VljEdgeError, match=r"1\.5 GB.*0\.9 GB"):
        export_bundle(ExportRequest(WeightSources(tiny_weights), TINY, tmp_path / "bundle"))
    assert list(tmp_path.iterdir()) == []


def test_memory_is_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:  64 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available() == 64 * 1024
    (tmp_path / "memory.max").write_text("50000\n")
    (tmp_path / "memory.current").write_text("30000\n")
    (tmp_path / "memory.stat").write_text("anon 20000\nfile 10000\n")
    assert memory.available() == 30000, "a container's limit, its page cache given back"
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() == 64 * 1024
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert memory.available() is None
    memory.require_memory(10**15, "this", "nothing")  # unknown is not too little


def test_variants_of_a_preset() -> None:
    paper = preset("vl-jepa-1.6b")
    large = variant(paper, "vjepa2.1-vitl", frames=64, size=384)
    assert (large.clip.frames, large.preprocess.crop, large.preprocess.short_side) == (64, 384, 438)
    assert large.vision.squeezed_positions and large.vision.layers == 24
    assert variant(paper, "vjepa2.1-vitb", frames=1).clip.frames == 1
    assert variant(paper, size=256) == paper == variant(paper)
    assert variant(paper, size=128).preprocess.short_side == 146


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("vl-jepa-1.6b", {"encoder": "dino"}, "vjepa2-vitl"),
        ("nano", {"encoder": "vjepa2-vitl"}, "--preset"),
        ("vl-jepa-1.6b", {"frames": 15}, "multiple of 2$"),
        ("vl-jepa-1.6b", {"frames": 1}, "multiple of 2$"),
        ("vl-jepa-base", {"frames": 3}, "image"),
        ("vl-jepa-base", {"frames": 0}, "0 frames"),
        ("vl-jepa-base", {"size": 250}, "multiple of 16"),
        ("vl-jepa-1.6b", {"size": 384}, "384.*--encoder"),
        ("nano", {"size": 64}, "--size"),
    ],
)
def test_variants_that_cannot_be_are_refused(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(VljEdgeError, match=words):
        variant(preset(name), **changes)
