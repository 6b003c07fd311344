"""Scores trained nano weights on the validation episodes: tasks, opposites, phases and what the decoder says.

All windows of unseen episodes, every two frames, with a still picture before and after each episode. Intervals are
95 % bootstrap intervals over episodes, since windows of one episode are not independent.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from clips import ACT, APPROACH, STILL, load_episodes, windows
from provenance import provenance
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from tasks import DESCRIBE_QUERIES, OPPOSITES, TASK_QUERIES, TASKS, phase_texts
from texts import Texts, load_texts, open_tokenizer, pad
from torch import Tensor

from vlj_edge.export.models import VLJepa
from vlj_edge.export.weights import DECODER_TOKENIZER, MODEL_FILE, QUERY_TOKENIZER
from vlj_edge.presets import preset as find_preset

PHASES = {APPROACH: "approach", ACT: "act", STILL: "still"}
RESAMPLES = 1000

console = Console(stderr=True)


@dataclass(frozen=True)
class Windows:
    """Every window: its episode, task (index), phase, and the embeddings under the two queries, (n, 384)."""

    episode: np.ndarray
    task: np.ndarray
    phase: np.ndarray
    held_out: np.ndarray
    described: Tensor
    task_answer: Tensor


@torch.inference_mode()
def embed_windows(model: VLJepa, features: Path, queries: list[list[int]], limit: int | None) -> Windows:
    """Predicts the embeddings of all validation windows; the visual tokens serve both queries."""
    numbers = {task: number for number, task in enumerate(TASKS)}
    rng = np.random.default_rng(0)
    labels, described, answers = [], [], []
    stored = load_episodes(features, "val")[:limit]
    for number, episode in enumerate(track(stored, "windows", console=console, disable=not console.is_terminal)):
        clips, phases = zip(*windows(episode, model.preset.clip.stride, rng), strict=True)
        labels += [(number, numbers[episode.task], phase, episode.held_out) for phase in phases]
        tokens = model.vision_encoder.encode(torch.from_numpy(np.stack(clips)).float())
        for query, out in zip(queries, (described, answers), strict=True):
            ids, mask = pad([query] * len(tokens), model.preset.query_tokens, model.preset.query_pad)
            out.append(model.predictor(tokens, ids, mask))
    columns = [np.array(column) for column in zip(*labels, strict=True)]
    return Windows(*columns, torch.cat(described), torch.cat(answers))


def interval(right: np.ndarray, episode: np.ndarray) -> dict:
    """Mean, 95 % bootstrap interval over episodes, and both counts. right is bool (n,)."""
    if not len(right):
        return {"value": None, "windows": 0, "episodes": 0}
    _, group = np.unique(episode, return_inverse=True)
    hits, sizes = np.bincount(group, right.astype(float)), np.bincount(group)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(sizes), (RESAMPLES, len(sizes)))
    means = hits[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    figures = {"value": right.mean(), "low": low, "high": high}
    return {k: round(float(v), 4) for k, v in figures.items()} | {"windows": len(right), "episodes": len(sizes)}


def task_scores(found: Windows, captions: Tensor, some: np.ndarray) -> dict:
    """Top-1 over the 50 task captions: each act window, each act or approach window, each episode by its mean."""
    scores = (found.task_answer @ captions.T).numpy()
    right = scores.argmax(1) == found.task
    acting, moving = some & (found.phase == ACT), some & (found.phase != STILL)
    summed: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(len(captions)))
    task_of = dict(zip(found.episode.tolist(), found.task.tolist(), strict=True))
    for number, score in zip(found.episode[acting], scores[acting], strict=True):
        summed[int(number)] += score
    episodes = np.array(sorted(summed))
    by_episode = np.array([summed[e].argmax() == task_of[e] for e in episodes.tolist()])
    return {
        "task_top1_act_windows": interval(right[acting], found.episode[acting]),
        "task_top1_moving_windows": interval(right[moving], found.episode[moving]),
        "task_top1_episodes": interval(by_episode, episodes),
    }


def opposite_score(found: Windows, captions: Tensor, some: np.ndarray) -> dict:
    """Own caption above that of the opposite task, in act windows of the tasks that have one."""
    names = list(TASKS)
    other = {names.index(a): names.index(b) for pair in OPPOSITES for a, b in (pair, pair[::-1])}
    chosen = some & (found.phase == ACT) & np.isin(found.task, list(other))
    scores = (found.task_answer @ captions.T).numpy()[chosen]
    own, rows = found.task[chosen], np.arange(chosen.sum())
    right = scores[rows, own] > scores[rows, [other[task] for task in own]]
    return {"opposite_pairs": interval(right, found.episode[chosen])}


def description_scores(found: Windows, texts: Texts, captions: Tensor, some: np.ndarray) -> dict:
    """The phase and the whole description, by the nearest canonical caption of all."""
    phases = np.array([ACT] * len(TASKS) + [APPROACH] * (len(captions) - len(TASKS) - 1) + [STILL])
    nearest = (found.described @ captions.T).argmax(1).numpy()
    truth = true_meaning(found, texts)
    result = {"phase": interval((phases[nearest] == found.phase)[some], found.episode[some])}
    for phase, name in PHASES.items():
        chosen = some & (found.phase == phase)
        result[f"phase_{name}"] = interval((phases[nearest] == phase)[chosen], found.episode[chosen])
    result["description_top1"] = interval((nearest == truth)[some], found.episode[some])
    return result


def true_meaning(found: Windows, texts: Texts) -> np.ndarray:
    """The number of the meaning that each window shows, (n,). `reach` has no approach: its task stands in for it."""
    names, out = list(TASKS), []
    for task, phase in zip(found.task, found.phase, strict=True):
        options = phase_texts(names[task], int(phase)) or phase_texts(names[task], ACT)
        out.append(texts.meaning[texts.index[options[0]]])
    return np.array(out)


@torch.inference_mode()
def decoder_scores(model: VLJepa, found: Windows, texts: Texts, directory: Path, some: np.ndarray, most: int) -> dict:
    """Greedy texts of a sample of windows: any wording of the right meaning, and any caption at all."""
    chosen = np.flatnonzero(some)
    chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:most])
    said = generate(model, found.described[chosen], open_tokenizer(directory, DECODER_TOKENIZER))
    truth = true_meaning(found, texts)[chosen]
    meant = np.array([texts.meaning[texts.index[text]] if text in texts.index else -1 for text in said])
    return {
        "decoder_right_meaning": interval(meant == truth, found.episode[chosen]),
        "decoder_known_caption": interval(meant >= 0, found.episode[chosen]),
    }


def generate(model: VLJepa, embeddings: Tensor, tokenizer) -> list[str]:
    """Greedy decoding of many embeddings side by side, without a cache."""
    end, tokens = model.preset.decoder_end, torch.zeros(len(embeddings), 0, dtype=torch.int64)
    for _ in range(model.preset.decoder_tokens - 1):
        tokens = torch.cat([tokens, model.decoder(embeddings, tokens)[:, -1:].argmax(-1)], dim=1)
        if (tokens == end).any(1).all():
            break
    rows = [row[: row.index(end)] if end in row else row for row in tokens.tolist()]
    return [tokenizer.decode(row) for row in rows]


def worst_tasks(found: Windows, captions: Tensor) -> dict:
    """Act windows: accuracy of each task and what it is most often taken for, the hardest first."""
    names, nearest = list(TASKS), (found.task_answer @ captions.T).argmax(1).numpy()
    rows = []
    for number, name in enumerate(names):
        said = nearest[(found.task == number) & (found.phase == ACT)]
        if len(said):
            wrong = said[said != number]
            taken = names[np.bincount(wrong).argmax()] if len(wrong) else None
            rows.append((float((said == number).mean()), name, taken))
    return {name: {"accuracy": round(value, 3), "taken_for": taken} for value, name, taken in sorted(rows)}


@click.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), default=Path("data/nano-weights"))
@click.option("--features", type=click.Path(path_type=Path), default=Path("data/nano-features"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write the scores here as JSON.")
@click.option("--decode", default=1000, show_default=True, help="Windows to decode, at most, in each part.")
@click.option("--limit", default=None, type=int, help="Only so many episodes: for a quick look.")
def main(weights: Path, features: Path, out: Path | None, decode: int, limit: int | None) -> None:
    """Score trained weights on the validation episodes."""
    started = time.monotonic()
    preset = find_preset("nano")
    model = VLJepa(preset).eval()
    model.load_state_dict(load_file(weights / MODEL_FILE))
    tokenizer = open_tokenizer(weights, QUERY_TOKENIZER)
    texts = load_texts(preset)
    with torch.inference_mode():
        captions = F.normalize(model.text_projection(texts.embeddings[texts.canonical]), dim=-1)
    queries = [tokenizer.encode(text).ids for text in (DESCRIBE_QUERIES[0], TASK_QUERIES[0])]
    found = embed_windows(model, features, queries, limit)
    tasks = captions[: len(TASKS)]
    report = provenance("python evaluate.py --out ../../results/nano-eval.json")
    everything = np.ones(len(found.task), bool)
    parts = {"all": everything, "seen_cameras": ~found.held_out, "held_out_cameras": found.held_out}
    for name, some in parts.items():
        scores = task_scores(found, tasks, some) | opposite_score(found, tasks, some)
        scores |= description_scores(found, texts, captions, some)
        report[name] = scores | decoder_scores(model, found, texts, weights, some, decode)
        console.print(name, *(f"{key} {score['value']}" for key, score in report[name].items()), sep="\n  ")
    report["tasks"] = worst_tasks(found, tasks)
    report["seconds"] = round(time.monotonic() - started, 1)
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
