"""X-CLIP: both towers, pictures, tokens and what label scores leave out, against transformers' own classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
import transformers

from tests.cli.command import run_here
from tests.export.families import comparing
from tests.export.families.checkpoints import SIDE, TEXTS, write_xclip
from vlj_edge.bundle import read_manifest
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.families.find import read_shape
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources

CAVEAT = "refine each text"  # what scores leave out


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("checkpoints") / "xclip"
    return directory, write_xclip(directory)


@pytest.fixture(scope="module")
def bundle(checkpoint: tuple[Path, Any]) -> Path:
    out = checkpoint[0].with_name("bundle")
    done = run_here("export", checkpoint[0], "--out", out)
    assert done.returncode == 0 and CAVEAT in done.stdout, done.stderr
    return out


def test_dimensions_come_from_the_files(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert (manifest.family, manifest.embedding, manifest.tokenizers["text_encoder"].length) == ("xclip", 24, 77)
    assert (manifest.clip.frames, manifest.clip.frames / manifest.clip.frames_per_second) == (4, 10), "of Kinetics"
    assert set(manifest.engines) == {"vision_encoder", "text_encoder"} and not manifest.takes_query


def test_pictures_are_those_of_its_own_processor(bundle: Path) -> None:
    processor = transformers.VideoMAEImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    std = np.array(processor.image_std)[:, None, None]
    for picture in comparing.pictures():
        expected = np.asarray(processor([[picture] * 2], return_tensors="np")["pixel_values"])
        found = comparing.processed(bundle, [picture] * 2)
        assert (np.abs(found - expected) * std).max() < 1.001 / 255, picture.shape


@pytest.mark.parametrize("seed", range(2))
def test_videos_have_its_own_embeddings(checkpoint: tuple[Path, Any], bundle: Path, seed: int) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4, seed))
    with torch.no_grad():
        expected = checkpoint[1].get_video_features(pixel_values=torch.from_numpy(pixels)).pooler_output
    comparing.assert_close(comparing.run(bundle, "vision_encoder", pixels=pixels), comparing.unit(expected))


def test_the_order_of_frames_counts(bundle: Path) -> None:
    frames = [picture for seed in range(4) for picture in comparing.pictures([(50, 60)], seed)]
    forwards, backwards = (
        comparing.run(bundle, "vision_encoder", pixels=comparing.processed(bundle, order))
        for order in (frames, frames[::-1])
    )
    assert np.abs(forwards - backwards).max() > 1e-3, "a mean of pictures would be equal"


@pytest.mark.parametrize("text", [*TEXTS, "A  Person\tOPENS it!", "dog"])
def test_texts_have_its_own_tokens_and_embeddings(checkpoint: tuple[Path, Any], bundle: Path, text: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint[0])
    own = tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
    ids, mask = comparing.tokens(bundle, text)
    assert ids.tolist() == own["input_ids"].tolist()
    assert mask.astype(int).tolist() == own["attention_mask"].tolist()
    with torch.no_grad():
        expected = checkpoint[1].get_text_features(**own).pooler_output
    found = comparing.run(bundle, "text_encoder", text_ids=ids, text_mask=mask)
    comparing.assert_close(found, comparing.unit(expected))


def test_scores_are_its_softmax_without_the_refinement(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    model, pixels = checkpoint[1], comparing.processed(bundle, comparing.pictures([(50, 60)] * 4))
    texts = transformers.AutoTokenizer.from_pretrained(checkpoint[0])(TEXTS, padding=True, return_tensors="pt")
    alpha = model.prompts_generator.alpha
    refined = alpha.detach().clone()
    try:
        with torch.no_grad():
            alpha.zero_()  # by which the refinement is multiplied before it is added
            expected = model(pixel_values=torch.from_numpy(pixels), **texts).logits_per_video.softmax(-1)[0]
    finally:
        alpha.data.copy_(refined)
    scores, none = comparing.scores_of(bundle, pixels, TEXTS)
    assert np.abs(scores - expected.numpy()).max() < 1e-4 and none == 0


@pytest.mark.parametrize(("name", "nodes"), [("vision_encoder", 2 * 2 + 1), ("text_encoder", 2)])
def test_attention_is_one_node(bundle: Path, name: str, nodes: int) -> None:
    """Two a layer of the vision encoder, among patches and among frames, and one where the frames are joined."""
    graph = onnx.load(bundle / f"{name}.onnx").graph
    assert sum(node.op_type == "Attention" for node in graph.node) == nodes
    assert not any(node.op_type in {"If", "Loop", "Softmax"} for node in graph.node)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "flavour"), [("fp16", "portable"), ("int8", "native")])
def test_other_precisions_and_flavours(
    checkpoint: tuple[Path, Any], bundle: Path, tmp_path: Path, precision: str, flavour: str
) -> None:
    shape = read_shape(checkpoint[0])
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4))
    clips = [comparing.processed(bundle, comparing.pictures([(50, 60)] * 4, seed)) for seed in range(1, 9)]
    request = ExportRequest(
        WeightSources(checkpoint[0]),
        shape,
        tmp_path / "out",
        precision,
        flavour,
        clips=clips if precision == "int8" else (),
    )
    done = export_bundle(request)
    assert {row.engine for row in done.parity} == {"vision_encoder", "text_encoder"}
    found, exact = (comparing.run(each, "vision_encoder", pixels=pixels) for each in (done.bundle, bundle))
    assert (found * exact).sum() > 0.99


def test_commands_say_what_scores_leave_out(bundle: Path, tmp_path: Path, make_video: Callable[..., Path]) -> None:
    video = make_video([((0, 0, 255), 3)])
    assert CAVEAT in run_here("inspect", bundle).stdout
    config = tmp_path / "serve.toml"
    config.write_text('[[alert]]\nname = "door"\ntext = "a person opens the door"\n', encoding="utf-8")
    data = video.with_name("data.jsonl")
    data.write_text(json.dumps({"video": video.name, "text": TEXTS[0]}), encoding="utf-8")
    for command in (
        ["classify", video, video, "--labels", ",".join(TEXTS)],
        ["ask", video, "what is it?", "--choices", ",".join(TEXTS)],
        ["eval", data],
        ["alerts", "test", "--config", config, video],
    ):
        done = run_here(*command, "--bundle", bundle)
        assert (done.returncode, done.stderr.count(CAVEAT)) == (0, 1) and CAVEAT not in done.stdout, command


def test_another_number_of_frames_is_one_line(checkpoint: tuple[Path, Any], tmp_path: Path) -> None:
    done = run_here("export", checkpoint[0], "--frames", "8", "--out", tmp_path / "out")
    assert done.returncode == 2 and "4 frames" in done.stderr and done.stderr.count("\n") == 1


def test_a_model_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    write_xclip(tmp_path / "damaged")
    path = tmp_path / "damaged" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("mit.")}
    safetensors.torch.save_file(kept, path, {"format": "pt"})
    done = run_here("export", tmp_path / "damaged", "--out", tmp_path / "out")
    assert done.returncode == 1 and "mit." in done.stderr and done.stderr.count("\n") == 1
