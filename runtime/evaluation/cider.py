"""CIDEr of one sentence against references, as pycocoevalcap computes it (clipped counts, a penalty on length).

Vedantam et al., CIDEr (arXiv 1411.5726). pycocoevalcap scores one sentence per set of references; here
many sentences are scored against the same references, so these are counted once. Tests compare the two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

LONGEST = 4  # words of an n-gram
SIGMA = 6.0  # of the penalty on a difference in length
SCALE = 10.0  # as in published results

Vector = tuple[list[dict[tuple[str, ...], float]], list[float], int]  # weights for each n, their norms, length


class Cider:
    """Scores against a fixed corpus: `references` is, for each thing described, its sentences."""

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        documents = Counter(gram for group in references for gram in {g for text in group for g in _grams(text)})
        self._rarity = {gram: math.log(max(1.0, count)) for gram, count in documents.items()}
        self._corpus = math.log(len(references))
        self._references = [[self._weigh(text) for text in group] for group in references]
        self.score = lru_cache(maxsize=None)(self._score)

    def _score(self, number: int, text: str) -> float:
        """CIDEr of `text` for the thing `number`, 0..10."""
        candidate = self._weigh(text)
        group = self._references[number]
        return SCALE * sum(_similarity(candidate, reference) for reference in group) / len(group)

    def _weigh(self, text: str) -> Vector:
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
        counts = _grams(text)
        for gram, count in counts.items():
            weights[len(gram) - 1][gram] = count * (self._corpus - self._rarity.get(gram, 0.0))
        norms = [math.sqrt(sum(value**2 for value in part.values())) for part in weights]
        return weights, norms, sum(count for gram, count in counts.items() if len(gram) == 2)


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1))


def _similarity(candidate: Vector, reference: Vector) -> float:
    """Mean over n of the clipped cosine, less for a difference in length (counted in bigrams, as the original does)."""
    total = 0.0
    for weights, target, norm, other in zip(candidate[0], reference[0], candidate[1], reference[1], strict=True):
        product = sum(min(value, target[gram]) * target[gram] for gram, value in weights.items() if gram in target)
        total += product / (norm * other) if norm and other else product
    return total / LONGEST * math.exp(-((candidate[2] - reference[2]) ** 2) / (2 * SIGMA**2))
