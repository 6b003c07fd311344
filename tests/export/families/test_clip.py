"""CLIP: both towers, pictures, tokens and scores against transformers' own classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

from tests.export.families import comparing
from tests.export.families.checkpoints import TEXTS, write_clip
from vlj_edge.bundle import read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.families.find import read_shape
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.runtime.embedding.classify import label_scores
from vlj_edge.runtime.model import Model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("checkpoints") / "clip"
    return directory, write_clip(directory)


@pytest.fixture(scope="module")
def bundle(checkpoint: tuple[Path, Any]) -> Path:
    directory = checkpoint[0]
    captions = directory.parent / "captions.txt"
    captions.write_text("\n".join(TEXTS), encoding="utf-8")
    out = directory.parent / "bundle"
    export_bundle(ExportRequest(WeightSources(directory, captions=captions), read_shape(directory), out))
    return out


def test_dimensions_come_from_the_files(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert (manifest.family, manifest.embedding, manifest.tokenizers["text_encoder"].length) == ("clip", 24, 77)
    assert set(manifest.engines) == {"vision_encoder", "text_encoder", "decoder"}
    assert not manifest.takes_query and manifest.embeds_texts and manifest.default_query == ""


def test_pictures_are_those_of_its_own_processor(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    processor = transformers.CLIPImageProcessorPil.from_pretrained(checkpoint[0])
    std = np.array(processor.image_std)[:, None, None]
    for picture in comparing.pictures():
        expected = processor(picture, return_tensors="np")["pixel_values"]
        found = comparing.processed(bundle, [picture])[0]
        assert (np.abs(found - expected) * std).max() < 1.001 / 255, picture.shape


def test_a_clip_is_the_mean_of_its_pictures(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4))
    with torch.no_grad():
        own = checkpoint[1].get_image_features(pixel_values=torch.from_numpy(pixels[0])).pooler_output
    mean = torch.nn.functional.normalize(own, dim=-1).mean(0, keepdim=True)
    comparing.assert_close(comparing.run(bundle, "vision_encoder", pixels=pixels), comparing.unit(mean))


@pytest.mark.parametrize("text", [*TEXTS, "A  Person\tOPENS it!", "what's 12, naïve?", "dog"])
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


def test_scores_are_its_softmax(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    model, (picture,) = checkpoint[1], comparing.pictures([(40, 40)])
    pixels = comparing.processed(bundle, [picture] * 4)
    texts = transformers.AutoTokenizer.from_pretrained(checkpoint[0])(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(pixels[0, :1]), **texts).logits_per_image.softmax(-1)[0]
    embedding = comparing.run(bundle, "vision_encoder", pixels=pixels)[0]
    with Model(bundle) as loaded:
        cosines = np.stack([loaded.embed_text(text) for text in TEXTS]) @ embedding
        scores, none = label_scores(cosines, loaded.manifest.labels)
    assert np.abs(scores - expected.numpy()).max() < 1e-4
    assert none == 0


@pytest.mark.parametrize("name", ["vision_encoder", "text_encoder"])
def test_attention_is_one_node_a_layer(bundle: Path, name: str) -> None:
    graph = onnx.load(bundle / f"{name}.onnx").graph
    assert sum(node.op_type == "Attention" for node in graph.node) == 2


@pytest.mark.parametrize(
    ("precision", "flavour"), [("fp16", "native"), ("fp32", "portable"), ("int8w", "native"), ("fp16", "portable")]
)
def test_other_precisions_and_flavours(
    checkpoint: tuple[Path, Any], tmp_path: Path, precision: str, flavour: str
) -> None:
    shape = read_shape(checkpoint[0], frames=2)
    request = ExportRequest(WeightSources(checkpoint[0]), shape, tmp_path / "out", precision, flavour)
    done = export_bundle(request)
    assert {row.engine for row in done.parity} == {"vision_encoder", "text_encoder"}
    pixels = comparing.processed(done.bundle, comparing.pictures([(50, 60)] * 2))
    assert comparing.run(done.bundle, "vision_encoder", pixels=pixels).dtype == np.float32
    for name, engine in read_manifest(done.bundle).engines.items():  # which says what the engines are
        stored = {each.data_type for each in onnx.load(done.bundle / f"{name}.onnx").graph.initializer}
        assert ("int8" in engine.precision) == (onnx.TensorProto.INT8 in stored), name


def test_python_says_that_there_is_no_query(bundle: Path, make_video: Callable[..., Path]) -> None:
    video = make_video([((0, 0, 255), 3)])
    with Model(bundle) as model:
        for call in (model.narrate, model.embed, lambda source, query: model.ask(source, [query])):
            with pytest.raises(VljEdgeError, match="takes no query"):
                call(video, query="what?")
        [*narrations] = model.narrate(video)
    assert narrations[0].text in TEXTS
