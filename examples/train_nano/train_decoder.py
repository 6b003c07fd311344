"""The second stage: the decoder learns to say what an embedding means, everything before it frozen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
from batches import make_batch
from clips import Sampler
from rich.console import Console
from texts import Texts, pad
from torch import Tensor

if TYPE_CHECKING:
    from train import Trainee

BATCH = 192
RATE = 1.5e-3
SHARES = (0.5, 0.2)  # of a batch: embeddings predicted from clips, clean text embeddings; the rest are noisy texts
NOISE = 0.6  # at most: length of the noise added to a unit text embedding, which leaves a cosine of 0.86
POOL_SECONDS = 0.25  # share of the time that goes into predicting embeddings of training clips

console = Console(stderr=True)


def train_decoder(
    trainee: Trainee,
    texts: Texts,
    sampler: Sampler,
    queries: dict[str, list[int]],
    tokenizer: tokenizers.Tokenizer,
    out: Path,
    seconds: float,
) -> None:
    """Next-token loss on captions under embeddings of clips and of texts, for `seconds`."""
    model = trainee.model.eval()
    for parameter in trainee.parameters():
        parameter.requires_grad_(False)
    parameters = list(model.decoder.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    pool, pool_texts = predict_pool(trainee, texts, sampler, queries, POOL_SECONDS * seconds)
    with torch.no_grad():
        captions = F.normalize(model.text_projection(texts.embeddings), dim=-1)
    end = model.preset.decoder_end
    ids, mask = pad([[*tokenizer.encode(text).ids, end] for text in texts.wordings], model.preset.decoder_tokens, end)
    ids, mask = ids[:, : mask.sum(1).max()], mask[:, : mask.sum(1).max()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    started, shown, budget = time.monotonic(), time.monotonic(), (1 - POOL_SECONDS) * seconds
    while (spent := time.monotonic() - started) < budget:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 0.02 + 20 * spent / budget) * (1 - 0.98 * spent / budget)
        embeddings, chosen = mix(pool, pool_texts, captions)
        logits = model.decoder(embeddings, ids[chosen][:, :-1])
        loss = F.cross_entropy(logits[mask[chosen]], ids[chosen][mask[chosen]])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if time.monotonic() - shown > 15:
            console.print(f"decoder {spent:.0f} s, loss {loss.item():.4f}", highlight=False)
            shown = time.monotonic()


@torch.no_grad()
def predict_pool(
    trainee: Trainee, texts: Texts, sampler: Sampler, queries: dict[str, list[int]], seconds: float
) -> tuple[Tensor, Tensor]:
    """Predicted embeddings of training clips and, for each, the canonical wording of what it shows."""
    rng = np.random.default_rng(1)
    started, embeddings, answers = time.monotonic(), [], []
    canonical = torch.from_numpy(texts.canonical[texts.meaning])
    while time.monotonic() - started < seconds or not embeddings:
        batch = make_batch(sampler.batch(64), texts, queries, trainee.model.preset, rng)
        embeddings.append(trainee(batch, None))
        answers.append(canonical[batch.texts])
    return torch.cat(embeddings), torch.cat(answers)


def mix(pool: Tensor, pool_texts: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
    """A batch of embeddings (BATCH, 384), unit length, and the text (index) that each should become."""
    clips, clean = int(SHARES[0] * BATCH), int(SHARES[1] * BATCH)
    rows = torch.randint(len(pool), (clips,))
    chosen = torch.randint(len(captions), (BATCH - clips,))
    noise = F.normalize(torch.randn(BATCH - clips, captions.shape[1]), dim=-1)
    noise *= NOISE * torch.rand(BATCH - clips, 1)
    noise[:clean] = 0
    noisy = F.normalize(captions[chosen] + noise, dim=-1)
    return torch.cat([pool[rows], noisy]), torch.cat([pool_texts[rows], chosen])
