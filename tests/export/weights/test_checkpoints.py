"""Public checkpoint formats: our encoder gives the same output as the model that the file belongs to."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaModel

from tests.export.models import vjepa21
from tests.export.models.test_models import difference, llama_config, scramble, transformers_vjepa2
from tests.export.tiny_weights import TINY
from vlj_edge import VljEdgeError
from vlj_edge.export.models.predictor import Predictor
from vlj_edge.export.models.vision_encoder import VisionEncoder
from vlj_edge.export.weights import checkpoints
from vlj_edge.export.weights.files import read_pt
from vlj_edge.presets import Clip, Preprocess, Preset
from vlj_edge.presets import VisionEncoder as VisionConfig

LARGEST_DIFFERENCE = 1e-4
WIDTH, HEADS, LAYERS = 96, 3, 2


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def small(frames: int, crop: int, squeezed: bool) -> Preset:
    vision = VisionConfig(None, 2, 16, WIDTH, LAYERS, HEADS, 4 * WIDTH, squeezed_positions=squeezed)
    return replace(
        TINY, clip=Clip(frames, 4.0, 1), vision=vision, preprocess=Preprocess(crop, crop, (0, 0, 0), (1, 1, 1))
    )


def encoder(preset: Preset, state: dict[str, Tensor]) -> VisionEncoder:
    ours = VisionEncoder(preset.vision, preset.clip, preset.preprocess).eval()
    ours.load_state_dict(state)
    return ours


def in_metas_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' V-JEPA 2 as Meta's file would hold it."""
    ours = checkpoints.from_transformers_vjepa(state, LAYERS)
    renamed = {}
    for key, value in ours.items():
        key = (
            key.replace(".attention.", ".attn.").replace(".fc", ".mlp.fc").replace("patch_embed.", "patch_embed.proj.")
        )
        renamed[f"module.backbone.{key}"] = value
    return renamed


@pytest.mark.parametrize("sharded", [False, True])
def test_a_transformers_directory_is_read(tmp_path: Path, sharded: bool) -> None:
    theirs, preset = transformers_vjepa2(WIDTH, HEADS, LAYERS, frames=4, crop=64), small(4, 64, squeezed=False)
    theirs.save_pretrained(tmp_path, max_shard_size="200KB" if sharded else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() is sharded
    clip = torch.randn(1, 4, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
        ours = encoder(preset, checkpoints.vision_encoder(tmp_path, preset))(clip)
    assert difference(ours, expected) < LARGEST_DIFFERENCE


def test_metas_vjepa2_file_is_read(tmp_path: Path) -> None:
    theirs, preset = transformers_vjepa2(WIDTH, HEADS, LAYERS, frames=4, crop=64), small(4, 64, squeezed=False)
    torch.save({"target_encoder": in_metas_names(theirs.state_dict()), "epoch": 3}, tmp_path / "vitl.pt")
    clip = torch.randn(1, 4, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
        ours = encoder(preset, checkpoints.vision_encoder(tmp_path / "vitl.pt", preset))(clip)
    assert difference(ours, expected) < LARGEST_DIFFERENCE


@pytest.mark.parametrize(("frames", "crop"), [(4, 64), (8, 96), (2, 384), (1, 64), (1, 256)])
def test_metas_vjepa21_file_is_read(tmp_path: Path, frames: int, crop: int) -> None:
    weights, preset = vjepa21.random_weights(WIDTH, LAYERS, 4 * WIDTH, 16), small(frames, crop, squeezed=True)
    saved = {f"module.backbone.{key}": value for key, value in weights.items()}
    torch.save({"ema_encoder": saved, "encoder": {}}, tmp_path / "vitb.pt")
    clip = torch.randn(1, frames, 3, crop, crop)
    with torch.no_grad():
        ours = encoder(preset, checkpoints.vision_encoder(tmp_path / "vitb.pt", preset))(clip)
        assert difference(ours, vjepa21.encode(weights, clip, HEADS)) < LARGEST_DIFFERENCE


def tiny_llama(layers: int) -> LlamaModel:
    model = LlamaModel(llama_config(replace(TINY.predictor, layers=layers))).eval()
    scramble(model)
    return model


def test_the_predictor_takes_the_last_layers_of_a_llama(tmp_path: Path) -> None:
    theirs = tiny_llama(TINY.predictor.layers + 3)
    theirs.save_pretrained(tmp_path)
    state = checkpoints.llama_layers(tmp_path, TINY)
    ours = Predictor(TINY, visual_tokens=32).eval()
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert set(missing) == {f"{name}.{kind}" for name in ("vis_proj", "out_proj") for kind in ("weight", "bias")}
    assert not unexpected
    theirs.layers = theirs.layers[3:]
    theirs.config.num_hidden_layers = TINY.predictor.layers
    visual, ids = torch.randn(1, 32, TINY.vision.width), torch.randint(0, 300, (1, 12))
    with torch.no_grad():
        inputs = torch.cat((ours.vis_proj(visual), ours.embed_tokens(ids)), dim=1)
        seen = torch.zeros(1, 1, 44, 44)
        pooled = theirs(inputs_embeds=inputs, attention_mask=seen, use_cache=False).last_hidden_state.mean(1)
        expected = torch.nn.functional.normalize(ours.out_proj(pooled), dim=-1)
        assert difference(ours(visual, ids, torch.ones(1, 12, dtype=torch.bool)), expected) < LARGEST_DIFFERENCE


def test_a_llama_with_other_heads_is_refused(tmp_path: Path) -> None:
    tiny_llama(2).save_pretrained(tmp_path)
    other = replace(TINY, predictor=replace(TINY.predictor, kv_heads=4))
    with pytest.raises(VljEdgeError, match=r"config\.json.*num_key_value_heads 2 .*4"):
        checkpoints.llama_layers(tmp_path, other)


def test_open_vljepas_file_is_taken_apart(tmp_path: Path) -> None:
    predictor = Predictor(TINY, visual_tokens=32)
    scramble(predictor)
    projector, backbone = torch.nn.Linear(96, TINY.embedding), {"layers.0.mlp.up_proj.weight": torch.randn(3, 4)}
    state = {f"predictor.{key}": value for key, value in predictor.state_dict().items()}
    state |= {f"y_encoder.projector.{key}": value for key, value in projector.state_dict().items()}
    state |= {f"y_encoder.model.{key}": value for key, value in backbone.items()}
    config = {"predictor": {"n_keep_layers": 2}}
    torch.save({"model_state_dict": state, "config": config, "epoch": 7}, tmp_path / "best.pt")
    found = checkpoints.open_vljepa(tmp_path / "best.pt")
    for part, expected in (
        (found.predictor, predictor.state_dict()),
        (found.text_projection, projector.state_dict()),
        (found.text_backbone, backbone),
    ):
        assert part.keys() == expected.keys()
        assert all(torch.equal(part[key], value) for key, value in expected.items())
    assert found.config == config
    torch.save({"model_state_dict": {"predictor.norm.weight": torch.ones(3)}}, tmp_path / "half.pt")
    with pytest.raises(VljEdgeError, match=r"y_encoder\.projector.*best\.pt"):
        checkpoints.open_vljepa(tmp_path / "half.pt")


def test_a_config_that_contradicts_the_preset_is_refused(tmp_path: Path) -> None:
    transformers_vjepa2(WIDTH, HEADS, LAYERS, frames=4, crop=64).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))  # no shape shows it
    with pytest.raises(VljEdgeError, match=r"config\.json.*num_attention_heads 4 .*3"):
        checkpoints.vision_encoder(tmp_path, small(4, 64, squeezed=False))


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"target_encoder": Runs()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"target_encoder": Runs()}))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(VljEdgeError, match=r"not loaded|not a whole"):
            read_pt(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_broken_files_are_named(tmp_path: Path) -> None:
    preset = small(4, 64, squeezed=False)
    torch.save({"target_encoder": {"x": torch.zeros(5000)}}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:9000])
    torch.save({"model": {}}, tmp_path / "other.pt")
    transformers_vjepa2(WIDTH, HEADS, LAYERS, frames=4, crop=64).save_pretrained(tmp_path / "cut")
    whole = (tmp_path / "cut" / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    for path, message in (
        ("absent.pt", r"absent\.pt.*\.pt file"),
        ("cut.pt", r"cut\.pt"),
        ("other.pt", "ema_encoder"),
        ("cut", r"model\.safetensors"),
    ):
        with pytest.raises(VljEdgeError, match=message) as error:
            checkpoints.vision_encoder(tmp_path / path, preset)
        assert "\n" not in str(error.value) and path in str(error.value)


def test_an_index_cannot_lead_outside_its_directory(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "outside.safetensors")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "config.json").write_text("{}")
    index = {"weight_map": {"x": "../outside.safetensors"}}
    (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(VljEdgeError, match=r"model\.safetensors\.index\.json"):
        checkpoints.vision_encoder(tmp_path / "in", small(4, 64, squeezed=False))
