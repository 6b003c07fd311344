"""Ranks, shares and intervals against scikit-learn, a sort, and all orders of a few candidates."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from vlj_edge.runtime.evaluation.data import Clip, Data
from vlj_edge.runtime.evaluation.embed import TextEmbeddings
from vlj_edge.runtime.evaluation.evaluation import evaluate
from vlj_edge.runtime.evaluation.figures import (
    RESAMPLES,
    chance_within,
    difference,
    mean,
    median_rank,
    predicted,
    ranks,
    share_within,
)

CLASSES, CASES = 7, 60


def classified(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    true = random.integers(0, CLASSES, CASES)
    scores = random.normal(size=(CASES, CLASSES)).astype(np.float32)
    scores[np.arange(CASES), true] += 1
    return scores, true


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1, 2, 5])
def test_accuracy_is_that_of_scikit_learn(seed: int, most: int) -> None:
    scores, true = classified(seed)
    right = np.eye(CLASSES, dtype=bool)[true]
    ours = share_within(ranks(scores, right), most, right, range(CASES))
    assert ours.value == pytest.approx(top_k_accuracy_score(true, scores, k=most, labels=range(CLASSES)))
    assert ours.cases == CASES and ours.low is not None and ours.high is not None
    assert ours.low < ours.value < ours.high
    assert ours.chance == pytest.approx(most / CLASSES)


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_those_of_scikit_learn(seed: int) -> None:
    scores, true = classified(seed)
    labels = tuple(f"class {n}" for n in range(CLASSES))
    clips = {Clip(Path(f"{n}.mp4"), 0.0, None, (labels[label],), ()): scores[n][None] for n, label in enumerate(true)}
    data = Data(tuple(clips), labels, labels=True)
    found = evaluate(data, TextEmbeddings(np.eye(CLASSES, dtype=np.float32), {}), clips)
    precision, recall, _, support = precision_recall_fscore_support(true, scores.argmax(1), zero_division=np.nan)
    confusions = confusion_matrix(true, scores.argmax(1))
    assert len(found.classes) == CLASSES
    for each in found.classes:
        n = labels.index(each.label)
        assert (each.clips, each.recall.value) == (support[n], pytest.approx(recall[n]))
        assert (each.recall.low is None) == (each.clips == 1), "one video gives no interval"
        assert each.recall.low is None or each.recall.low <= each.recall.value <= (each.recall.high or 0)
        found_precision = np.nan if each.precision is None else each.precision.value
        assert found_precision == pytest.approx(precision[n], nan_ok=True)
        assert {labels.index(label): count for label, count in each.taken_for} == {
            other: count for other, count in enumerate(confusions[n]) if count and other != n
        }
    assert [each.recall.value for each in found.classes] == pytest.approx(sorted(recall))
    assert found.measures["classification"]["top1"].value == pytest.approx(np.trace(confusions) / CASES)


few = some.integers(-2, 2).map(float)  # so that many are the same


@given(some.integers(1, 8).flatmap(lambda n: some.lists(some.tuples(few, some.booleans()), min_size=n, max_size=n)))
def test_a_rank_counts_what_is_wrong_and_as_near(candidates: list[tuple[float, bool]]) -> None:
    candidates = [*candidates, (0.0, True)]
    order = sorted(candidates, key=lambda each: (-each[0], each[1]))  # the wrong ones first among equals
    first = next(n for n, (_, right) in enumerate(order) if right)
    scores = np.array([[score for score, _ in candidates]], np.float32)
    right = np.array([[right for _, right in candidates]])
    assert ranks(scores, right).tolist() == [first + 1]


@given(some.lists(few, min_size=2, max_size=6), some.data())
def test_what_is_predicted_is_right_if_the_rank_is_one(scores: list[float], data: some.DataObject) -> None:
    true = data.draw(some.integers(0, len(scores) - 1))
    row, right = np.array([scores], np.float32), np.arange(len(scores))[None] == true
    [nearest] = predicted(row, np.array([true]))
    assert (nearest == true) == (ranks(row, right)[0] == 1)
    assert scores[nearest] == max(scores)


def test_the_same_for_everything_gets_nothing_right() -> None:
    right = np.eye(4, dtype=bool)
    found = ranks(np.zeros((4, 4), np.float32), right)
    assert found.tolist() == [4] * 4
    assert share_within(found, 1, right, range(4)).value == 0


@pytest.mark.parametrize("most", [1, 2, 3, 9])
@pytest.mark.parametrize("right", [(True, False, False, False), (True, True, False, True), (False, True, True, False)])
def test_chance_is_the_share_of_all_orders(most: int, right: tuple[bool, ...]) -> None:
    orders = list(permutations(right))
    assert chance_within(np.array([right]), most) == pytest.approx(np.mean([any(each[:most]) for each in orders]))


def test_cases_of_one_video_are_resampled_together() -> None:
    found, right = np.array([1] * 50 + [9] * 50), np.eye(100, 12, dtype=bool) | (np.arange(12) == 0)
    alone = share_within(found, 1, right, range(100))
    together = share_within(found, 1, right, [n // 50 for n in range(100)])
    assert (alone.value, together.value) == (0.5, 0.5)
    assert (together.low, together.high) == (0, 1), "two videos: one right, one wrong"
    assert alone.low is not None and 0.35 < alone.low < 0.5
    assert share_within(found, 1, right, ["one"] * 100).low is None


def test_the_median_is_that_of_ranks_and_is_the_same_every_time() -> None:
    found = np.random.default_rng(1).integers(1, 40, 51)
    first = median_rank(found, range(51))
    assert first.value == np.median(found) and first == median_rank(found, range(51))
    assert first.low is not None and first.high is not None and first.low <= first.value <= first.high
    assert RESAMPLES >= 1000


@given(some.integers(0, 1000), some.integers(2, 30), some.integers(1, 8))
def test_a_difference_is_that_of_each_case_and_cases_are_drawn_in_pairs(seed: int, count: int, videos: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(size=(2, count))
    groups = random.integers(0, videos, count).tolist()
    found, each = difference(mean(one, groups), mean(other, groups)), mean(one - other, groups)
    if len(set(groups)) < 2:
        assert found is None and each.low is None
        return
    assert found is not None and each.low is not None and found.cases == count
    assert (found.value, found.low, found.high) == pytest.approx((each.value, each.low, each.high))


def test_figures_of_other_cases_have_no_difference() -> None:
    assert difference(mean(np.ones(4), range(4)), mean(np.ones(3), range(3))) is None
