"""Scores of windows, on the bundle that is computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLUE, GREEN, RED, YELLOW
from vlj_edge import VljEdgeError
from vlj_edge.bundle import LabelSettings
from vlj_edge.runtime.alerts.score import LabelProbability, References, make_scorer
from vlj_edge.runtime.alerts.settings import Alert, Example
from vlj_edge.runtime.embedding.classify import label_scores
from vlj_edge.runtime.model import Model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return vlj_edge.load(by_hand.build(tmp_path_factory.mktemp("alerts") / "bundle"))


def rows(*each: list[float]) -> np.ndarray:
    return np.array(each, np.float32).reshape(-1, 2)


def test_the_score_is_that_of_a_softmax_with_none() -> None:
    seen = np.array([0.6, 0.8], np.float32)
    cosines, settings = np.array([0.6, 0.8], np.float32), LabelSettings(temperature=0.1, none_below=0.5)
    scores, _ = label_scores(cosines, settings)
    found = References(rows([1, 0]), rows([0, 1]), 0.5, 0.1)(seen)
    assert found == pytest.approx(float(scores[0]), abs=1e-5)


def test_one_of_several_texts_is_enough_and_more_of_them_add_nothing() -> None:
    seen = np.array([1, 0], np.float32)
    one, two = References(rows([1, 0]), rows(), 0.5, 0.1), References(rows([1, 0], [1, 0], [0, 1]), rows(), 0.5, 0.1)
    assert one(seen) == two(seen) > 0.99


def test_far_away_is_zero_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert References(rows([1, 0]), rows(), 1.0, 1e-4)(np.array([-1, 0], np.float32)) == pytest.approx(0.0)
    assert References(rows([1, 0]), rows(), -np.inf, 0.1)(np.array([-1, 0], np.float32)) == 1.0
    assert not list(recwarn)


def test_a_text_scores_what_it_says_higher_than_its_opposite(model: Model) -> None:
    scorer = make_scorer(model, Alert("x", ("red",), ("blue", "green")))
    scores = [scorer(by_hand.embedding_of(colour)) for colour in (RED, BLUE, GREEN)]
    assert scores[0] > 0.9 and max(scores[1:]) < 0.1


def test_examples_score_like_themselves_and_not_like_the_rest_of_their_video(
    model: Model, make_video: Callable[..., Path]
) -> None:
    path = make_video([(RED, 5), (BLUE, 5), (GREEN, 5)])
    scorer = make_scorer(model, Alert("x", like=(Example(str(path), 2.0),)))
    assert scorer(by_hand.embedding_of(RED)) > 0.9
    assert scorer(by_hand.embedding_of(BLUE)) < 0.1 and scorer(by_hand.embedding_of(GREEN)) < 0.1


@pytest.mark.parametrize(
    ("alert", "named"),
    [
        (Alert("one", label="jump"), "labels of its own"),
        (Alert("two", ("red " * 30,)), "two"),
        (Alert("three", like=(Example("/nowhere.mp4", 1.0),)), "nowhere"),
    ],
)
def test_what_the_model_cannot_watch_for_is_refused_with_the_name(model: Model, alert: Alert, named: str) -> None:
    with pytest.raises(VljEdgeError, match=f"alert '{alert.name}'") as caught:
        make_scorer(model, alert)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_an_example_beyond_its_video_is_refused(model: Model, make_video: Callable[..., Path]) -> None:
    path = make_video([(YELLOW, 2)])
    with pytest.raises(VljEdgeError, match="99 s"):
        make_scorer(model, Alert("x", like=(Example(str(path), 99.0),)))
    with pytest.raises(VljEdgeError, match="fill"):
        make_scorer(model, Alert("x", like=(Example(str(path), 1.0),)))


LABELS = ["Opening something", "Closing something", "Pushing A", "pushing a", "Holding  [one] thing"]


def of_a_head(label: str) -> LabelProbability:
    """What scores a label of a model that has these labels."""
    model = SimpleNamespace(
        manifest=SimpleNamespace(label_head=object()),
        chain=SimpleNamespace(label_head=(None, LABELS)),
        directory=Path("bundle"),
    )
    scorer = make_scorer(cast(Model, model), Alert("door", label=label))
    assert isinstance(scorer, LabelProbability)
    return scorer


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("Opening something", 0),
        ("opening SOMETHING", 0),
        ("  Closing  something ", 1),
        ("Pushing A", 2),
        ("pushing a", 3),
        ("holding [one] thing\n", 4),
    ],
)
def test_a_label_is_found_in_any_case_and_with_space_around_it(label: str, index: int) -> None:
    assert of_a_head(label).index == index


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("PUSHING A", ("'Pushing A'", "'pushing a'")),  # of which neither is written so
        ("opening somthing", ("'Opening something'",)),
        ("Clsing something", ("'Closing something'",)),
        ("???", ("'Opening something'", "5")),
        (" ", ("labels",)),
    ],
)
def test_a_label_that_no_or_several_labels_fit_is_refused_with_the_nearest(label: str, named: tuple[str, ...]) -> None:
    with pytest.raises(VljEdgeError, match="alert 'door'") as caught:
        of_a_head(label)
    assert all(each in str(caught.value) for each in named) and "\n" not in str(caught.value)
