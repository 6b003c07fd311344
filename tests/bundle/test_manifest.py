"""Any manifest that export could write is read back; any other is refused with its file and place."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundle.damage import edit, refusal
from vlj_edge import VljEdgeError
from vlj_edge.bundle import (
    DEFAULT_GATES,
    MANIFEST,
    SCHEMA_VERSION,
    CaptionMemorySettings,
    EngineSpec,
    FileSeal,
    GateSettings,
    Manifest,
    MeaningGateSettings,
    SceneGateSettings,
    TensorSpec,
    TokenizerSpec,
    nano_bundle,
    read_manifest,
    write_manifest,
)
from vlj_edge.errors import printable
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
            SceneGateSettings(draw(st.booleans()), draw(st.floats(0, 1)), draw(st.floats(0, 1))),
            MeaningGateSettings(draw(st.booleans()), smoothing=draw(st.integers(1, 1000)), speak_below=draw(fractions)),
            CaptionMemorySettings(draw(st.booleans()), draw(fractions), capacity=draw(st.integers(0, 65536))),
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
        assert str(error) == printable(str(error))
    else:
        write_manifest(directory, manifest)
        assert read_manifest(directory) == manifest


def test_a_bundle_with_settings_that_are_gone_is_read(bundle: Path) -> None:
    edit(bundle, lambda raw: raw["gates"]["meaning"].update(hold_growth=0.5))
    assert not hasattr(read_manifest(bundle).gates.meaning, "hold_growth")


def test_gates_that_nothing_was_calibrated_for_follow_the_stream(bundle: Path) -> None:
    assert not any(read_manifest(each).gates.meaning.relative for each in (bundle, nano_bundle()))
    path = bundle / MANIFEST
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["receipt"]["gates"] = DEFAULT_GATES
    del fields["gates"]["meaning"]["relative"]  # as in bundles of earlier versions
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert read_manifest(bundle).gates == GateSettings(meaning=MeaningGateSettings(relative=True))
