"""The training texts: tokenizer, frozen MiniLM embedding of every wording, and which wordings mean the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
import torch
from questions import all_questions, answer_meanings
from tasks import DESCRIBE_QUERIES, TASK_QUERIES, meanings
from torch import Tensor

from vlj_edge.export.models.text_encoder import mean_pool
from vlj_edge.export.weights.text_encoders import load_text_backbone
from vlj_edge.presets import Preset

SPECIAL = ("<pad>", "<bos>", "<eos>")  # 0, 1, 2


@dataclass(frozen=True)
class Texts:
    """All wordings. `embeddings` (texts, 384) is the frozen backbone's; wordings with equal `meaning` mean the same."""

    wordings: list[str]
    meaning: np.ndarray  # (texts,)
    canonical: np.ndarray  # (meanings,): the index of each meaning's first wording
    embeddings: Tensor

    @cached_property
    def index(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.wordings)}

    @cached_property
    def same(self) -> Tensor:
        """Whether two texts mean the same, bool (texts, texts); such pairs are not used as negatives."""
        meaning = torch.from_numpy(self.meaning).to(self.embeddings.device)
        return meaning[:, None] == meaning[None]

    def to(self, device: torch.device) -> Texts:
        return replace(self, embeddings=self.embeddings.to(device))

    def pick(self, wordings: tuple[str, ...], rng: np.random.Generator) -> int:
        """Return the index of a random one of these wordings."""
        return self.index[wordings[rng.integers(len(wordings))]]


def load_texts(preset: Preset) -> Texts:
    """Embed every training text with the frozen backbone: captions first, then answers."""
    groups = meanings() + answer_meanings()
    wordings = [text for group in groups for text in group]
    meaning = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    canonical = np.flatnonzero(np.diff(meaning, prepend=-1))
    return Texts(wordings, meaning, canonical, embed(preset, wordings))


@torch.no_grad()
def embed(preset: Preset, texts: list[str]) -> Tensor:
    """Return the frozen backbone's mean-pooled embeddings, float32 (texts, width), before the projection."""
    backbone = load_text_backbone(preset.text.backbone)
    tokenizer = tokenizers.Tokenizer.from_file(str(backbone.tokenizer))
    tokenizer.enable_padding(pad_id=backbone.pad)
    tokenizer.enable_truncation(preset.text.tokens)
    coded = tokenizer.encode_batch([backbone.text_prefix + text for text in texts])
    ids = torch.tensor([c.ids for c in coded])
    mask = torch.tensor([c.attention_mask for c in coded], dtype=torch.bool)
    return mean_pool(backbone.load()(input_ids=ids, attention_mask=mask).last_hidden_state, mask)


def whitening(embeddings: Tensor, shrink: float = 0.3) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a projection that whitens the captions, so that opposites do not start at cosine 0.9.

    `shrink`, a share of the mean variance, keeps directions of little variance from being amplified.
    """
    mean = embeddings.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((embeddings - mean).T))
    values = values.clamp(min=0)
    gain = (values + shrink * values.sum() / min(len(embeddings) - 1, len(values))).rsqrt()
    weight = vectors @ torch.diag(gain / gain.max()) @ vectors.T
    return weight, -weight @ mean


def train_tokenizer(vocabulary: int) -> tokenizers.Tokenizer:
    """Train a byte-level BPE on captions and queries: it encodes any text, and these with one token a word."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    groups = (*meanings(), *answer_meanings(), DESCRIBE_QUERIES, TASK_QUERIES, all_questions())
    corpus = [text for group in groups for text in group]
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def open_tokenizer(directory: Path, name: str) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(directory / name))


def pad(rows: list[list[int]], length: int, fill: int) -> tuple[Tensor, Tensor]:
    """Pad or cut token lists to int64 (n, length); return them with the bool mask of real tokens."""
    ids = torch.full((len(rows), length), fill, dtype=torch.int64)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        row = row[:length]
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[i, : len(row)] = True
    return ids, mask
