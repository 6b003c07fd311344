"""EmbeddingGemma's architecture at full width, against transformers: its sliding window and its last half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Gemma3TextConfig, Gemma3TextModel

from tests.export.models.full_depth import (
    LARGEST_DIFFERENCE,
    LOWEST_COSINE,
    SMALL_VOCABULARY,
    likeness,
    lowest_cosine,
    scramble_gemma_to_depth,
    watched,
)
from tests.export.models.test_models import difference
from vlj_edge.export.models import text_encoder
from vlj_edge.export.models.text_encoder import TextEncoder
from vlj_edge.export.onnx import graph as onnx_graph
from vlj_edge.export.weights.text_encoders import load_text_backbone
from vlj_edge.presets import preset

pytestmark = pytest.mark.usefixtures("seeded_and_freed")
slow = pytest.mark.slow
LARGE, OPSET = preset("vl-jepa-1.6b"), 23
# Longer than the window on both sides of the middle; padded; and so short that padding at the end has nothing to see.
TEXT_LENGTH, TEXT_REAL = 704, (700, 613, 20)
FIRST_OUTSIDE = 257  # EmbeddingGemma's window of 512 goes half to each side


def gemma(layer_types: list[str]) -> Gemma3TextModel:
    """EmbeddingGemma-300M's config.json but for its vocabulary."""
    config = Gemma3TextConfig(
        vocab_size=SMALL_VOCABULARY,
        hidden_size=768,
        intermediate_size=1152,
        num_hidden_layers=len(layer_types),
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        max_position_embeddings=2048,
        sliding_window=512,
        layer_types=layer_types,
        use_bidirectional_attention=True,
        attn_implementation="eager",
    )
    model = Gemma3TextModel(config).eval()
    scramble_gemma_to_depth(model, len(layer_types))
    return model


class WithTokens(nn.Module):
    """A text encoder that also returns what it pools."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, text_ids: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        pool, seen = text_encoder.mean_pool, []

        def keep(hidden: Tensor, mask: Tensor) -> Tensor:
            seen.append(hidden)
            return pool(hidden, mask)

        text_encoder.mean_pool = keep
        try:
            return self.encoder(text_ids, text_mask), seen[0]
        finally:
            text_encoder.mean_pool = pool


def exported_text_encoder(theirs: Gemma3TextModel, head: nn.Linear, directory: Path) -> onnxruntime.InferenceSession:
    """The way of `vlj-edge export`: saved, loaded as the preset's text backbone, exported, run by ONNX Runtime."""
    theirs.save_pretrained(directory)
    backbone = load_text_backbone("embeddinggemma-300m", directory).load()
    ids, mask = torch.zeros(1, TEXT_LENGTH, dtype=torch.int64), torch.ones(1, TEXT_LENGTH, dtype=torch.bool)
    inputs = {"text_ids": ids, "text_mask": mask}
    ours = WithTokens(TextEncoder(backbone, head))
    onnx_graph.save(onnx_graph.to_onnx(ours, inputs, ["embedding", "tokens"], OPSET), directory / "text.onnx")
    return onnxruntime.InferenceSession(directory / "text.onnx", providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    embedding, tokens = session.run(None, {"text_ids": ids.numpy(), "text_mask": mask.numpy()})
    return torch.from_numpy(np.asarray(embedding)), torch.from_numpy(np.asarray(tokens))


def text() -> Tensor:
    """No id twice: neighbours that are equal would be alike whatever the layers did."""
    return torch.randperm(SMALL_VOCABULARY - 1)[None, :TEXT_LENGTH] + 1


@slow
def test_embeddinggemma_beyond_its_window(tmp_path: Path) -> None:
    theirs = gemma([f"{'full' if i in (5, 11, 17, 23) else 'sliding'}_attention" for i in range(24)])
    head = nn.Linear(768, LARGE.embedding)
    session = exported_text_encoder(theirs, head, tmp_path)
    for real in TEXT_REAL:
        ids, mask = text(), torch.arange(TEXT_LENGTH)[None] < real
        with watched(theirs.layers) as stream:
            expected = theirs(input_ids=ids[:, :real]).last_hidden_state  # not padded: nothing to be masked
        stream.check(24)
        assert likeness(expected) < 0.8
        embedding, tokens = run(session, torch.where(mask, ids, 0), mask)
        assert lowest_cosine(tokens[:, :real], expected) > LOWEST_COSINE
        answer = F.normalize(head(expected.mean(1)), dim=-1)
        assert lowest_cosine(embedding, answer) > LOWEST_COSINE and difference(embedding, answer) < LARGEST_DIFFERENCE


def test_the_window_goes_256_tokens_to_each_side(tmp_path: Path) -> None:
    """One token changes, and with one layer that slides only those see it that have it in their window."""
    theirs = gemma(["sliding_attention"])
    session = exported_text_encoder(theirs, nn.Linear(768, LARGE.embedding), tmp_path)
    ids, mask = text(), torch.ones(1, TEXT_LENGTH, dtype=torch.bool)
    changed = TEXT_LENGTH // 2
    others = ids.clone()
    others[0, changed] = (ids[0, changed] + 1) % SMALL_VOCABULARY
    distance = (torch.arange(TEXT_LENGTH) - changed).abs()
    for tokens, of_others in (
        [theirs(input_ids=each, attention_mask=mask).last_hidden_state for each in (ids, others)],
        [run(session, each, mask)[1] for each in (ids, others)],
    ):
        moved = (tokens - of_others).abs().amax(-1)[0]
        # A sharp softmax may give a key next to nothing, so that inside it is most that move; outside it is none.
        assert (moved[distance >= FIRST_OUTSIDE] == 0).all() and (distance >= FIRST_OUTSIDE).sum() > 100
        assert (moved[distance < FIRST_OUTSIDE] > 1e-6).float().mean() > 0.9
        assert (moved[distance == FIRST_OUTSIDE - 1] > 1e-6).all(), "the window is narrower than 256 tokens to a side"
