"""PE-Core: both towers, pictures, tokens and scores against an implementation of its own in plain torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image

from tests.cli.command import run_here
from tests.export.families import comparing, perception_encoder
from tests.export.families.checkpoints import PE_TRUNK, SIDE, TEXTS, write_pe_core
from vlj_edge.bundle import read_manifest
from vlj_edge.export.families import pe_core
from vlj_edge.runtime.embedding.classify import label_scores
from vlj_edge.runtime.model import Model

_HEADS = 2  # 24 wide: the rotation has 6 frequencies an axis


@pytest.fixture(scope="module", autouse=True)
def small_trunk() -> Iterator[None]:
    """Nobody publishes a vision tower small enough for a test, and open_clip's configuration has only a name for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pe_core.TRUNKS, PE_TRUNK, pe_core.Trunk(8, 48, 2, _HEADS, 96))
        patch.setitem(pe_core.TRUNKS, f"{PE_TRUNK}_g", pe_core.Trunk(8, 48, 2, _HEADS, 96, class_token=False))
        yield


@pytest.fixture(scope="module", params=["with class token", pytest.param("without", marks=pytest.mark.slow)])
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small_trunk: None
) -> tuple[Path, Any]:
    with_token = request.param == "with class token"
    directory = tmp_path_factory.mktemp("checkpoints") / "pe"
    state = write_pe_core(directory, class_token=with_token)
    if not with_token:
        edit(directory, lambda raw: raw["model_cfg"]["vision_cfg"].update(timm_model_name=f"{PE_TRUNK}_g"))
    return directory, state


@pytest.fixture(scope="module")
def bundle(checkpoint: tuple[Path, Any]) -> Path:
    return comparing.export(checkpoint[0])


def edit(directory: Path, change: Callable[[Any], object]) -> None:
    path = directory / "open_clip_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_clip_is_the_mean_of_its_pictures(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4))
    own = perception_encoder.encode_images(checkpoint[1], torch.from_numpy(pixels[0]), _HEADS)
    comparing.assert_mean_of_pictures(bundle, pixels, own)


@pytest.mark.parametrize("text", [*TEXTS[:2], "A  Person\tOPENS it!", "what's 12, naïve?"])
def test_texts_have_its_tokens_and_embeddings(checkpoint: tuple[Path, Any], bundle: Path, text: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint[0])
    own = tokenizer(text, padding="max_length", max_length=20, return_tensors="pt")
    ids, mask = comparing.tokens(bundle, text)
    assert ids.tolist() == own["input_ids"].tolist()
    expected = perception_encoder.encode_texts(checkpoint[1], torch.from_numpy(ids), 2)
    found = comparing.run(bundle, "text_encoder", text_ids=ids, text_mask=mask)
    comparing.assert_close(found, comparing.unit(expected))


def test_pictures_are_squashed_as_torchvision_does(bundle: Path) -> None:
    """T.Resize((side, side), bilinear) of a PIL picture is Pillow's resize."""
    for picture in comparing.pictures():
        squashed = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        expected = (np.asarray(squashed, np.float32) / 255 - 0.5) / 0.5
        found = comparing.processed(bundle, [picture])[0]
        assert np.abs(found - expected.transpose(2, 0, 1)).max() * 0.5 < 1.001 / 255, picture.shape


def test_scores_are_its_softmax(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    state, (picture,) = checkpoint[1], comparing.pictures([(40, 40)])
    pixels = comparing.processed(bundle, [picture] * 4)
    ids = torch.from_numpy(np.concatenate([comparing.tokens(bundle, text)[0] for text in TEXTS]))
    image = perception_encoder.encode_images(state, torch.from_numpy(pixels[0, :1]), _HEADS)
    texts = perception_encoder.encode_texts(state, ids, 2)
    cosines = torch.nn.functional.normalize(image, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).T
    expected = (state["logit_scale"].exp() * cosines).softmax(-1)[0]
    embedding = comparing.run(bundle, "vision_encoder", pixels=pixels)[0]
    with Model(bundle) as model:
        found = np.stack([model.embed_text(text) for text in TEXTS]) @ embedding
        scores, none = label_scores(found, model.manifest.labels)
    assert np.abs(scores - expected.numpy()).max() < 1e-4
    assert none == 0


@pytest.mark.parametrize(("name", "layers"), [("vision_encoder", 2 + 1), ("text_encoder", 2)])
def test_attention_is_one_node_a_layer(bundle: Path, name: str, layers: int) -> None:
    graph = onnx.load(bundle / f"{name}.onnx").graph
    assert sum(node.op_type == "Attention" for node in graph.node) == layers
    assert not any(node.op_type == "Softmax" for node in graph.node)


@pytest.mark.parametrize("arguments", [["--fp16"], pytest.param(["--flavour", "portable"], marks=pytest.mark.slow)])
def test_commands(tmp_path: Path, make_video: Callable[..., Path], arguments: list[str]) -> None:
    write_pe_core(tmp_path / "pe")
    video, out = make_video([((0, 0, 255), 3), ((255, 0, 0), 3)]), tmp_path / "out"
    (tmp_path / "captions.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    done = run_here("export", tmp_path / "pe", *arguments, "--captions", tmp_path / "captions.txt", "--out", out)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(out)
    assert (manifest.family, manifest.embedding, manifest.tokenizers["text_encoder"].length) == ("pe-core", 24, 20)
    for command in (
        ["narrate", video, "--bundle", out],
        ["classify", video, "--labels", ",".join(TEXTS), "--bundle", out],
    ):
        done = run_here(*command)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)


# part of model_cfg, or the whole of preprocess_cfg; a value that is not supported there; what the error names
WRONG = [
    ("preprocess_cfg", {"std": [0.5, 0.5, 0]}, "std"),
    ("preprocess_cfg", {"mean": [0.5, float("nan"), 0.5]}, "mean"),
    ("vision_cfg", {"timm_model_name": "vit_base_patch16_siglip_224"}, "vit_base_patch16_siglip_224"),
    ("vision_cfg", {"timm_model_name": "vit_pe_core_huge"}, "vit_pe_core_huge"),
    ("vision_cfg", {"timm_model_name": "vit_pe_core_base_patch16_224"}, "open_clip_config.json"),  # of another width
    ("vision_cfg", {"timm_pool": "avg"}, "timm_pool"),
    ("text_cfg", {"hf_model_name": "xlm-roberta-base"}, "hf_model_name"),
    ("preprocess_cfg", {"resize_mode": "longest"}, "longest"),
]


@pytest.mark.parametrize(("part", "values", "named"), WRONG)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, part: str, values: dict[str, Any], named: str) -> None:
    def change(raw: dict[str, Any]) -> None:
        (raw if part in raw else raw["model_cfg"])[part].update(values)

    write_pe_core(tmp_path / "pe")
    edit(tmp_path / "pe", change)
    assert_refused(tmp_path, named)


def not_json(directory: Path) -> str:
    (directory / "open_clip_config.json").write_text("[]", encoding="utf-8")
    return "open_clip_config.json"


def cut_short(directory: Path) -> str:
    content = (directory / "open_clip_model.safetensors").read_bytes()
    (directory / "open_clip_model.safetensors").write_bytes(content[: len(content) // 2])
    return "open_clip_model.safetensors"


def pickled(directory: Path) -> str:
    (directory / "open_clip_model.safetensors").rename(directory / "open_clip_pytorch_model.bin")
    return "open_clip_pytorch_model.bin"


def without_a_tensor(directory: Path) -> str:
    state = safetensors.torch.load_file(directory / "open_clip_model.safetensors")
    del state["visual.trunk.attn_pool.latent"]
    safetensors.torch.save_file(state, directory / "open_clip_model.safetensors")
    return "attn_pool.latent"


def no_scale(directory: Path) -> str:
    state = safetensors.torch.load_file(directory / "open_clip_model.safetensors")
    del state["logit_scale"]
    safetensors.torch.save_file(state, directory / "open_clip_model.safetensors")
    return "logit_scale"


@pytest.mark.parametrize("damage", [not_json, cut_short, pickled, without_a_tensor, no_scale])
def test_a_wrong_checkpoint_is_one_line(tmp_path: Path, damage: Callable[[Path], str]) -> None:
    write_pe_core(tmp_path / "pe")
    assert_refused(tmp_path, damage(tmp_path / "pe"))


def assert_refused(tmp_path: Path, named: str) -> None:
    done = run_here("export", tmp_path / "pe", "--out", tmp_path / "out")
    assert done.returncode == 1 and not done.stdout and not (tmp_path / "out").exists()
    assert done.stderr.count("\n") == 1 and named in done.stderr, done.stderr
