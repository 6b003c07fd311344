"""Choose how nano compares windows with labels, on validation episodes, and write labels.json beside the weights.

python calibrate_labels.py      (weights and features as for evaluate.py)

Labels are worded as a person types them ("opens the drawer"): a task's first caption without "the robot arm". Chosen in
this order: the one of TEMPLATES with the best top-1; the temperature with the least negative log likelihood; and the
cosine below which no label is shown. At that threshold, the share of right labels refused equals the share of labels
shown when the right one is not offered (equal error rate).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from clips import ACT, load_episodes
from evaluate import NAMES, Predictions, Scorer, predict_windows
from figures import interval
from provenance import provenance
from tasks import TASK_QUERIES, TASKS

from vlj_edge.bundle import LabelSettings, seal
from vlj_edge.export.weights.locations import MODEL_FILE

ARM = "the robot arm "
TEMPLATES = (("{}",), (f"{ARM}{{}}",), ("{}", f"{ARM}{{}}"))
TEMPERATURES = np.geomspace(0.01, 0.3, 60)


def label_of(task: str) -> str:
    return TASKS[task].captions[0].removeprefix(ARM)


def cosines(scorer: Scorer, predictions: Predictions, templates: tuple[str, ...]) -> np.ndarray:
    labels = scorer.embed_labels([tuple(t.replace("{}", label_of(name)) for t in templates) for name in NAMES])
    return (predictions.task_answer @ labels.T).numpy()


def calibrate(scorer: Scorer, predictions: Predictions) -> LabelSettings:
    acting = predictions.phase == ACT
    truth = predictions.task[acting]
    scores = {templates: cosines(scorer, predictions, templates)[acting] for templates in TEMPLATES}
    templates = max(scores, key=lambda each: float((scores[each].argmax(1) == truth).mean()))
    temperature = min(TEMPERATURES, key=lambda candidate: loss(scores[templates], truth, candidate))
    right_cosines, other_cosines = nearest(scores[templates], truth)
    levels = np.linspace(-1, 1, 2001)
    false_refusals, false_labels = (right_cosines[:, None] < levels).mean(0), (other_cosines[:, None] >= levels).mean(0)
    none_below = float(levels[np.abs(false_refusals - false_labels).argmin()])
    return LabelSettings(TASK_QUERIES[0], templates, round(float(temperature), 4), round(none_below, 3))


def loss(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    logits = scores / temperature
    logits = logits - logits.max(1, keepdims=True)
    return float(-(logits[np.arange(len(truth)), truth] - np.log(np.exp(logits).sum(1))).mean())


def nearest(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of nearest labels that are right, and of the nearest labels when the right one is left out."""
    others = scores.copy()
    others[np.arange(len(truth)), truth] = -np.inf
    return scores.max(1)[scores.argmax(1) == truth], others.max(1)


def judge(scorer: Scorer, predictions: Predictions, settings: LabelSettings) -> dict[str, Any]:
    """Return top-1, the calibration error of the scores, and the error rates of the threshold for "none of these"."""
    acting = predictions.phase == ACT
    truth, scores = predictions.task[acting], cosines(scorer, predictions, settings.templates)[acting]
    correct = scores.argmax(1) == truth
    confidence = 1 / np.exp((scores - scores.max(1, keepdims=True)) / settings.temperature).sum(1)
    right_cosines, other_cosines = nearest(scores, truth)
    return {
        "windows": len(truth),
        "top1": interval(correct, predictions.episode[acting]),
        "mean_score": round(float(confidence.mean()), 4),
        "expected_calibration_error": round(calibration_error(confidence, correct), 4),
        "right_labels_refused": round(float((right_cosines < settings.none_below).mean()), 4),
        "labels_shown_without_the_right_one": round(float((other_cosines >= settings.none_below).mean()), 4),
    }


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al., arXiv 1706.04599)."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [place == number for number in np.unique(place)]
    gaps = [abs(confidence[part].mean() - correct[part].mean()) * part.mean() for part in parts]
    return float(np.sum(gaps))


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
@click.option("--features", type=click.Path(path_type=Path), default=Path("data/nano-features"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write results on test episodes here.")
def main(weights: Path, features: Path, out: Path | None) -> None:
    """Calibrate on validation episodes; --out evaluates on the test ones."""
    scorer = Scorer(weights)
    splits = ("val", "test") if out else ("val",)
    predictions = {split: predict_windows(scorer, load_episodes(features, split), {}, split) for split in splits}
    settings = calibrate(scorer, predictions["val"])
    (weights / "labels.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
    click.echo(f"{weights / 'labels.json'}: {settings}")
    if out:
        figures = {
            split: judge(scorer, subset.where(subset.zone != "outside"), settings)
            for split, subset in predictions.items()
        }
        header = provenance("python calibrate_labels.py --out ../../results/nano-labels.json")
        header |= {"weights": seal(weights / MODEL_FILE).sha256, "settings": asdict(settings)}
        out.write_text(json.dumps(header | figures, indent=2) + "\n", encoding="utf-8")
        click.echo(figures)


if __name__ == "__main__":
    main()
