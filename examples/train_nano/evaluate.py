"""Score trained nano weights on held-out episodes: classification, retrieval, question answering, captioning.

Labels and texts are embedded by the text encoder, clips by the predictor; nothing is fitted here. Windows are 2 s long
and start every 1/2 s, with a still picture before and after each episode. Intervals are 95 % bootstrap intervals over
episodes. Narration of streams is scored by selective.py.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from batches import encode_queries
from clips import ACT, APPROACH, STILL, Episode, clips_of, load_episodes
from figures import interval
from generate import generate
from provenance import add_to, provenance
from questions import questions
from rich.console import Console
from rich.progress import track
from tasks import DESCRIBE_QUERIES, OPPOSITES, TASK_QUERIES, TASKS, UNSEEN, phase_texts
from texts import Texts, embed, load_texts, open_tokenizer, pad
from torch import Tensor

from vlj_edge.bundle import seal
from vlj_edge.export.weights.locations import DECODER_TOKENIZER, MODEL_FILE, QUERY_TOKENIZER
from vlj_edge.export.weights.sources import load_model
from vlj_edge.presets import preset as find_preset

NAMES = list(TASKS)
PHASES = {APPROACH: "approach", ACT: "act", STILL: "still"}
QUESTION_STRIDE = 4  # windows from one that is asked questions to the next: neighbours give the same answers
RETRIEVED = 500  # clips to retrieve from
BATCH = 256  # clips
PRIOR_EPISODES = 1500  # training episodes from which the answers' frequencies are taken
BIAS_SEEDS = 250  # the first training episodes, five of each task: their clips give the bias of each label
NEIGHBOURS = 10  # nearest clips that the bias of a label is the mean over, as in CSLS

console = Console(stderr=True)


@dataclass(frozen=True)
class Answer:
    """The outcome of a question about a window: whether the clip, and the question alone, gave the right answer."""

    kind: str
    episode: int
    correct: bool
    guessed: bool


@dataclass(frozen=True)
class Predictions:
    """All windows of a set of episodes: labels (n,), embeddings under the two caption queries (n, 384), answers."""

    episode: np.ndarray
    task: np.ndarray  # index in TASKS
    phase: np.ndarray
    zone: np.ndarray  # of the camera
    described: Tensor
    task_answer: Tensor
    answers: list[Answer]

    def where(self, chosen: np.ndarray) -> Predictions:
        kept = set(self.episode[chosen].tolist())
        labels = (column[chosen] for column in (self.episode, self.task, self.phase, self.zone))
        rows = torch.from_numpy(np.flatnonzero(chosen))
        answers = [answer for answer in self.answers if answer.episode in kept]
        return Predictions(*labels, self.described[rows], self.task_answer[rows], answers)


class Scorer:
    """A trained model with the text embeddings that its predictions are compared with."""

    def __init__(self, weights: Path) -> None:
        self.preset = find_preset("nano")
        self.model = load_model(weights, self.preset)
        self.queries = encode_queries(open_tokenizer(weights, QUERY_TOKENIZER))
        self.decoder_tokenizer = open_tokenizer(weights, DECODER_TOKENIZER)
        self.texts: Texts = load_texts(self.preset)
        self.labels = self.embed_labels([TASKS[name].captions for name in NAMES])  # (50, 384)

    @torch.inference_mode()
    def embed_texts(self, texts: list[str]) -> Tensor:
        return F.normalize(self.model.text_projection(embed(self.preset, texts)), dim=-1)

    def embed_labels(self, labels: list[tuple[str, ...]]) -> Tensor:
        """Return one embedding a label, the mean over its wordings: unit length, (labels, 384)."""
        wordings = iter(self.embed_texts([text for label in labels for text in label]))
        return F.normalize(
            torch.stack([torch.stack([next(wordings) for _ in label]).mean(0) for label in labels]), dim=-1
        )

    @torch.inference_mode()
    def predict(self, tokens: Tensor, queries: list[str]) -> Tensor:
        """Return the embeddings (n, 384) of visual tokens (n, ...), each under its own query."""
        ids, mask = pad([self.queries[query] for query in queries], self.preset.query_tokens, self.preset.query_pad)
        longest = int(mask.sum(1).max())
        return self.model.predictor(tokens, ids[:, :longest], mask[:, :longest])


def predict_windows(
    scorer: Scorer, episodes: list[Episode], guesses: dict[str, tuple[str, ...]], what: str
) -> Predictions:
    """Predict the embeddings of all windows; each clip is encoded once for all queries."""
    rng = np.random.default_rng(0)
    choices: dict[tuple[tuple[str, ...], ...], Tensor] = {}
    labels, described, task_answers, answers = [], [], [], []
    for number, episode in enumerate(track(episodes, what, console=console, disable=not console.is_terminal)):
        clips = list(clips_of(episode, scorer.preset.clip.stride, rng))
        labels += [(number, NAMES.index(episode.task), clip.phase, episode.zone) for clip in clips]
        with torch.inference_mode():
            features = torch.from_numpy(np.stack([clip.features for clip in clips])).float()
            tokens = scorer.model.vision_encoder.encode(features)
        described.append(scorer.predict(tokens, [DESCRIBE_QUERIES[0]] * len(clips)))
        task_answers.append(scorer.predict(tokens, [TASK_QUERIES[0]] * len(clips)))
        question_rows = [(i, q) for i in range(0, len(clips), QUESTION_STRIDE) for q in questions(clips[i])]
        if question_rows:
            rows = [row for row, _ in question_rows]
            embeddings = scorer.predict(tokens[rows], [question.wordings[0] for _, question in question_rows])
            for embedding, (_, question) in zip(embeddings, question_rows, strict=True):
                if question.choices not in choices:
                    choices[question.choices] = scorer.embed_labels(list(question.choices))
                chosen = question.choices[int((choices[question.choices] @ embedding).argmax())]
                guess = guesses.get(question.wordings[0])
                answers.append(Answer(question.kind, number, chosen == question.answer, guess == question.answer))
    columns = [np.array(column) for column in zip(*labels, strict=True)]
    return Predictions(*columns, torch.cat(described), torch.cat(task_answers), answers)


def most_frequent_answers(episodes: list[Episode]) -> dict[str, tuple[str, ...]]:
    """Return the most frequent right answer of each question in training: a baseline that sees no video."""
    rng, counts = np.random.default_rng(0), defaultdict(Counter)
    for index in rng.permutation(len(episodes))[:PRIOR_EPISODES]:
        for clip in clips_of(episodes[index], QUESTION_STRIDE, rng):
            for question in questions(clip):
                counts[question.wordings[0]][question.answer] += 1
    return {wording: answers.most_common(1)[0][0] for wording, answers in counts.items()}


@torch.inference_mode()
def label_bias(scorer: Scorer, episodes: list[Episode]) -> np.ndarray:
    """Return the bias of each label (50,): its mean cosine to the NEIGHBOURS nearest clips of training.

    This is r of CSLS (Conneau et al., arXiv 1710.04087). A label that was trained on lies near many clips whatever they
    show; a label that was not lies near none, and loses for that reason alone.
    """
    rng = np.random.default_rng(0)
    first = [episode for episode in episodes if episode.seed < BIAS_SEEDS]
    clips = [
        clip for episode in first for clip in clips_of(episode, QUESTION_STRIDE, rng) if clip.phase in (ACT, APPROACH)
    ]
    parts = []
    for start in range(0, len(clips), BATCH):
        part = clips[start : start + BATCH]
        tokens = scorer.model.vision_encoder.encode(torch.from_numpy(np.stack([c.features for c in part])).float())
        parts.append(scorer.predict(tokens, [TASK_QUERIES[0]] * len(part)))
    return (scorer.labels @ torch.cat(parts).T).topk(NEIGHBOURS).values.mean(1).numpy()


def task_scores(predictions: Predictions, labels: Tensor, bias: np.ndarray) -> dict[str, Any]:
    """Return top-1 over the 50 labels: act windows, act and approach windows, episodes (the mean of their act windows).

    "corrected" subtracts half of the labels' bias from their cosines, as CSLS does; "corrected_in_full" all of it.
    """
    scores = (predictions.task_answer @ labels.T).numpy()
    correct = scores.argmax(1) == predictions.task
    half, whole = ((scores - share * bias).argmax(1) == predictions.task for share in (0.5, 1.0))
    acting, moving = predictions.phase == ACT, np.isin(predictions.phase, (ACT, APPROACH))
    episodes = np.unique(predictions.episode[acting])
    by_episode = []
    for number in episodes:
        rows = acting & (predictions.episode == number)
        by_episode.append(scores[rows].sum(0).argmax() == predictions.task[rows][0])
    return {
        "task_top1_act_windows": interval(correct[acting], predictions.episode[acting]),
        "task_top1_moving_windows": interval(correct[moving], predictions.episode[moving]),
        "task_top1_episodes": interval(np.array(by_episode), episodes),
        "task_top1_act_windows_corrected": interval(half[acting], predictions.episode[acting]),
        "task_top1_act_windows_corrected_in_full": interval(whole[acting], predictions.episode[acting]),
    }


def opposite_score(predictions: Predictions, labels: Tensor) -> dict[str, Any]:
    """Return how often the right label beats that of the opposite task, in act windows of tasks trained with both."""
    pairs = [pair for pair in OPPOSITES if not UNSEEN.intersection(pair)]
    other = {NAMES.index(a): NAMES.index(b) for pair in pairs for a, b in (pair, pair[::-1])}
    chosen = (predictions.phase == ACT) & np.isin(predictions.task, list(other))
    scores = (predictions.task_answer @ labels.T).numpy()[chosen]
    own, rows = predictions.task[chosen], np.arange(chosen.sum())
    correct = scores[rows, own] > scores[rows, [other[task] for task in own]]
    return {"opposite_pairs": interval(correct, predictions.episode[chosen])}


def description_scores(predictions: Predictions, scorer: Scorer) -> dict[str, Any]:
    """Return how often the nearest trained caption, and the decoder's text, have the meaning of the window."""
    texts = scorer.texts
    captions = scorer.embed_texts([texts.wordings[i] for i in texts.canonical])
    truth = np.array([meaning_of(texts, t, p) for t, p in zip(predictions.task, predictions.phase, strict=True)])
    nearest = (predictions.described @ captions.T).argmax(1).numpy()
    decoded = generate(scorer.model, predictions.described, scorer.decoder_tokenizer)
    meaning = np.array([texts.meaning[texts.index[text]] if text in texts.index else -1 for text in decoded])
    result = {"description_top1": interval(nearest == truth, predictions.episode)}
    for phase, name in PHASES.items():
        chosen = predictions.phase == phase
        result[f"description_top1_{name}"] = interval((nearest == truth)[chosen], predictions.episode[chosen])
    result["decoder_right_meaning"] = interval(meaning == truth, predictions.episode)
    result["decoder_known_text"] = interval(meaning >= 0, predictions.episode)
    return result


def meaning_of(texts: Texts, task: int, phase: int) -> int:
    """Return the index of a window's meaning. For tasks that touch nothing, approach has the meaning of the act."""
    options = phase_texts(NAMES[task], int(phase)) or phase_texts(NAMES[task], ACT)
    return int(texts.meaning[texts.index[options[0]]])


def retrieval_scores(predictions: Predictions, scorer: Scorer) -> dict[str, Any]:
    """Score text-to-clip retrieval: every wording of every task against the middle act clip of each episode."""
    episodes = np.unique(predictions.episode[predictions.phase == ACT])
    chosen = np.random.default_rng(0).permutation(episodes)[:RETRIEVED]
    middles = [
        np.flatnonzero((predictions.phase == ACT) & (predictions.episode == number)) for number in np.sort(chosen)
    ]
    rows = np.array([windows[len(windows) // 2] for windows in middles])
    tasks = predictions.task[rows]
    queries = [(NAMES.index(name), text) for name in NAMES for text in TASKS[name].captions]
    queries = [(task, text) for task, text in queries if task in tasks]
    scores = (scorer.embed_texts([text for _, text in queries]) @ predictions.task_answer[rows].T).numpy()
    ranks = []
    for (task, _), row in zip(queries, scores, strict=True):
        ranks.append(int(np.flatnonzero(tasks[np.argsort(-row)] == task)[0]) + 1)
    rank, task = np.array(ranks), np.array([task for task, _ in queries])
    return {
        "retrieval_r1": interval(rank <= 1, task),
        "retrieval_r5": interval(rank <= 5, task),
        "retrieval_median_rank": float(np.median(rank)),
        "retrieval_clips": len(rows),
    }


def answer_scores(predictions: Predictions) -> dict[str, Any]:
    """Score discriminative VQA by kind and over all questions, with the question-only baseline."""
    result = {}
    kinds = sorted({answer.kind for answer in predictions.answers})
    for name, kind in (("all", None), *zip(kinds, kinds, strict=True)):
        chosen = [answer for answer in predictions.answers if kind in (None, answer.kind)]
        episodes = np.array([answer.episode for answer in chosen])
        result[f"vqa_{name}"] = interval(np.array([answer.correct for answer in chosen]), episodes)
        result[f"vqa_{name}_question_alone"] = interval(np.array([answer.guessed for answer in chosen]), episodes)
    return result


def hardest_tasks(predictions: Predictions, labels: Tensor) -> dict[str, Any]:
    """Return each task's accuracy in act windows and its most frequent confusion, hardest first."""
    nearest = (predictions.task_answer @ labels.T).argmax(1).numpy()
    rows = []
    for number in np.unique(predictions.task[predictions.phase == ACT]):
        labels_found = nearest[(predictions.task == number) & (predictions.phase == ACT)]
        wrong = labels_found[labels_found != number]
        confusion = NAMES[np.bincount(wrong).argmax()] if len(wrong) else None
        rows.append((float((labels_found == number).mean()), NAMES[number], confusion))
    return {name: {"accuracy": round(value, 3), "taken_for": confusion} for value, name, confusion in sorted(rows)}


@click.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), default=Path("data/nano-weights"))
@click.option("--features", type=click.Path(path_type=Path), default=Path("data/nano-features"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write the scores here as JSON.")
@click.option("--split", default="test", type=click.Choice(["test", "val"]), show_default=True)
@click.option("--limit", default=None, type=int, help="Most episodes of each set to use, for a quick check.")
def main(weights: Path, features: Path, out: Path | None, split: str, limit: int | None) -> None:
    """Score trained weights on held-out episodes."""
    started = time.monotonic()
    scorer = Scorer(weights)
    trained_on = load_episodes(features, "train")
    guesses, bias = most_frequent_answers(trained_on), label_bias(scorer, trained_on)
    seen_tasks = predict_windows(scorer, load_episodes(features, split)[:limit], guesses, "windows")
    report = provenance("python evaluate.py --out ../../results/nano-eval.json")
    report |= {"weights": seal(weights / MODEL_FILE).sha256, "split": split}
    inside = seen_tasks.zone != "outside"
    parts = {"seen_tasks": inside} | {
        f"cameras_{zone}": seen_tasks.zone == zone for zone in np.unique(seen_tasks.zone).tolist()
    }
    for name, chosen in parts.items():
        predictions = seen_tasks.where(chosen)
        scores = task_scores(predictions, scorer.labels, bias) | opposite_score(predictions, scorer.labels)
        report[name] = scores | description_scores(predictions, scorer) | answer_scores(predictions)
    report["retrieval"] = retrieval_scores(seen_tasks.where(inside), scorer)
    report["tasks"] = hardest_tasks(seen_tasks.where(inside), scorer.labels)
    if split == "test":
        unseen_tasks = predict_windows(scorer, load_episodes(features, "test-unseen")[:limit], guesses, "unseen tasks")
        report["unseen_tasks"] = task_scores(unseen_tasks, scorer.labels, bias) | answer_scores(unseen_tasks)
        report["unseen_tasks"] |= {"chance": 1 / len(NAMES), "tasks": hardest_tasks(unseen_tasks, scorer.labels)}
    report["seconds"] = round(time.monotonic() - started, 1)
    show(report)
    if out:
        add_to(out, report)


def show(report: dict[str, Any]) -> None:
    for name, scores in report.items():
        values = scores.items() if isinstance(scores, dict) else ()
        lines = [f"{key} {score['value']}" for key, score in values if isinstance(score, dict) and "value" in score]
        if lines:
            console.print(name, *lines, sep="\n  ")


if __name__ == "__main__":
    main()
