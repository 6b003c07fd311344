"""Greedy decoding of many embeddings side by side in torch; the runtime decodes one at a time."""

from __future__ import annotations

import tokenizers
import torch
from torch import Tensor

from vlj_edge.export.models import VLJepa

BATCH = 512


@torch.inference_mode()
def generate(model: VLJepa, embeddings: Tensor, tokenizer: tokenizers.Tokenizer) -> list[str]:
    """The text of each embedding, float32 (n, 384)."""
    return [text for part in embeddings.split(BATCH) for text in _generate(model, part, tokenizer)]


def _generate(model: VLJepa, embeddings: Tensor, tokenizer: tokenizers.Tokenizer) -> list[str]:
    end, tokens = model.preset.decoder_end, torch.zeros(len(embeddings), 0, dtype=torch.int64)
    for _ in range(model.preset.decoder_tokens - 1):
        tokens = torch.cat([tokens, model.decoder(embeddings, tokens)[:, -1:].argmax(-1)], dim=1)
        if (tokens == end).any(1).all():
            break
    rows = [row[: row.index(end)] if end in row else row for row in tokens.tolist()]
    return [tokenizer.decode(row) for row in rows]
