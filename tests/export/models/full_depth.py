"""Random weights at which depth can be judged, and what is measured at them.

At the usual random weights parity proves little: attention is nearly uniform, so that positions and masks do not show,
the residual stream outgrows what each further layer adds, and all tokens come to look alike, so that the cosine of any
token with any other passes. Here scores are as sharp as trained ones, and all layers together add as much as the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.export.models.test_models import scramble

LOWEST_COSINE = 0.99999
LARGEST_DIFFERENCE = 1e-4  # one layer alone, on outputs of unit scale

# Standard deviation of the scores before softmax: at 2.5 a query sees a handful of 2,048 keys (n * exp(-2.5 ** 2)).
SHARPNESS = 2.5
SMALL_VOCABULARY = 1000  # no width depends on it, and embeddings are most of what these models weigh

_QUERIES_AND_KEYS = ("query", "key", "q_proj", "k_proj")
_ENDS_OF_BRANCHES = ("attention.proj", "mlp.fc2", "o_proj", "down_proj")


def scramble_to_depth(model: nn.Module, layers: int) -> None:
    """`scramble`, then queries and keys made sharp and each branch scaled so that `layers` of them add up to about 1.

    Built for the names of transformers' V-JEPA 2 and Llama.
    """
    scramble(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module = name.rpartition(".")[0]
            if module.endswith(_QUERIES_AND_KEYS):
                parameter.mul_(SHARPNESS**0.5)
            elif module.endswith(_ENDS_OF_BRANCHES):
                parameter.mul_(layers**-0.5)
            elif module.endswith("embed_tokens"):
                parameter.normal_()


def scramble_gemma_to_depth(model: nn.Module, layers: int) -> None:
    """The same for Gemma 3, which has no biases, whose norms multiply by 1 + weight and end each branch, and which
    normalises queries and keys."""
    scramble(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module = name.rpartition(".")[0]
            if module.endswith("q_norm"):
                parameter.uniform_(0.5, 1.5).mul_(SHARPNESS).sub_(1)
            elif module.endswith(("post_attention_layernorm", "post_feedforward_layernorm")):
                parameter.uniform_(0.5, 1.5).mul_(layers**-0.5).sub_(1)
            elif "norm" in module:
                parameter.uniform_(-0.5, 0.5)


@dataclass
class Stream:
    """The residual stream behind each layer: its scale, and the share of it that the layer added."""

    scales: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def add(self, before: Tensor, after: Tensor) -> None:
        self.scales.append(float(after.std()))
        self.shares.append(float((after - before).std() / after.std()))

    def check(self, layers: int) -> None:
        assert len(self.scales) == layers
        assert all(0.5 < scale < 3 for scale in self.scales), self.scales
        assert all(share > 0.1 for share in self.shares), self.shares


@contextmanager
def watched(layers: nn.ModuleList) -> Iterator[Stream]:
    """Record what each layer does to the residual stream during the block."""
    stream = Stream()

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        stream.add(inputs[0], output if isinstance(output, Tensor) else output[0])

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield stream
    finally:
        for handle in handles:
            handle.remove()


def lowest_cosine(ours: Tensor, theirs: Tensor) -> float:
    """Over all vectors, each against its own counterpart."""
    assert ours.shape == theirs.shape and ours.isfinite().all()
    return float(F.cosine_similarity(ours.double(), theirs.double(), dim=-1).min())


def likeness(tokens: Tensor) -> float:
    """The largest cosine of any vector with its neighbour in the sequence: near 1, a cosine bar could tell nothing."""
    return float(F.cosine_similarity(tokens[..., 1:, :], tokens[..., :-1, :], dim=-1).max())
