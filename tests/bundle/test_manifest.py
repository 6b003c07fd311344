"""Any manifest that export could write is read back; any other is refused with its file and place."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundle.damage import edit, refusal
from vlj_edge import VljEdgeError
from vlj_edge.bundle import (
    ENGINE_NAMES,
    MANIFEST,
    SCHEMA_VERSION,
    TOKENIZER_NAMES,
    CaptionMemorySettings,
    EngineSpec,
    FileSeal,
    GateSettings,
    Manifest,
    MeaningGateSettings,
    SceneGateSettings,
    TensorSpec,
    TokenizerSpec,
    read_manifest,
    write_manifest,
)
from vlj_edge.presets import Clip, Preprocess

# --- written and read again

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
file_names = st.from_regex(r"[a-z0-9_]{1,8}(/[a-z0-9_]{1,8})?\.(onnx|json)", fullmatch=True)
fractions = st.floats(-1, 1)
counts = st.integers(1, 2**40)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that an export could write."""
    embedding, crop, query, text, said = (draw(st.integers(1, 5000)) for _ in range(5))
    clip = Clip(draw(st.integers(1, 64)), draw(st.floats(0.001, 1000)), draw(st.integers(1, 64)))
    colour = st.tuples(fractions, fractions, fractions)
    std = st.floats(1e-3, 1)
    engine_file, tokenizer_file = draw(file_names), draw(file_names)
    dtype = draw(st.sampled_from(["float32", "float16"]))
    cache = (1, draw(counts), said, draw(counts))

    def engine(inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], **more: Any) -> EngineSpec:
        return EngineSpec(
            engine_file,
            draw(names),
            draw(st.integers(1, 30)),
            tuple(TensorSpec(name, dtype, shape) for name, shape in inputs.items()),
            tuple(TensorSpec(name, dtype, shape) for name, shape in outputs.items()),
            **more,
        )

    tokens = (1, draw(counts), draw(counts))
    vector = {"embedding": (1, embedding)}
    return Manifest(
        preset=draw(names),
        embedding=embedding,
        preprocess=Preprocess(draw(counts), crop, draw(colour), (draw(std), draw(std), draw(std))),
        clip=clip,
        default_query=draw(names),
        engines={
            "vision_encoder": engine({"pixels": (1, clip.frames, 3, crop, crop)}, {"visual_tokens": tokens}),
            "predictor": engine(
                {"visual_tokens": tokens, "query_ids": (1, query), "query_mask": (1, query)},
                vector,
                kept_fp32=tuple(draw(st.lists(names, max_size=3))),
            ),
            "decoder": engine(
                vector | {"token": (1, 1), "position": (1,), "key_cache_0": cache},
                {"next_token": (1, 1), "key_cache_out_0": cache},
                in_place={"key_cache_out_0": "key_cache_0"},
            ),
            "text_encoder": engine({"text_ids": (1, text), "text_mask": (1, text)}, vector),
        },
        tokenizers={
            "query": TokenizerSpec(tokenizer_file, query, draw(st.integers(0, 300000))),
            "decoder": TokenizerSpec(tokenizer_file, said, 0, draw(st.none() | st.integers(0, 300000))),
            "text_encoder": TokenizerSpec(tokenizer_file, text, 0, text_prefix=draw(names)),
        },
        gates=GateSettings(
            SceneGateSettings(draw(st.booleans()), draw(fractions), draw(fractions)),
            MeaningGateSettings(draw(st.booleans()), smoothing=draw(counts), speak_below=draw(fractions)),
            CaptionMemorySettings(draw(st.booleans()), draw(fractions), draw(counts)),
        ),
        files={name: FileSeal(draw(counts), "0" * 64) for name in {engine_file, tokenizer_file, draw(file_names)}},
        receipt=draw(st.dictionaries(names, names | st.none() | st.integers())),
        parity={"rows": draw(st.lists(st.dictionaries(names, fractions | st.none()), max_size=2))},
    )


@given(manifest=manifests())
@settings(max_examples=60)
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("manifest")
    write_manifest(directory, manifest)
    assert read_manifest(directory) == manifest


def test_a_manifest_is_json_that_a_person_can_read(bundle: Path) -> None:
    write_manifest(bundle, replace(read_manifest(bundle), default_query="Was zeigt das Video über dem Tisch?"))
    text = (bundle / MANIFEST).read_text(encoding="utf-8")
    assert "über dem Tisch" in text
    assert len(text.splitlines()) > 50


# --- no manifest, or none of ours


def test_what_is_no_bundle_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    message = refusal(lambda: read_manifest(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in message
    assert "vlj-edge export --out" in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "onnx", "[]", '"manifest"', "null", "1", "true", "{}", "[" * 100_000, '{"schema_version": 1'],
    ids=["empty", "cut", "word", "list", "string", "null", "number", "true", "no version", "very deep", "cut late"],
)
def test_what_is_no_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / MANIFEST).write_text(text, encoding="utf-8")
    message = refusal(lambda: read_manifest(bundle))
    assert str(bundle / MANIFEST) in message
    assert "export the bundle again" in message


def test_bytes_that_are_no_text_are_refused(bundle: Path) -> None:
    (bundle / MANIFEST).write_bytes(b"\xff\xfe\x00{")
    assert str(bundle / MANIFEST) in refusal(lambda: read_manifest(bundle))


def test_a_manifest_that_is_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / MANIFEST).rename(tmp_path / "elsewhere.json")
    (bundle / MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    assert "link" in refusal(lambda: read_manifest(bundle))


def test_a_newer_schema_asks_for_an_upgrade(bundle: Path) -> None:
    edit(bundle, lambda raw: raw.update(schema_version=SCHEMA_VERSION + 1))
    message = refusal(lambda: read_manifest(bundle))
    assert str(bundle / MANIFEST) in message
    assert f"schema version {SCHEMA_VERSION + 1}" in message
    assert "upgrade vlj-edge" in message


def test_a_newer_schema_asks_for_an_upgrade_even_if_nothing_else_is_as_it_was(bundle: Path) -> None:
    (bundle / MANIFEST).write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, "parts": []}), encoding="utf-8")
    assert "upgrade vlj-edge" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize("version", [0, -1, "1", "2", 1.0, True, None, [1]])
def test_an_older_schema_or_none_asks_for_a_new_export(bundle: Path, version: object) -> None:
    edit(bundle, lambda raw: raw.update(schema_version=version))
    message = refusal(lambda: read_manifest(bundle))
    assert "export the bundle again" in message
    assert "upgrade" not in message


# --- fields


REQUIRED = [part.name for part in fields(Manifest) if part.name not in ("captions", "labels", "prefix")]


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


# --- any change at all


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*way, key)
        yield from places(item, (*way, key))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=5,
)


@given(value=anything, chance=st.randoms(use_true_random=False), remove=st.booleans())
@settings(max_examples=300)
def test_whatever_is_changed_the_manifest_is_read_or_refused(
    value: Any, chance: random.Random, remove: bool, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = json.loads((tiny_bundle / MANIFEST).read_text(encoding="utf-8"))
    *way, last = chance.choice(list(places(raw)))
    place = raw
    for key in way:
        place = place[key]
    if remove:
        del place[last]
    else:
        place[last] = value
    directory = tmp_path_factory.mktemp("changed")
    (directory / MANIFEST).write_text(json.dumps(raw), encoding="utf-8")
    try:
        manifest = read_manifest(directory)
    except VljEdgeError as error:
        assert str(directory) in str(error)
        assert str(error).isprintable()
    else:
        write_manifest(directory, manifest)
        assert read_manifest(directory) == manifest
