"""Each family at the size of a published model, at random weights: fp32 keeps its bars through all layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from tests.export.families import checkpoints, comparing, perception_encoder
from vlj_edge.bundle import read_manifest
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.families.find import read_shape
from vlj_edge.export.parity_cases import probe_clip
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources

pytestmark = pytest.mark.slow


def clip(directory: Path, **config: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """openai/clip-vit-base-patch32, or what `config` says."""
    checkpoints.write_clip(directory)  # for the tokenizer
    (directory / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    model = _save(transformers.CLIPModel(transformers.CLIPConfig(**config)), directory)
    return lambda pixels: _mean(model.get_image_features(pixel_values=pixels[0]).pooler_output)


def siglip2(directory: Path, **text: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """google/siglip2-base-patch16-224, but for its vocabulary, which `text` gives."""
    checkpoints.write_siglip(directory)
    (directory / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    model = _save(transformers.SiglipModel(transformers.SiglipConfig(text_config=text)), directory)
    return lambda pixels: _mean(model.get_image_features(pixel_values=pixels[0]).pooler_output)


def naflex(directory: Path, **text: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """google/siglip2-base-patch16-naflex, but for vocabulary and depth of its text tower, in `text`."""
    checkpoints.write_naflex(directory)
    (directory / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    config = transformers.Siglip2Config(text_config={"vocab_size": 1000, "num_hidden_layers": 2} | text)
    model = _save(transformers.Siglip2Model(config), directory)

    def pooled(pixels: torch.Tensor) -> torch.Tensor:
        patches = pixels[0].unflatten(-1, (16, 16)).unflatten(-3, (16, 16)).permute(0, 2, 4, 3, 5, 1)
        return _mean(
            model.get_image_features(
                pixel_values=patches.reshape(len(patches), 256, -1),
                pixel_attention_mask=torch.ones(len(patches), 256, dtype=torch.int32),
                spatial_shapes=torch.tensor([[16, 16]] * len(patches)),
            ).pooler_output
        )

    return pooled


def pe_core(directory: Path, **text: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """timm/PE-Core-B-16, but for its vocabulary and the depth of its text tower, which `text` gives."""
    checkpoints.write_pe_core(directory, **text)  # for the tokenizer
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model_cfg"]["vision_cfg"] |= {"image_size": 224, "timm_model_name": "vit_pe_core_base_patch16_224"}
    config["model_cfg"]["embed_dim"] = 1024
    path.write_text(json.dumps(config), encoding="utf-8")
    tower = config["model_cfg"]["text_cfg"]
    base = perception_encoder.Dimensions(768, 12, 3072, 16, 14, True)
    state = perception_encoder.random_state(
        base, tower["width"], tower["layers"], tower["vocab_size"], tower["context_length"], 1024, scale=0.02
    )
    safetensors.torch.save_file(state, directory / "open_clip_model.safetensors")
    return lambda pixels: _mean(perception_encoder.encode_images(state, pixels[0], heads=12))


def videoprism(directory: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """google/videoprism-lvt-base-f16r288."""
    checkpoints.write_videoprism(directory)
    model = _save(transformers.VideoPrismClipModel(transformers.VideoPrismConfig()), directory)
    return lambda pixels: model.get_video_features(pixel_values_videos=pixels).pooler_output.reshape(1, -1)


def xclip(directory: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """microsoft/xclip-base-patch32."""
    checkpoints.write_xclip(directory)  # for the tokenizer
    (directory / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    model = _save(transformers.XCLIPModel(transformers.XCLIPConfig()), directory)
    return lambda pixels: model.get_video_features(pixel_values=pixels).pooler_output


def vjepa2(directory: Path, **config: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """facebook/vjepa2-vitl-fpc16-256-ssv2, or what `config` says."""
    labels = {number: f"action {number}" for number in range(174)}
    config = transformers.VJEPA2Config(**{"frames_per_clip": 16, "id2label": labels} | config)
    directory.mkdir(parents=True)
    (directory / "video_preprocessor_config.json").write_text("{}", encoding="utf-8")
    model = _save(transformers.VJEPA2ForVideoClassification(config), directory)

    def pooled(pixels: torch.Tensor) -> torch.Tensor:
        p = model.pooler(model.vjepa2(pixels, skip_predictor=True).last_hidden_state)
        return torch.cat((p, torch.ones(1, 1)), dim=-1)

    return pooled


def _save(model: Any, directory: Path) -> Any:
    model.eval().save_pretrained(directory)
    assert json.loads((directory / "config.json").read_text(encoding="utf-8"))["architectures"]
    return model


def _mean(embeddings: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(embeddings, dim=-1).mean(0, keepdim=True)


@pytest.mark.parametrize("make", [clip, siglip2, naflex, pe_core, videoprism, xclip, vjepa2])
def test_fp32_keeps_its_bars_at_full_depth(
    make: Callable[[Path], Callable[[torch.Tensor], torch.Tensor]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    reference = make(tmp_path / "checkpoint")
    shape = read_shape(tmp_path / "checkpoint")
    one = probe_clip(shape, 0).numpy()  # where an export compares several, which takes minutes at this size
    done = export_bundle(ExportRequest(WeightSources(tmp_path / "checkpoint"), shape, tmp_path / "out", clips=(one,)))
    assert min(row.cosine for row in done.parity) > 0.99999
    frames = read_manifest(done.bundle).clip.frames
    pixels = comparing.processed(done.bundle, comparing.pictures([(360, 480)] * frames))
    with torch.no_grad():
        expected = reference(torch.from_numpy(pixels))
    comparing.assert_close(comparing.run(done.bundle, "vision_encoder", pixels=pixels), comparing.unit(expected))
