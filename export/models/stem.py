"""EfficientNet-Lite0, batch norms folded in; up to the end of its stride-16 stage it is nano's frozen image stem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Block:
    """An inverted residual: kernel and stride of its depthwise convolution, and its channels."""

    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


# efficientnet/lite/efficientnet_lite_builder.py: r1_k3_s11_e1_i32_o16, r2_k3_s22_e6_i16_o24, r2_k5_s22_e6_i24_o40,
# r3_k3_s22_e6_i40_o80, r3_k5_s11_e6_i80_o112; lite has no squeeze-and-excitation, and ReLU6 in place of swish.
BLOCKS = (
    Block(3, 1, 1, 32, 16),
    Block(3, 2, 6, 16, 24),
    Block(3, 1, 6, 24, 24),
    Block(5, 2, 6, 24, 40),
    Block(5, 1, 6, 40, 40),
    Block(3, 2, 6, 40, 80),
    Block(3, 1, 6, 80, 80),
    Block(3, 1, 6, 80, 80),
    Block(5, 1, 6, 80, 112),
    Block(5, 1, 6, 112, 112),
    Block(5, 1, 6, 112, 112),
)
# After the stem: r4_k5_s22_e6_i112_o192, r1_k3_s11_e6_i192_o320.
LATER_BLOCKS = (
    Block(5, 2, 6, 112, 192),
    Block(5, 1, 6, 192, 192),
    Block(5, 1, 6, 192, 192),
    Block(5, 1, 6, 192, 192),
    Block(3, 1, 6, 192, 320),
)
CHANNELS = BLOCKS[-1].outputs
STRIDE = 16


class _Conv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: an odd row or column is added below or right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)
        # Sides are even wherever the stride is 2 (the resolution divides by 16), so SAME pads kernel - stride in all.
        total = kernel - stride
        self.pads = (total // 2, total - total // 2) * 2
        if total % 2 == 0:
            self.padding = (total // 2, total // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.pads[0] != self.pads[1]:
            x = F.pad(x, self.pads)
        return super().forward(x)


class _InvertedResidual(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.inputs * block.expand
        self.expand = _Conv(block.inputs, hidden, 1) if block.expand > 1 else None
        self.depthwise = _Conv(hidden, hidden, block.kernel, block.stride, groups=hidden)
        self.project = _Conv(hidden, block.outputs, 1)
        self.residual = block.stride == 1 and block.inputs == block.outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = F.relu6(self.depthwise(y))
        z: Tensor = self.project(y)
        return x + z if self.residual else z


class ImageStem(nn.Module):
    """Frames (batch, 3, height, width), RGB, (pixel - 127) / 128 -> features (batch, 112, height / 16, width / 16).

    Further blocks make the whole of EfficientNet-Lite0 but its head: (batch, 320, height / 32, width / 32).
    """

    def __init__(self, blocks: Sequence[Block] = BLOCKS) -> None:
        super().__init__()
        self.first = _Conv(3, blocks[0].inputs, 3, 2)
        self.blocks = nn.ModuleList(_InvertedResidual(block) for block in blocks)

    def forward(self, frames: Tensor) -> Tensor:
        x = F.relu6(self.first(frames))
        for block in self.blocks:
            x = block(x)
        return x


def stem_weights(efficientnet_lite: Mapping[str, Tensor], blocks: Sequence[Block] = BLOCKS) -> dict[str, Tensor]:
    """Return ImageStem's state dict from that of `efficientnet-lite-pytorch`, with batch norms folded in."""
    folded = fold_norm(efficientnet_lite, "_conv_stem", "_bn0", "first")
    for i, block in enumerate(blocks):
        source, target = f"_blocks.{i}.", f"blocks.{i}."
        if block.expand > 1:
            folded |= fold_norm(efficientnet_lite, f"{source}_expand_conv", f"{source}_bn0", f"{target}expand")
        folded |= fold_norm(efficientnet_lite, f"{source}_depthwise_conv", f"{source}_bn1", f"{target}depthwise")
        folded |= fold_norm(efficientnet_lite, f"{source}_project_conv", f"{source}_bn2", f"{target}project")
    return folded


def fold_norm(weights: Mapping[str, Tensor], conv: str, norm: str, target: str) -> dict[str, Tensor]:
    """Return weight and bias of a convolution, named after `target`, with the batch norm that follows it folded in."""
    # Batch norm epsilon 1e-3 is EfficientNet's, not torch's default.
    gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + 1e-3)
    return {
        f"{target}.weight": weights[f"{conv}.weight"] * gain.view(-1, 1, 1, 1),
        f"{target}.bias": weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain,
    }
