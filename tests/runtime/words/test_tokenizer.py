from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLACK, BLUE, END, GREEN, PAD, RED, UNKNOWN, WORDS, YELLOW
from vlj_edge import VljEdgeError, bundle
from vlj_edge.runtime.engines.base import Engine, open_engine
from vlj_edge.runtime.words.decode import decode
from vlj_edge.runtime.words.tokenizer import FixedLengthTokenizer


@pytest.fixture
def tokens(tiny_bundle: Path) -> FixedLengthTokenizer:
    return FixedLengthTokenizer(tiny_bundle, bundle.read_manifest(tiny_bundle), "query")


def test_text_is_padded_and_masked(tokens: FixedLengthTokenizer) -> None:
    ids, mask = tokens.encode("what colour\tzebra ")
    assert ids.dtype == np.int64
    assert mask.dtype == np.bool_
    assert ids.tolist() == [[WORDS.index("what"), WORDS.index("colour"), UNKNOWN, PAD, PAD, PAD]]
    assert mask.tolist() == [[True, True, True, False, False, False]]


def test_a_text_that_is_too_long_is_refused(tokens: FixedLengthTokenizer) -> None:
    ids, mask = tokens.encode("blue " * 6)
    assert ids.tolist() == [[WORDS.index("blue")] * 6] and mask.all()
    with pytest.raises(VljEdgeError, match=r"^'blue blue .*' has more than the 6 tokens the bundle takes:"):
        tokens.encode("blue " * 7)


def test_special_tokens_count_and_what_the_file_says_of_lengths_does_not(tiny_bundle: Path, tmp_path: Path) -> None:
    # BERT's [SEP]: a sentence encoder was never trained without it
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", END)])
    tokenizer.enable_padding(length=9)  # what a file brings along must not count: the engine's length does
    tokenizer.enable_truncation(3)
    tokenizer.save(str(directory / "tokenizer.json"))
    manifest = bundle.read_manifest(directory)
    manifest = replace(manifest, files={"tokenizer.json": bundle.seal(directory / "tokenizer.json")})
    tokens = FixedLengthTokenizer(directory, manifest, "query")
    assert tokens.encode("blue " * 5)[0].tolist() == [[WORDS.index("blue")] * 5 + [END]]
    with pytest.raises(VljEdgeError, match="more than the 6 tokens"):
        tokens.encode("blue " * 6)
    assert tokens.encode("blue")[0].tolist() == [[WORDS.index("blue"), END, PAD, PAD, PAD, PAD]]


def test_prefix_comes_first(tiny_bundle: Path) -> None:
    ids, _ = FixedLengthTokenizer(tiny_bundle, bundle.read_manifest(tiny_bundle), "text_encoder").encode("screen")
    assert ids[0, :2].tolist() == [WORDS.index("a"), WORDS.index("screen")]


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_empty_text_is_refused(tiny_bundle: Path, text: str) -> None:
    for name in ("query", "text_encoder"):  # also where a prefix would fill it
        with pytest.raises(VljEdgeError, match="the text is empty"):
            FixedLengthTokenizer(tiny_bundle, bundle.read_manifest(tiny_bundle), name).encode(text)


def test_decoding_leaves_special_tokens_out(tokens: FixedLengthTokenizer) -> None:
    assert tokens.decode([WORDS.index("blue"), PAD, WORDS.index("screen"), END]) == "blue screen"
    assert tokens.decode([]) == ""


def test_changed_tokenizer_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    path = directory / "tokenizer.json"
    path.write_text(path.read_text().replace("blue", "glue"))
    with pytest.raises(VljEdgeError, match=r"tokenizer\.json is not the file"):
        FixedLengthTokenizer(directory, bundle.read_manifest(directory), "query")


def test_file_that_is_no_tokenizer_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (directory / "tokenizer.json").write_text("{}")
    manifest = bundle.read_manifest(directory)
    manifest = replace(manifest, files={"tokenizer.json": bundle.seal(directory / "tokenizer.json")})
    with pytest.raises(VljEdgeError, match="is not a tokenizer") as caught:
        FixedLengthTokenizer(directory, manifest, "query")
    assert "\n" not in str(caught.value)


# --- the token loop


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "float16"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = by_hand.build(tmp_path_factory.mktemp("bundle") / "b", half=request.param)
    return open_engine(directory, bundle.read_manifest(directory), "decoder")


def test_texts_one_after_another_from_one_cache(decoder: Engine, tokens: FixedLengthTokenizer) -> None:
    # long after short and short after long: what the text before left in the caches must not show
    expected = [
        (RED, "a red screen", 4),
        (YELLOW, "yellow forever forever forever forever forever", 6),  # never ends: the cache's capacity stops it
        (BLUE, "blue", 2),
        (GREEN, "green light glows", 4),
        (BLACK, "", 1),
        (RED, "a red screen", 4),
    ]
    for colour, text, runs in expected:
        ids, found_runs = decode(decoder, by_hand.embedding_of(colour), END, by_hand.CAPACITY)
        assert (tokens.decode(ids), found_runs) == (text, runs)
        assert END not in ids


def test_caches_hold_the_text_in_place(decoder: Engine) -> None:
    decode(decoder, by_hand.embedding_of(RED), END, by_hand.CAPACITY)
    keys = decoder.inputs["key_cache_0"]
    assert decoder.outputs["key_cache_out_0"] is keys
    assert keys[0, 0, :4, 0].tolist() == [0, *[WORDS.index(word) for word in ("a", "red", "screen")]]


def test_without_an_end_the_capacity_ends_the_text(decoder: Engine) -> None:
    ids, runs = decode(decoder, by_hand.embedding_of(BLUE), None, by_hand.CAPACITY)
    assert runs == len(ids) == by_hand.CAPACITY
    assert ids[1] == END
