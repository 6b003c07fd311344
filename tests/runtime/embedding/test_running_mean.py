"""When an answer has changed, and what is known until now."""

from __future__ import annotations

import numpy as np
import pytest

from vlj_edge.results import Window, WindowEmbedding
from vlj_edge.runtime.embedding.running_mean import ChangeDetector, RunningMean, mean_direction

AXES = np.eye(3, dtype=np.float32)


def changes(shown: str, hold: int = 2, every: float = float("inf")) -> list[tuple[float, float, str]]:
    """Start and end of what was found, and the nearest letter; each letter of `shown` is a window of 1 s."""

    def nearest(embedding: np.ndarray) -> str | None:
        return None if embedding[2] > 0.9 else "ab"[int(embedding[:2].argmax())]

    detector, found = ChangeDetector(nearest, hold, every), []
    for number, letter in enumerate(shown):
        span = detector.add(Window(number, number, number + 1), AXES["ab-".index(letter)])
        if span is not None:
            assert np.linalg.norm(span.mean) == pytest.approx(1)
            found.append((span.start, span.end, nearest(span.mean) or "-"))
    return found


def test_an_answer_changes_once_another_has_held() -> None:
    assert changes("aaabbaba--b") == [(0, 2, "a"), (3, 5, "b"), (8, 10, "-")]
    assert changes("ab", hold=1) == [(0, 1, "a"), (1, 2, "b")]
    assert changes("a") == []


def test_an_answer_is_repeated_after_a_while() -> None:
    assert changes("aaaaaaaa", every=3) == [(0, 2, "a"), (0, 5, "a"), (0, 8, "a")]
    assert changes("aabbbbb", every=3) == [(0, 2, "a"), (2, 4, "b"), (2, 7, "b")]


def test_an_answer_that_wavers_for_ever_is_given_all_the_same() -> None:
    assert changes("ab" * 6 + "a") == []
    found = changes("ab" * 6 + "a", every=5)
    assert [(start, end) for start, end, _ in found] == [(0, 5), (5, 10)]


def test_the_mean_is_of_all_that_was_added() -> None:
    whole = RunningMean()
    assert whole.span() is None and whole.count == 0
    items = [WindowEmbedding(Window(n, n / 2, n / 2 + 2), AXES[n % 2], True) for n in range(5)]
    assert list(whole.of(items)) == items
    span = whole.span()
    assert span is not None and (span.start, span.end, whole.count, whole.seconds) == (0, 4, 5, 4)
    np.testing.assert_allclose(span.mean, np.array([3, 2, 0]) / np.sqrt(13), atol=1e-6)


def test_each_row_is_scaled_and_nothing_is_divided_by_zero() -> None:
    found = mean_direction(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], atol=1e-6)
    assert found.dtype == np.float32
