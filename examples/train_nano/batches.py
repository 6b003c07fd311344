"""Training batches: clips, each with a question and a wording of the answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from clips import ACT, APPROACH, Clip
from tasks import DESCRIBE_QUERIES, TASK_QUERIES
from texts import Texts, pad
from torch import Tensor

from vlj_edge.presets import Preset

TASK_QUERY = {ACT: 0.5, APPROACH: 0.25}  # how often a clip is asked for its task and not for its description


@dataclass
class Batch:
    """features float32 (b, 8, 112, 6, 6); query ids int64, mask bool (b, q); texts int64 (b,): the answers' indices."""

    features: Tensor
    query_ids: Tensor
    query_mask: Tensor
    texts: Tensor


def make_batch(
    clips: list[Clip], texts: Texts, queries: dict[str, list[int]], preset: Preset, rng: np.random.Generator
) -> Batch:
    """Puts a question to each clip and picks a wording of the answer."""
    rows, answers = [], []
    for clip in clips:
        asks_task = rng.random() < TASK_QUERY.get(clip.phase, 0.0)
        options = TASK_QUERIES if asks_task else DESCRIBE_QUERIES
        rows.append(queries[options[rng.integers(len(options))]])
        answers.append(texts.pick(clip.task, ACT if asks_task else clip.phase, rng))
    features = torch.from_numpy(np.stack([clip.features for clip in clips])).float()
    return Batch(features, *pad(rows, preset.query_tokens, preset.query_pad), torch.tensor(answers))
