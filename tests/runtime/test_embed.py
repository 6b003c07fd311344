"""Embeddings of windows and texts, and which engines are opened for them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.colours import Pictures, scenes
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge import VljEdgeError
from vlj_edge.runtime.model import Model


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_embedding_is_the_one_computed_by_hand(tmp_path: Path, half: bool) -> None:
    model = Model(by_hand.build(tmp_path / "b", half=half))
    found = list(model.embed(Pictures(scenes((RED, 8), (BLUE, 8)))))
    assert [item.window.index for item in found] == list(range(7))
    np.testing.assert_allclose(found[0].embedding, by_hand.embedding_of(RED), atol=1e-3)
    np.testing.assert_allclose(found[-1].embedding, by_hand.embedding_of(BLUE), atol=1e-3)
    assert found[0].embedding.dtype == np.float32
    assert found[3].embedding[0] == pytest.approx(0, abs=1e-3)  # half red, half blue
    for item in found:
        assert np.linalg.norm(item.embedding) == pytest.approx(1, abs=1e-5)


def test_query_reaches_the_predictor(model: Model) -> None:
    default, other = (
        next(model.embed(Pictures(scenes((RED, 4))), query)).embedding for query in (None, "what colour is it")
    )
    np.testing.assert_allclose(default, by_hand.embedding_of(RED), atol=1e-6)
    np.testing.assert_allclose(other, by_hand.embedding_of(RED, "what colour is it"), atol=1e-6)
    assert abs(default - other).max() > 0.01


def test_several_questions_are_answered_by_one_encoding(model: Model) -> None:
    queries = ["what is shown ?", "which colour ?", "what is shown ?"]
    colours = scenes((RED, 8), (BLUE, 8))
    asked = model.ask(Pictures(colours), queries)
    answers = list(asked)
    alone = [list(model.embed(Pictures(colours), query=query)) for query in queries]
    for number, answer in enumerate(answers):
        assert answer.embeddings.shape == (3, model.manifest.embedding) and answer.embeddings.dtype == np.float32
        for row, items in zip(answer.embeddings, alone, strict=True):
            np.testing.assert_array_equal(row, items[number].embedding)
        assert (answer.window, answer.encoded) == (alone[0][number].window, alone[0][number].encoded)
    totals = asked.totals
    assert 0 < totals.encoder_runs < totals.windows == len(answers)
    assert totals.predictor_runs == 3 * totals.encoder_runs
    with pytest.raises(VljEdgeError, match="no question"):
        model.ask(Pictures(colours), [])


def test_embeddings_that_were_given_out_do_not_change(model: Model) -> None:
    found = model.embed(Pictures(scenes((RED, 8), (BLUE, 8))))
    first = next(found)
    copy = first.embedding.copy()
    list(found)
    np.testing.assert_array_equal(first.embedding, copy)


def test_two_passes_at_once_do_not_mix(model: Model) -> None:
    one = model.embed(Pictures(scenes((RED, 12), (GREEN, 12))), every_window=True)
    two = model.embed(Pictures(scenes((BLUE, 24))), "what colour", every_window=True)
    mixed = list(zip(one, two, strict=True))
    alone = list(model.embed(Pictures(scenes((RED, 12), (GREEN, 12))), every_window=True))
    for (a, b), c in zip(mixed, alone, strict=True):
        np.testing.assert_array_equal(a.embedding, c.embedding)
        np.testing.assert_allclose(b.embedding, by_hand.embedding_of(BLUE, "what colour"), atol=1e-6)


def test_text_embedding_lies_with_its_pictures(model: Model) -> None:
    found = model.embed_text("red")
    similarities = {colour: float(found @ by_hand.embedding_of(colour)) for colour in (RED, GREEN, BLUE)}
    assert max(similarities, key=lambda colour: similarities[colour]) == RED
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
    other = model.embed_text("blue")
    assert found[0] > found[2]  # not overwritten
    assert other[2] > other[0]


def test_embedding_opens_no_decoder(model: Model, opened: Counter[str]) -> None:
    model = Model(model.directory)  # under the spy
    assert opened == {}
    list(model.embed(Pictures(scenes((RED, 8)))))
    assert opened == {"vision_encoder": 1, "predictor": 1}


def test_text_embedding_opens_the_text_encoder_only(model: Model, opened: Counter[str]) -> None:
    model = Model(model.directory)
    model.embed_text("red")
    assert opened == {"text_encoder": 1}


def test_engines_are_opened_once(model: Model, opened: Counter[str]) -> None:
    model = Model(model.directory)
    for _ in range(3):
        list(model.narrate(Pictures(scenes((RED, 8)))))
    assert opened == {"vision_encoder": 1, "predictor": 1, "decoder": 1}


@pytest.mark.parametrize("name", ["vision_encoder", "predictor", "decoder"])
def test_changed_byte_is_an_error_of_the_call(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    path = directory / f"{name}.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VljEdgeError, match=rf"{name}\.onnx is not the file"):
        Model(directory).narrate(Pictures(scenes((RED, 8))))


def test_no_bundle_and_no_backend_are_errors_of_loading(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(VljEdgeError, match="is no bundle"):
        vlj_edge.load(tmp_path)
    with pytest.raises(VljEdgeError, match="no engine backend"):
        Model(tiny_bundle, backend="abacus")
