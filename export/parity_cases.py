"""The inputs of a parity run, and the outputs of the torch modules in fp32 that the exported engines must reproduce."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vlj_edge.bundle import Tokens
from vlj_edge.presets import ModelShape, Preset

from .models.decoder import Decoder
from .models.label_head import LabelHead
from .models.nearest_caption import NearestCaption
from .onnx.precision import record_input_ranges
from .request import COMPARED_CLIPS
from .weights.tokenizers import BundleTokenizers

SENTENCES = (
    "a robot arm opens a drawer",
    "nothing moves",
    "someone closes the door of a microwave",
    "two people walk",
    "What is the robot holding?",
    "the arm pushes a red puck across the table and lets go of it",
    "a cat",
    "The video shows how a person cuts an onion on a wooden board, then puts the pieces into a pan.",
)
COMPARED = COMPARED_CLIPS  # of the clips and of the sentences; the others only set the scales of int8 activations


@dataclass
class ParityCases:
    """Inputs and torch's outputs. Each engine gets torch's output of the engine before it, so errors do not add up.

    Attributes:
        clips: float32 (1, frames, 3, crop, crop), normalised.
        query: ids and mask of the preset's query; empty for a model that takes none.
        sentences: ids and mask of each sentence for the text encoder.
        kept: for each clip, the tokens that the vision engines are given, int64 (1, n); empty where they always take
            all.
        visual_tokens: torch's, one (1, tokens, width) for each clip.
        exported_tokens: the exported vision encoder's, for the chain of both engines.
        clip_embeddings, text_embeddings: float32 (1, embedding) for each clip and each sentence.
        captions: index (1, 1) and cosine (1, 1) of the nearest caption for each embedding of decoder_inputs.
        label_logits: of a label head, float32 (1, labels) for each embedding of decoder_inputs.
        texts: token ids and logits, float32 (n, vocabulary), of the greedy text for each embedding of decoder_inputs.
    """

    preset: ModelShape
    clips: list[Tensor]
    query: list[Tensor]
    sentences: list[list[Tensor]]
    kept: list[list[Tensor]]
    visual_tokens: list[Tensor] = field(default_factory=list)
    exported_tokens: list[npt.NDArray[Any]] = field(default_factory=list)
    clip_embeddings: list[Tensor] = field(default_factory=list)
    text_embeddings: list[Tensor] = field(default_factory=list)
    captions: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    label_logits: list[Tensor] = field(default_factory=list)
    texts: list[tuple[list[int], Tensor]] = field(default_factory=list)

    @property
    def decoder_inputs(self) -> list[Tensor]:
        """The embeddings with which the decoder is compared."""
        return self.clip_embeddings[:COMPARED] + self.text_embeddings[:COMPARED]


def make_cases(
    preset: ModelShape, tokenizers: BundleTokenizers, clips: list[Tensor], tokens: Tokens | None = None
) -> ParityCases:
    """Return the inputs: `clips`, or synthetic ones where it is empty, the preset's query, and SENTENCES."""
    clips = clips or [probe_clip(preset, seed) for seed in range(COMPARED)]
    query, text = tokenizers.get("query"), tokenizers.get("text_encoder")
    return ParityCases(
        preset,
        clips,
        [torch.from_numpy(x) for x in query.encode(preset.default_query)] if query is not None else [],
        [[torch.from_numpy(x) for x in text.encode(each)] for each in SENTENCES] if text is not None else [],
        [[] if tokens is None else [_part(tokens, number)] for number in range(len(clips))],
    )


def _part(tokens: Tokens, number: int) -> Tensor:
    """Return tokens at random for a clip, int64 (1, n): all for every COMPARED-th clip, a part for the others."""
    count = tokens.counts[-1 - number % COMPARED % len(tokens.counts)]
    chosen = np.random.default_rng(number).permutation(tokens.counts[-1])[:count]
    return torch.from_numpy(np.sort(chosen))[None]


@torch.no_grad()
def run_torch(name: str, module: Any, cases: ParityCases) -> dict[str, float]:
    """Add an engine's outputs in fp32 to the cases; returns the largest absolute input of each of its linear layers."""
    with record_input_ranges(module) as ranges:
        if name == "vision_encoder" and not cases.query:
            cases.clip_embeddings = [module(clip) for clip in cases.clips]
        elif name == "vision_encoder":
            cases.visual_tokens = [module(clip, *kept) for clip, kept in zip(cases.clips, cases.kept, strict=True)]
        elif name == "predictor":
            each = zip(cases.visual_tokens, cases.kept, strict=True)
            cases.clip_embeddings = [module(tokens, *cases.query, *kept) for tokens, kept in each]
        elif name == "text_encoder":
            cases.text_embeddings = [module(*sentence) for sentence in cases.sentences]
        elif isinstance(module, LabelHead):
            cases.label_logits = [module(embedding) for embedding in cases.decoder_inputs]
        elif isinstance(module, NearestCaption):
            cases.captions = [module(embedding) for embedding in cases.decoder_inputs]
        else:
            assert isinstance(cases.preset, Preset)
            end = cases.preset.decoder_end
            cases.texts = [_generate_text(module, embedding, end) for embedding in cases.decoder_inputs]
    return ranges


def probe_clip(preset: ModelShape, seed: int) -> Tensor:
    """Return a normalised clip (1, frames, 3, crop, crop) of soft blobs that drift: closer to a picture than noise."""
    rng = np.random.default_rng(seed)
    side, frames = preset.preprocess.crop, preset.clip.frames
    grid = np.linspace(0, 1, side, dtype=np.float32)
    image = np.full((frames, 3, side, side), 0.4, np.float32)
    for _ in range(8):
        (x, y), (dx, dy) = rng.random(2), rng.normal(0, 0.15, 2)
        colour, size = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.04, 0.25)
        for t, move in enumerate(np.linspace(0, 1, frames)):
            blob = np.exp(-((grid[None] - x - dx * move) ** 2 + (grid[:, None] - y - dy * move) ** 2) / size**2)
            image[t] += colour[:, None, None].astype(np.float32) * blob
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (preset.preprocess.mean, preset.preprocess.std))
    return torch.from_numpy((image.clip(0, 1) - mean) / std)[None]


def _generate_text(decoder: Decoder, embedding: Tensor, end: int) -> tuple[list[int], Tensor]:
    """Return the ids of the greedy text, and the logits at each of its positions, float32 (n, vocabulary)."""
    text = decoder.generate(embedding, end)
    read = torch.tensor([text[: decoder.capacity - 1]], dtype=torch.int64)
    return text, decoder(embedding, read)[0]
