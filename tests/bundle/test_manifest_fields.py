"""A manifest with a wrong field, engine or size is refused, with the place of the fault."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.damage import edit, refusal
from vlj_edge.bundle import (
    ENGINE_NAMES,
    MANIFEST,
    TOKENIZER_NAMES,
    Manifest,
    MeaningGateSettings,
    read_manifest,
)

# --- fields


OPTIONAL = ("captions", "labels", "prefix", "queries", "family", "label_head", "known", "tokens", "on_cpu")
REQUIRED = [part.name for part in fields(Manifest) if part.name not in OPTIONAL]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(bundle: Path, name: str) -> None:
    edit(bundle, lambda raw: raw.pop(name))
    message = refusal(lambda: read_manifest(bundle))
    assert str(bundle / MANIFEST) in message
    assert name in message


@pytest.mark.parametrize("name", [name for name in REQUIRED if name != "schema_version"])
@pytest.mark.parametrize("wrong", [None, True, 7.5, [1], [[]]], ids=str)
def test_a_field_of_another_type_is_named(bundle: Path, name: str, wrong: object) -> None:
    edit(bundle, lambda raw: raw.update({name: wrong}))
    assert name in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("embedding", "4"),
        ("embedding", 0),
        ("clip.frames", "4"),
        ("clip.frames", 0),
        ("clip.stride", 0),
        ("clip.frames_per_second", 0),
        ("clip.frames_per_second", 1e999),
        ("clip.frames_per_second", float("nan")),
        ("clip.frames_per_second", 10**400),
        ("preprocess.crop", 16.0),
        ("preprocess.mean", [0.5, 0.5]),
        ("preprocess.mean", [0.5, 0.5, "0.5"]),
        ("preprocess.std", [0.5, 0.5, 0]),
        ("engines.predictor.inputs", {}),
        ("engines.predictor.outputs", None),
        ("engines.predictor.file", 3),
        ("engines.predictor.kept_fp32", "all"),
        ("labels.templates", []),
        ("labels.temperature", 0),
        ("tokenizers.query.length", -1),
        ("tokenizers.query.end", "2"),
        ("gates.meaning.enabled", 1),
        ("gates.meaning.speak_below", "high"),
        ("gates.scene", []),
        ("files", []),
    ],
    ids=lambda part: str(part)[:30],
)
def test_a_wrong_value_inside_is_named_with_its_place(bundle: Path, place: str, value: object) -> None:
    *way, last = place.split(".")

    def change(raw: dict[str, Any]) -> None:
        for key in way:
            raw = raw[key]
        raw[last] = value

    edit(bundle, change)
    assert place in refusal(lambda: read_manifest(bundle))


def test_a_setting_with_a_typing_error_is_named(bundle: Path) -> None:
    edit(bundle, lambda raw: raw["gates"]["meaning"].update(speak_belov=0.5))
    assert "gates.meaning.speak_belov" in refusal(lambda: read_manifest(bundle))


def test_a_setting_that_is_not_there_has_its_default(bundle: Path) -> None:
    edit(bundle, lambda raw: raw["gates"]["meaning"].pop("least_hold"))
    assert read_manifest(bundle).gates.meaning.least_hold == MeaningGateSettings().least_hold


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_missing_engine_is_named(bundle: Path, name: str) -> None:
    edit(bundle, lambda raw: raw["engines"].pop(name))
    assert f"lacks {name}" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_a_missing_tokenizer_is_named(bundle: Path, name: str) -> None:
    edit(bundle, lambda raw: raw["tokenizers"].pop(name))
    assert f"lacks the tokenizer {name}" in refusal(lambda: read_manifest(bundle))


def test_a_bundle_may_go_without_a_decoder(bundle: Path) -> None:
    edit(bundle, lambda raw: (raw["engines"].pop("decoder"), raw["tokenizers"].pop("decoder")))
    assert "decoder" not in read_manifest(bundle).engines


def test_a_bank_of_captions_stands_for_the_decoders_tokenizer(bundle: Path) -> None:
    def choose(raw: dict[str, Any]) -> None:
        raw["tokenizers"].pop("decoder")
        caption = {"name": "caption", "dtype": "int64", "shape": [1, 1]}
        embedding = next(t for t in raw["engines"]["decoder"]["inputs"] if t["name"] == "embedding")
        raw["engines"]["decoder"] |= {"inputs": [embedding], "outputs": [caption], "in_place": {}}
        raw["captions"] = "captions.txt"
        raw["files"]["captions.txt"] = {"bytes": 3, "sha256": "0" * 64}

    edit(bundle, choose)
    assert read_manifest(bundle).captions == "captions.txt"
    edit(bundle, lambda raw: raw["engines"]["decoder"]["outputs"][0].update(shape=[1, 2]))
    assert "caption of decoder is 1x2 instead of 1x1" in refusal(lambda: read_manifest(bundle))
    edit(bundle, lambda raw: raw.update(captions="../captions.txt"))
    assert "no path inside the bundle" in refusal(lambda: read_manifest(bundle))
    edit(bundle, lambda raw: (raw.update(captions="captions.txt"), raw["files"].pop("captions.txt")))
    assert "uses captions.txt" in refusal(lambda: read_manifest(bundle))
    edit(bundle, lambda raw: raw["engines"].pop("decoder"))
    edit(bundle, lambda raw: raw["files"].update({"captions.txt": {"bytes": 3, "sha256": "0" * 64}}))
    assert "lacks decoder" in refusal(lambda: read_manifest(bundle))


def test_a_later_bundle_may_hold_more_engines(bundle: Path) -> None:
    edit(bundle, lambda raw: raw["engines"].update(depth=raw["engines"]["text_encoder"]))
    assert "depth" in read_manifest(bundle).engines


# --- engines that do not fit the rest


@pytest.mark.parametrize(
    ("engine", "tensor", "shape"),
    [
        ("vision_encoder", "pixels", [1, 5, 3, 16, 16]),
        ("vision_encoder", "pixels", [1, 4, 3, 32, 32]),
        ("predictor", "query_ids", [1, 7]),
        ("predictor", "embedding", [1, 5]),
        ("decoder", "embedding", [1, 5]),
        ("decoder", "key_cache_0", [1, 1, 7, 4]),
        ("decoder", "token", [1, 2]),
        ("text_encoder", "text_mask", [1, 7]),
        ("text_encoder", "embedding", [4]),
    ],
    ids=str,
)
def test_an_engine_of_other_sizes_is_refused(bundle: Path, engine: str, tensor: str, shape: list[int]) -> None:
    def change(raw: dict[str, Any]) -> None:
        for spec in raw["engines"][engine]["inputs"] + raw["engines"][engine]["outputs"]:
            if spec["name"] == tensor:
                spec["shape"] = shape

    edit(bundle, change)
    assert f"{tensor} of {engine}" in refusal(lambda: read_manifest(bundle))


def test_a_size_below_one_is_refused(bundle: Path) -> None:
    edit(bundle, lambda raw: raw["engines"]["decoder"]["inputs"][0].update(shape=[1, -1]))
    assert "engines.decoder.inputs[0].shape[1]" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize("engine", ["vision_encoder", "predictor", "decoder", "text_encoder"])
def test_an_engine_without_its_first_input_is_refused(bundle: Path, engine: str) -> None:
    edit(bundle, lambda raw: raw["engines"][engine]["inputs"].pop(0))
    assert f"of {engine} is absent" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize("dtype", ["float31", "object", "", "<f4"])
def test_a_number_type_that_no_engine_has_is_refused(bundle: Path, dtype: str) -> None:
    edit(bundle, lambda raw: raw["engines"]["decoder"]["inputs"][0].update(dtype=dtype))
    assert "engines.decoder.inputs[0].dtype" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize("pair", [{"nothing": "key_cache_0"}, {"key_cache_out_0": "nothing"}, {"logits": "token"}])
def test_a_cache_that_cannot_be_updated_in_place_is_refused(bundle: Path, pair: dict[str, str]) -> None:
    edit(bundle, lambda raw: raw["engines"]["decoder"].update(in_place=pair))
    assert "in place" in refusal(lambda: read_manifest(bundle))
