"""What a model gets right of the data: classification, retrieval both ways, multiple choice, narration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .data import Clip, Data
from .embed import TextEmbeddings, Vectors
from .figures import Measure, Right, Scores, difference, mean, median_rank, predicted, ranks, share, share_within
from .narration import RateFigures, Said, narration_figures

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
    recall: Measure
    precision: Measure | None
    taken_for: tuple[tuple[str, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes in plain JSON types."""
        return {
            "label": self.label,
            "clips": self.clips,
            "recall": round(self.recall.value, 4),
            "recall_interval": _interval(self.recall),
            "precision": None if self.precision is None else round(self.precision.value, 4),
            "precision_interval": None if self.precision is None else _interval(self.precision),
            "taken_for": dict(self.taken_for),
        }


@dataclass(frozen=True)
class Mistake:
    """A clip that is nearer to a wrong text than to all right ones.

    Attributes:
        task: as in Evaluation.measures: "classification", "video_to_text" or "multiple_choice".
        question: of multiple choice.
        right: its texts, or the answer.
        taken_for: the nearest text.
        margin: how much nearer that is, as a cosine, or as a probability of the model's own labels; 0 for a tie.
    """

    task: str
    clip: Clip
    question: str | None
    right: tuple[str, ...]
    taken_for: str
    margin: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model.

    Attributes:
        clips: that were measured.
        measures: task -> name -> figure. Tasks are "classification" (top1, top5), "text_to_video" and "video_to_text"
            (r1, r5, r10, median_rank), "multiple_choice" (accuracy), "narration" (cider, true, cider_kept,
            decodes_saved; see narration.py); those that the data has.
        classes: with classification, one for each class of a measured clip, worst recall first.
        rates: with narration, that of the gates first, then those at fixed intervals.
        mistakes: the furthest from right first.
    """

    clips: int
    measures: dict[str, dict[str, Measure]] = field(default_factory=dict)
    classes: tuple[ClassFigures, ...] = ()
    rates: tuple[RateFigures, ...] = ()
    mistakes: tuple[Mistake, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the figures in plain JSON types."""
        measures = {
            task: {name: each.as_dict() for name, each in found.items()} for task, found in self.measures.items()
        }
        classes = {"classes": [each.as_dict() for each in self.classes]} if self.classes else {}
        rates = {"rates": [each.as_dict() for each in self.rates]} if self.rates else {}
        return {"clips": self.clips, **measures, **classes, **rates}

    def minus(self, other: Evaluation) -> dict[str, dict[str, Measure]]:
        """Return how much higher its measures are than another model's, of those that both have of the same clips."""
        found = {
            task: {
                name: above
                for name, each in measures.items()
                if (below := other.measures.get(task, {}).get(name)) and (above := difference(each, below))
            }
            for task, measures in self.measures.items()
        }
        return {task: measures for task, measures in found.items() if measures}


def evaluate(
    data: Data,
    texts: TextEmbeddings,
    embedded: Mapping[Clip, Vectors],
    said: Mapping[Path, Mapping[int | None, Said]] | None = None,
) -> Evaluation:
    """Return the figures over the clips that were embedded; every text of the data is a candidate for them.

    Intervals are over videos: all clips of a video are resampled together. A text counts with the first video that it
    describes.

    Args:
        embedded: from embed_clip().
        said: of each video that was narrated, from narrate_video().
    """
    measures: dict[str, dict[str, Measure]] = {}
    classes: tuple[ClassFigures, ...] = ()
    rates: tuple[RateFigures, ...] = ()
    mistakes: list[Mistake] = []
    described = [clip for clip in embedded if clip.texts]
    if described and texts.texts is not None:
        scores = np.stack([embedded[clip][0] for clip in described]) @ texts.texts.T
        right = np.array([[text in clip.texts for text in data.texts] for clip in described])
        if data.labels:
            found, videos = ranks(scores, right), [clip.video for clip in described]
            measures["classification"] = {f"top{most}": share_within(found, most, right, videos) for most in TOPS}
            classes = _classes(data.texts, scores, right, videos)
        mistakes = _mistaken(data, described, scores, right)
        measures |= _retrieval(described, scores, right)
    if any(clip.questions for clip in embedded):
        accuracy, wrong = _multiple_choice(texts, embedded)
        measures["multiple_choice"] = {"accuracy": accuracy}
        mistakes += wrong
    if said:
        measures["narration"], rates = narration_figures(data.events, said)
    furthest_first = tuple(sorted(mistakes, key=lambda each: -each.margin))
    return Evaluation(len(embedded), measures, classes, rates, furthest_first)


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


def _classes(labels: tuple[str, ...], scores: Scores, right: Right, videos: Sequence[Path]) -> tuple[ClassFigures, ...]:
    true = right.argmax(1)
    taken = predicted(scores, true)
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (true, taken), 1)
    figures = []
    for number in np.flatnonzero(counts.sum(1)):
        row = counts[number]
        others = [int(n) for n in np.argsort(-row, kind="stable") if row[n] and n != number]
        taken_for = tuple((labels[n], int(row[n])) for n in others)
        recall = _share_of(true == number, taken == number, videos)
        precision = _share_of(taken == number, true == number, videos) if counts[:, number].any() else None
        figures.append(ClassFigures(labels[number], int(row.sum()), recall, precision, taken_for))
    return tuple(sorted(figures, key=lambda each: each.recall.value))


def _share_of(chosen: npt.NDArray[np.bool_], hits: npt.NDArray[np.bool_], videos: Sequence[Path]) -> Measure:
    return mean(hits[chosen].astype(np.float64), [videos[int(number)] for number in np.flatnonzero(chosen)])


def _mistaken(data: Data, clips: list[Clip], scores: Scores, right: Right) -> list[Mistake]:
    """Return the clips that do not find a text of theirs first."""
    task = "classification" if data.labels else "video_to_text"
    wrong = np.where(right, -np.inf, scores)
    margins = wrong.max(1) - np.where(right, scores, -np.inf).max(1)
    return [
        Mistake(task, clips[n], None, clips[n].texts, data.texts[int(wrong[n].argmax())], float(margins[n]))
        for n in np.flatnonzero(margins >= 0)
    ]


def _multiple_choice(texts: TextEmbeddings, embedded: Mapping[Clip, Vectors]) -> tuple[Measure, list[Mistake]]:
    correct, chances, videos, mistakes = [], [], [], []
    for clip, vectors in embedded.items():
        for asked, vector in zip(clip.questions, vectors[1:], strict=True):
            scores = (np.stack([texts.choices[choice] for choice in asked.choices]) @ vector)[None]
            right = np.arange(len(asked.choices))[None] == asked.answer
            correct.append(bool(ranks(scores, right)[0] == 1))
            chances.append(1 / len(asked.choices))
            videos.append(clip.video)
            if not correct[-1]:
                taken, answer = int(predicted(scores, np.array([asked.answer]))[0]), asked.choices[asked.answer]
                margin = float(scores[0, taken] - scores[0, asked.answer])
                named = (asked.question, (answer,), asked.choices[taken])
                mistakes.append(Mistake("multiple_choice", clip, *named, margin))
    return share(correct, chances, videos), mistakes


def _interval(measure: Measure) -> list[float] | None:
    if measure.low is None or measure.high is None:
        return None
    return [round(measure.low, 4), round(measure.high, 4)]
