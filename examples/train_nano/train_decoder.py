"""The second stage: train the decoder to put an embedding into words, with everything before it frozen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
from batches import make_batch
from clips import Sampler
from config import Config
from loop import DEVICE, console
from texts import Texts, pad
from torch import Tensor

if TYPE_CHECKING:
    from train import Trainee

SHARES = (0.5, 0.2)  # of a batch: embeddings of clips, clean embeddings of texts; the rest are noisy ones of texts
NOISE = 0.6  # at most: length of the noise added to a unit text embedding, which leaves a cosine of 0.86


def train_decoder(
    trainee: Trainee,
    texts: Texts,
    sampler: Sampler,
    queries: dict[str, list[int]],
    tokenizer: tokenizers.Tokenizer,
    config: Config,
) -> None:
    """Train on next-token loss of captions and answers, given embeddings of clips and of texts."""
    model = trainee.model.eval()
    for parameter in trainee.parameters():
        parameter.requires_grad_(False)
    parameters = list(model.decoder.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    pool, pool_texts = predict_pool(trainee, texts, sampler, queries, config)
    with torch.no_grad():
        captions = F.normalize(model.text_projection(texts.embeddings), dim=-1)
    end = model.preset.decoder_end
    ids, mask = pad([[*tokenizer.encode(text).ids, end] for text in texts.wordings], model.preset.decoder_tokens, end)
    ids, mask = (part[:, : mask.sum(1).max()].to(DEVICE) for part in (ids, mask))
    optimizer = torch.optim.AdamW(parameters, lr=config.decoder_rate, betas=(0.9, 0.98), weight_decay=0.01)
    shown = time.monotonic()
    for step in range(config.decoder_steps):
        progress = step / config.decoder_steps
        for group in optimizer.param_groups:
            group["lr"] = config.decoder_rate * min(1.0, 0.02 + 20 * progress) * (1 - 0.98 * progress)
        embeddings, chosen = mix(pool, pool_texts, captions, config.decoder_batch)
        logits = model.decoder(embeddings, ids[chosen][:, :-1])
        loss = F.cross_entropy(logits[mask[chosen]], ids[chosen][mask[chosen]])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if time.monotonic() - shown > 15:
            console.print(f"decoder step {step}, loss {loss.item():.4f}", highlight=False)
            shown = time.monotonic()


@torch.no_grad()
def predict_pool(
    trainee: Trainee, texts: Texts, sampler: Sampler, queries: dict[str, list[int]], config: Config
) -> tuple[Tensor, Tensor]:
    """Return predicted embeddings of training clips, and the canonical text of each."""
    rng = np.random.default_rng((config.seed, config.steps))  # a seed that no training step uses
    embeddings, answers = [], []
    canonical = torch.from_numpy(texts.canonical[texts.meaning]).to(DEVICE)
    for _ in range(config.pool_batches):
        batch = make_batch(sampler.batch(config.batch, rng), texts, queries, trainee.model.preset, rng).to(DEVICE)
        embeddings.append(trainee(batch))
        answers.append(canonical[batch.texts])
    return torch.cat(embeddings), torch.cat(answers)


def mix(pool: Tensor, pool_texts: Tensor, captions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return a batch of embeddings (size, 384), unit length, and the index of each one's text."""
    clips, clean = int(SHARES[0] * size), int(SHARES[1] * size)
    rows = torch.randint(len(pool), (clips,)).to(DEVICE)
    chosen = torch.randint(len(captions), (size - clips,)).to(DEVICE)
    noise = F.normalize(torch.randn(size - clips, captions.shape[1]), dim=-1).to(DEVICE)
    noise *= NOISE * torch.rand(size - clips, 1).to(DEVICE)
    noise[:clean] = 0
    noisy = F.normalize(captions[chosen] + noise, dim=-1)
    return torch.cat([pool[rows], noisy]), torch.cat([pool_texts[rows], chosen])
