"""What a model gets right of the data: classification, retrieval both ways, multiple choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .data import Clip, Data
from .embed import TextEmbeddings, Vectors
from .figures import Measure, Right, Scores, median_rank, predicted, ranks, share, share_within

TOPS = (1, 5)
RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares.

    Attributes:
        clips: of this class.
        recall: the share of them that is recognised.
        precision: of the clips that are taken for this class, the share that is of it; None if there are none.
        taken_for: other classes that its clips are taken for, most often first, with how often.
    """

    label: str
    clips: int
    recall: float
    precision: float | None
    taken_for: tuple[tuple[str, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes in plain JSON types."""
        precision = None if self.precision is None else round(self.precision, 4)
        return {
            "label": self.label,
            "clips": self.clips,
            "recall": round(self.recall, 4),
            "precision": precision,
            "taken_for": dict(self.taken_for),
        }


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model.

    Attributes:
        clips: that were measured.
        measures: task -> name -> figure. Tasks are "classification" (top1, top5), "text_to_video" and "video_to_text"
            (r1, r5, r10, median_rank), "multiple_choice" (accuracy); those that the data has.
        classes: with classification, one for each class of a measured clip, worst recall first.
    """

    clips: int
    measures: dict[str, dict[str, Measure]] = field(default_factory=dict)
    classes: tuple[ClassFigures, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the figures in plain JSON types."""
        measures = {
            task: {name: each.as_dict() for name, each in found.items()} for task, found in self.measures.items()
        }
        classes = {"classes": [each.as_dict() for each in self.classes]} if self.classes else {}
        return {"clips": self.clips, **measures, **classes}


def evaluate(data: Data, texts: TextEmbeddings, embedded: Mapping[Clip, Vectors]) -> Evaluation:
    """Return the figures over the clips that were embedded; every text of the data is a candidate for them.

    Intervals are over videos: all clips of a video are resampled together. A text counts with the first video that it
    describes.

    Args:
        embedded: from embed_clip().
    """
    measures: dict[str, dict[str, Measure]] = {}
    classes: tuple[ClassFigures, ...] = ()
    described = [clip for clip in embedded if clip.texts]
    if described and texts.texts is not None:
        scores = np.stack([embedded[clip][0] for clip in described]) @ texts.texts.T
        right = np.array([[text in clip.texts for text in data.texts] for clip in described])
        if data.labels:
            found, videos = ranks(scores, right), [clip.video for clip in described]
            measures["classification"] = {f"top{most}": share_within(found, most, right, videos) for most in TOPS}
            classes = _classes(data.texts, scores, right)
        measures |= _retrieval(described, scores, right)
    if any(clip.questions for clip in embedded):
        measures["multiple_choice"] = {"accuracy": _multiple_choice(texts, embedded)}
    return Evaluation(len(embedded), measures, classes)


def _retrieval(clips: list[Clip], scores: Scores, right: Right) -> dict[str, dict[str, Measure]]:
    asked = right.any(0)  # a text whose clips could not be read has no right answer
    first = right[:, asked].argmax(0)
    ways = {
        "text_to_video": (scores.T[asked], right.T[asked], [clips[number].video for number in first]),
        "video_to_text": (scores, right, [clip.video for clip in clips]),
    }
    measures = {}
    for way, (similarities, correct, videos) in ways.items():
        found = ranks(similarities, correct)
        recalls = {f"r{most}": share_within(found, most, correct, videos) for most in RECALLS}
        measures[way] = recalls | {"median_rank": median_rank(found, videos)}
    return measures


def _classes(labels: tuple[str, ...], scores: Scores, right: Right) -> tuple[ClassFigures, ...]:
    true = right.argmax(1)
    taken = predicted(scores, true)
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (true, taken), 1)
    figures = []
    for number in np.flatnonzero(counts.sum(1)):
        row, hits, all_taken = counts[number], int(counts[number, number]), int(counts[:, number].sum())
        others = [int(n) for n in np.argsort(-row, kind="stable") if row[n] and n != number]
        taken_for = tuple((labels[n], int(row[n])) for n in others)
        precision = hits / all_taken if all_taken else None
        figures.append(ClassFigures(labels[number], int(row.sum()), hits / int(row.sum()), precision, taken_for))
    return tuple(sorted(figures, key=lambda each: each.recall))


def _multiple_choice(texts: TextEmbeddings, embedded: Mapping[Clip, Vectors]) -> Measure:
    correct, chances, videos = [], [], []
    for clip, vectors in embedded.items():
        for asked, vector in zip(clip.questions, vectors[1:], strict=True):
            scores = (np.stack([texts.choices[choice] for choice in asked.choices]) @ vector)[None]
            right = np.arange(len(asked.choices))[None] == asked.answer
            correct.append(bool(ranks(scores, right)[0] == 1))
            chances.append(1 / len(asked.choices))
            videos.append(clip.video)
    return share(correct, chances, videos)
