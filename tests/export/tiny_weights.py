"""A weights directory of tiny random parts: each dimension differs from the others, so that no two can be confused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, BertModel

from vlj_edge.export.models import VLJepa
from vlj_edge.export.weights.locations import DECODER_TOKENIZER, MODEL_FILE, QUERY_TOKENIZER
from vlj_edge.presets import Clip, Llama, Preprocess, Preset, TextEncoder, VisionEncoder, preset

VOCABULARY = 300
TEXTS = ["Describe the video.", "the robot arm opens the drawer", "nothing moves", "What is the robot doing?"]

TINY: Preset = replace(
    preset("nano"),
    name="tiny",
    embedding=40,
    preprocess=Preprocess(36, 32, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
    clip=Clip(frames=4, frames_per_second=4.0, stride=1),
    vision=VisionEncoder(None, tubelet=2, patch=8, width=48, layers=2, heads=2, mlp=80),
    predictor=Llama(VOCABULARY, 64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=88, norm_eps=1e-5, rope_theta=1e4),
    query_tokens=12,
    decoder=Llama(VOCABULARY, 32, layers=3, heads=4, kv_heads=1, head_dim=8, mlp=56, norm_eps=1e-5, rope_theta=1e4),
    decoder_tokens=10,
    text=TextEncoder("minilm-l6", width=96, tokens=14, int8_storage=True),
)


def byte_tokenizer() -> Tokenizer:
    """Byte-level BPE, as nano has it: any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def write_tiny_weights(directory: Path, tiny: Preset = TINY, seed: int = 0) -> Path:
    """Random weights of the preset, tokenizers, and a tiny BERT in place of MiniLM."""
    torch.manual_seed(seed)
    directory.mkdir(parents=True, exist_ok=True)
    model = VLJepa(tiny)
    with torch.no_grad():  # random texts differ from one another only when the embeddings do
        model.decoder.prefix_proj.weight.mul_(8)
    save_file(model.state_dict(), directory / MODEL_FILE)
    for name in (QUERY_TOKENIZER, DECODER_TOKENIZER):
        byte_tokenizer().save(str(directory / name))
    bert = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=tiny.text.width,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=160,
        max_position_embeddings=32,
    )
    BertModel(bert).save_pretrained(directory / "text_encoder")
    byte_tokenizer().save(str(directory / "text_encoder" / "tokenizer.json"))
    return directory
