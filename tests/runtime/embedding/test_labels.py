"""Labels, classification and questions on the bundle that is computed by hand; nano's quality is in results/."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge import VljEdgeError, bundle
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.results import Window, WindowAnswers, WindowEmbedding
from vlj_edge.runtime.embedding.ask import Questions, answer_questions
from vlj_edge.runtime.embedding.classify import classify, probabilities, watch
from vlj_edge.runtime.embedding.labels import LabelBank, load_bank, make_bank, read_labels, save_bank
from vlj_edge.runtime.model import Model

LABELS = ["red", "green", "blue"]
SETTINGS = bundle.LabelSettings(temperature=0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return vlj_edge.load(by_hand.build(tmp_path_factory.mktemp("labels") / "bundle"))


@pytest.fixture(scope="module")
def bank(model: Model) -> LabelBank:
    return make_bank(model, LABELS)


def items(colours: list[tuple[int, int, int]]) -> Iterator[WindowEmbedding]:
    for index, colour in enumerate(colours):
        yield WindowEmbedding(Window(index, index / 2, index / 2 + 1), by_hand.embedding_of(colour), True)


# --- banks


def test_a_label_is_the_mean_of_its_templates(model: Model) -> None:
    found = make_bank(model, LABELS, templates=("{}", "{} screen"))
    for label, row in zip(LABELS, found.embeddings, strict=True):
        mean = np.mean([model.embed_text(label), model.embed_text(f"{label} screen")], axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
    assert found.embeddings.dtype == np.float32 and found.labels == tuple(LABELS)


def test_a_bank_is_read_as_it_was_written_without_the_text_encoder(
    model: Model, bank: LabelBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bank.npz"
    save_bank(bank, path)
    fresh = vlj_edge.load(model.directory)
    monkeypatch.setattr(Model, "embed_text", None)
    found = load_bank(path, fresh)
    assert (found.labels, found.space) == (bank.labels, bank.space)
    np.testing.assert_array_equal(found.embeddings, bank.embeddings)
    assert "text_encoder" not in fresh.chain._loaded and os.listdir(tmp_path) == ["bank.npz"]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "missing", "pickle", "fewer labels"])
def test_what_is_no_bank_is_refused(model: Model, bank: LabelBank, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bank.npz"
    save_bank(bank, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage in ("text", "empty"):
        path.write_text("red,green" if damage == "text" else "")
    elif damage == "missing":
        path.unlink()
    elif damage == "pickle":
        with path.open("wb") as stream:
            np.savez(stream, labels=np.array([object()]), embeddings=bank.embeddings, space=np.zeros(1))
    else:
        save_bank(replace(bank, labels=bank.labels[:2]), path)
    with pytest.raises(VljEdgeError, match=r"is no bank of labels .*: make one with vlj-edge labels") as caught:
        load_bank(path, model)
    assert "\n" not in str(caught.value) and "pickle" not in str(caught.value)


def test_a_bank_of_other_weights_is_refused(model: Model, bank: LabelBank, tmp_path: Path) -> None:
    path = tmp_path / "bank.npz"
    save_bank(replace(bank, space="0123456789abcdef"), path)
    with pytest.raises(VljEdgeError, match="made with other weights"):
        load_bank(path, model)


def test_the_space_is_that_of_the_weights_and_not_of_the_files(model: Model) -> None:
    manifest = replace(model.manifest, receipt={"weights": {"model.safetensors": "ab"}})
    same = replace(manifest, files={}, receipt={"weights": {"model.safetensors": "ab"}, "made": "later"})
    assert embedding_space(manifest) == embedding_space(same) != embedding_space(model.manifest)
    assert embedding_space(manifest) != embedding_space(
        replace(manifest, receipt={"weights": {"model.safetensors": "cd"}})
    )


def test_no_room_for_a_bank_leaves_the_old_one(
    bank: LabelBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bank.npz"
    save_bank(bank, path)
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(VljEdgeError, match="No space left on device"):
        save_bank(bank, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["bank.npz"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "there are no labels"),
        (["red", "red"], "the label 'red' is there twice"),
        (["red", "zebra", "giraffe"], "'giraffe' and 'zebra' are the same to the text encoder"),
        (["red " * 9], "has more than the 6 tokens"),
    ],
)
def test_labels_that_cannot_be_used(model: Model, labels: list[str], message: str) -> None:
    with pytest.raises(VljEdgeError, match=message):
        make_bank(model, labels)


def test_a_template_without_a_place_for_the_label(model: Model) -> None:
    with pytest.raises(VljEdgeError, match="has no place for a label"):
        make_bank(model, LABELS, templates=("a screen",))


def test_labels_from_a_list_and_from_a_file(tmp_path: Path) -> None:
    assert read_labels("red, green  light ,blue,") == ["red", "green light", "blue"]
    path = tmp_path / "labels.txt"
    path.write_text("red\n\n green, or not \nblue\n", encoding="utf-8")
    assert read_labels(str(path)) == ["red", "green, or not", "blue"]


# --- classification


def test_the_nearest_label_of_the_mean(bank: LabelBank) -> None:
    found = classify(items([RED, RED, BLUE]), bank, SETTINGS)
    assert (found.label, found.start, found.end) == ("red", 0.0, 2.0)
    assert [guess.label for guess in found.guesses] == ["red", "blue", "green"]
    mean = np.sum([by_hand.embedding_of(colour) for colour in (RED, RED, BLUE)], axis=0)
    mean /= np.linalg.norm(mean)
    for guess in found.guesses:
        cosine = bank.embeddings[bank.labels.index(guess.label)] @ mean
        assert guess.similarity == pytest.approx(cosine, abs=1e-6)
    assert sum(guess.score for guess in found.guesses) == pytest.approx(1)
    assert len(classify(items([RED]), bank, SETTINGS, top=1).guesses) == 1
    json.dumps(found.as_dict())


def of_vectors(*rows: list[float]) -> Iterator[WindowEmbedding]:
    for index, row in enumerate(rows):
        yield WindowEmbedding(Window(index, index / 2, index / 2 + 1), np.array(row, np.float32), True)


def test_the_similarity_of_many_windows_is_a_cosine(bank: LabelBank) -> None:
    axes = replace(bank, labels=("x", "y"), embeddings=np.eye(4, dtype=np.float32)[:2])
    turned = [[0.6, 0.0, 0.8, 0.0], [0.6, 0.0, -0.8, 0.0]]  # their mean points along x
    assert classify(of_vectors(*turned), axes, SETTINGS).guesses[0].similarity == pytest.approx(1)
    strict = replace(SETTINGS, none_below=0.5)
    [said] = watch(of_vectors(*turned), axes, strict)
    assert (said.label, said.guesses[0].similarity) == ("x", pytest.approx(1))
    opposite = classify(of_vectors([0, 0, 1, 0], [0, 0, -1, 0]), axes, SETTINGS)
    assert [guess.similarity for guess in opposite.guesses] == [0, 0]


@given(
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=5), st.floats(-0.9, 1)
)
def test_none_of_these_is_ranked_with_the_labels(rows: list[list[float]], none_below: float) -> None:
    vectors = [row / max(float(np.linalg.norm(row)), 1e-3) for row in map(np.array, rows)]
    axes = LabelBank(("x", "y", "z"), np.eye(3, dtype=np.float32), "space")
    found = classify(of_vectors(*vectors), axes, replace(SETTINGS, none_below=none_below))  # type: ignore[arg-type]
    assert sum(guess.score for guess in found.guesses) + found.none_score == pytest.approx(1, abs=1e-5)
    assert found.score >= max(found.none_score, *(guess.score for guess in found.guesses)) - 1e-6
    best = found.guesses[0]
    assert (found.label is None) == (best.similarity < none_below)
    assert json.loads(json.dumps(found.as_dict()))["none_score"] == found.none_score


def test_one_label_is_itself_or_none(bank: LabelBank) -> None:
    alone = replace(bank, labels=("red",), embeddings=bank.embeddings[:1])
    assert classify(items([RED]), alone, replace(SETTINGS, none_below=0.5)).label == "red"
    nothing = classify(items([BLUE]), alone, replace(SETTINGS, none_below=0.5))
    assert (nothing.label, nothing.score) == (None, nothing.none_score) and nothing.none_score > 0.99
    assert nothing.guesses[0].score < 0.01
    assert classify(items([BLUE]), alone, SETTINGS).none_score == 0, "there is no such answer"


def test_nothing_to_look_at(bank: LabelBank) -> None:
    with pytest.raises(VljEdgeError, match="no window to look at"):
        classify(items([]), bank, SETTINGS)


def test_it_speaks_when_the_answer_has_changed_and_stayed(bank: LabelBank) -> None:
    shown = [RED, RED, RED, BLUE, RED, BLUE, BLUE, BLUE, GREEN]
    found = list(watch(items(shown), bank, SETTINGS))
    assert [(answer.label, answer.start, answer.end) for answer in found] == [("red", 0, 1.5), ("blue", 2.5, 4.0)]
    assert [a.label for a in watch(items(shown), bank, SETTINGS, hold=1)] == ["red", "blue", "red", "blue", "green"]


def test_none_of_these_is_an_answer_too(bank: LabelBank) -> None:
    reds = replace(bank, labels=("red",), embeddings=bank.embeddings[:1])
    strict = replace(SETTINGS, none_below=0.5)
    shown = [BLUE, BLUE, RED, RED, GREEN, GREEN]
    assert [answer.label for answer in watch(items(shown), reds, strict)] == [None, "red", None]


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20), st.floats(0.01, 1))
def test_scores_are_shares_in_the_order_of_the_cosines(cosines: list[float], temperature: float) -> None:
    found = probabilities(np.array(cosines, np.float32), temperature)
    assert found.sum() == pytest.approx(1, abs=1e-4) and (found >= 0).all()
    for a, b in zip(*np.triu_indices(len(cosines), 1), strict=True):
        assert (cosines[a] <= cosines[b]) <= (found[a] <= found[b] + 1e-6)


# --- questions


def test_questions_are_answered_by_the_nearest_choice(
    model: Model, make_video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video([(RED, 3)])
    encoded: list[int] = []
    encoder = model.chain.vision[0]
    real = encoder.run
    monkeypatch.setattr(encoder, "run", lambda: encoded.append(1) or real())
    questions = ["what colour is it", "describe", "is it red"]
    answers = answer_questions(model, video, questions, [["red", "blue"], ["green", "red", "blue"], ["blue", "green"]])
    assert [answer.question for answer in answers] == questions
    assert [answer.choice for answer in answers[:2]] == ["red", "red"]
    assert [len(answer.guesses) for answer in answers] == [2, 3, 2]
    assert len(encoded) == 1, "a still picture under three questions"
    assert answers[0].end == pytest.approx(3, abs=0.6) and json.dumps(answers[0].as_dict())


def test_an_answer_is_given_when_it_has_changed(model: Model) -> None:
    asked = Questions(model, ["describe", "what colour is it"], [["red", "blue"], ["green", "red", "blue"]])
    assert asked.answers() == []
    changed = []
    for item in items([RED, RED, RED, BLUE, RED, BLUE, BLUE, BLUE]):
        changed.append(asked.add(WindowAnswers(item.window, np.stack([item.embedding] * 2), True)))
    assert [[answer.choice for answer in each] for each in changed] == [[], ["red"] * 2, *[[]] * 4, ["blue"] * 2, []]
    assert (changed[6][0].start, changed[6][0].end) == (2.5, 4.0)
    whole = asked.answers()
    assert [(each.question, each.start, each.end) for each in whole] == [
        ("describe", 0.0, 4.5),
        ("what colour is it", 0.0, 4.5),
    ]
    assert sum(guess.score for guess in whole[1].guesses) == pytest.approx(1)


@pytest.mark.parametrize(
    ("questions", "choices", "message"),
    [
        ([], None, "no question"),
        (["describe"], None, "--choices"),
        (["describe"], [["red"]], "two choices or more"),
        (["describe"], [["red", "red"]], "there twice"),
        (["describe"], [["zebra", "giraffe"]], "the same to the text encoder"),
        (["describe", "it"], [["red", "blue"]], "2 questions have 1 lists"),
        (["what " * 9], [["red", "blue"]], "more than the 6 tokens"),
    ],
)
def test_questions_that_cannot_be_put(
    model: Model, make_video: Any, questions: list[str], choices: list[list[str]] | None, message: str
) -> None:
    with pytest.raises(VljEdgeError, match=message):
        answer_questions(model, make_video([(RED, 1)]), questions, choices)


def test_one_string_is_not_a_list(model: Model) -> None:
    for call in (
        lambda: make_bank(model, "red"),
        lambda: answer_questions(model, "x.mp4", "red"),
        lambda: model.ask("x.mp4", "red"),
        lambda: answer_questions(model, "x.mp4", ["red"], ["ab"]),
    ):
        with pytest.raises(VljEdgeError, match="give a list"):
            call()
