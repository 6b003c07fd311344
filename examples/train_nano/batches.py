"""Training batches: clips, two questions to each, and a wording of each answer."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from clips import ACT, APPROACH, Clip
from questions import all_questions, questions
from tasks import DESCRIBE_QUERIES, TASK_QUERIES, TASKS, phase_texts
from texts import Texts, pad
from tokenizers import Tokenizer
from torch import Tensor

from vlj_edge.presets import Preset

TASK_QUERY = {ACT: 0.5, APPROACH: 0.25}  # probability of asking for the task rather than the description
Asked = tuple[str, tuple[str, ...]]  # a question and the wordings of its answer


@dataclass
class Batch:
    """Clips with two questions each, which share the clip's visual tokens: encoding is most of the work.

    features float32 (b, 8, 112, 6, 6); query_ids int64 and query_mask bool (2 b, q), a clip's two in neighbouring rows;
    texts int64 (2 b,): the answers' indices.
    """

    features: Tensor
    query_ids: Tensor
    query_mask: Tensor
    texts: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def make_batch(
    clips: list[Clip], texts: Texts, queries: dict[str, list[int]], preset: Preset, rng: np.random.Generator
) -> Batch:
    """Pair each clip with a caption question and, if the clip answers one, a multiple-choice question."""
    rows, answers = [], []
    for clip in clips:
        for question, wordings in (ask_caption(clip, rng), ask_choice(clip, rng)):
            rows.append(queries[question])
            answers.append(texts.pick(wordings, rng))
    features = torch.from_numpy(np.stack([clip.features for clip in clips])).float()
    return Batch(features, *pad(rows, preset.query_tokens, preset.query_pad), torch.tensor(answers))


def ask_caption(clip: Clip, rng: np.random.Generator) -> Asked:
    """Return a question for the description or for the task, with its answer."""
    if rng.random() < TASK_QUERY.get(clip.phase, 0.0):
        return pick(TASK_QUERIES, rng), TASKS[clip.task].captions
    return pick(DESCRIBE_QUERIES, rng), phase_texts(clip.task, clip.phase)


def ask_choice(clip: Clip, rng: np.random.Generator) -> Asked:
    """Return a multiple-choice question that the clip answers; a caption question if there is none."""
    options = questions(clip)
    if not options:
        return ask_caption(clip, rng)
    question = options[rng.integers(len(options))]
    return pick(question.wordings, rng), question.answer


def pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def encode_queries(tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Return the token ids of every question used in training."""
    return {text: tokenizer.encode(text).ids for text in (*DESCRIBE_QUERIES, *TASK_QUERIES, *all_questions())}
