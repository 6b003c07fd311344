"""Batched greedy decoding in torch; the runtime decodes one text at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tokenizers
import torch
from torch import Tensor

from vlj_edge.export.models import VLJepa
from vlj_edge.presets import Preset

BATCH = 512


@torch.inference_mode()
def generate(model: VLJepa, embeddings: Tensor, tokenizer: tokenizers.Tokenizer) -> list[str]:
    """Return the text of each embedding, float32 (n, 384)."""
    texts = []
    for part in embeddings.split(BATCH):
        decode = partial(model.decoder, part)
        texts += greedy(decode, len(part), model.preset, tokenizer)
    return texts


def greedy(
    decode: Callable[[Tensor], Tensor], count: int, preset: Preset, tokenizer: tokenizers.Tokenizer
) -> list[str]:
    """Return `count` texts. `decode` maps tokens, int64 (count, n), to logits; the last ones predict the next token."""
    end, tokens = preset.decoder_end, torch.zeros(count, 0, dtype=torch.int64)
    for _ in range(preset.decoder_tokens - 1):
        tokens = torch.cat([tokens, decode(tokens)[:, -1:].argmax(-1)], dim=1)
        if (tokens == end).any(1).all():
            break
    rows = [row[: row.index(end)] if end in row else row for row in tokens.tolist()]
    return [tokenizer.decode(row) for row in rows]
