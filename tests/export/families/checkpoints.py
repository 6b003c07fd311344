"""Checkpoints at random weights, small, with the files that their owners publish, written by transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "a person opens the door",
    "two dogs run across the grass",
    "someone pours coffee into a white cup",
    "a red car drives along the street at night",
    "nothing moves in the kitchen",
]
SIDE = 32


def write_clip(directory: Path, **changes: Any) -> Any:
    """Write openai/clip-vit-base-patch32's files at small size. Returns the CLIPModel."""
    tokenizer = _clip_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 24}
    config = transformers.CLIPConfig(
        projection_dim=24,
        text_config=shared
        | {
            "hidden_size": 32,
            "intermediate_size": 64,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 20,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=shared | {"hidden_size": 40, "intermediate_size": 72, "image_size": SIDE, "patch_size": 8},
        **changes,
    )
    model = _random(transformers.CLIPModel, config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    size = {"shortest_edge": SIDE}, {"height": SIDE, "width": SIDE}
    transformers.CLIPImageProcessorPil(size=size[0], crop_size=size[1]).save_pretrained(directory)
    return model


def _random(kind: Any, config: Any, seed: int = 0) -> Any:
    """Weights large enough for embeddings to differ from one another."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.15)
                elif name.endswith("bias"):
                    parameter.normal_(0, 0.05)
    return model.eval()


def _clip_tokenizer() -> Any:
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))  # type: ignore[arg-type]
    trained.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    trained.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(TEXTS, trainer)
    import json

    model = json.loads(trained.to_str())["model"]
    vocabulary = model["vocab"]
    for letter in pre_tokenizers.ByteLevel.alphabet():
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    merges = [tuple(pair) for pair in model["merges"]]
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=20)
