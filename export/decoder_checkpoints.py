from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from vlj_edge.presets import Llama

from .checkpoint_files import State


@dataclass(frozen=True)
class CausalLlama:
    config: Llama
    state: State
    tokenizer: Tokenizer
    end: int


def causal_llama(path: Path) -> CausalLlama:
    raise NotImplementedError
