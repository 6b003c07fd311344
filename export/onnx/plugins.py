"""The two operators of the fused flavour, which are not part of ONNX: this project's attention kernel.

export/models/fused.py puts them into graphs, and export/tensorrt/fused_attention.py registers them with TensorRT as
plugins. TensorRT's parser takes an unknown node for the plugin of the same name (onnx-tensorrt, onnxOpImporters.cpp,
FallbackPluginImporter).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlj_edge.cuda.attention import Rotation, attention_launch
from vlj_edge.cuda.launch import Launch

DOMAIN = "vlj_edge"  # the node's domain in ONNX, and the plugin's namespace in TensorRT
ENGINES = (
    "vision_encoder",
    "predictor",
)  # their attention is bidirectional; the other engines are as in the native flavour


@dataclass(frozen=True)
class Plugin:
    """An operator that is a plugin in TensorRT.

    Attributes:
        name: of the node's type and of the plugin.
        rotation: of the kernel.
        inputs: names, in the node's order. qkv, float16 or bfloat16 [1, tokens, (heads + 2 * kv_heads) * head_dim];
            rotary, a constant, float32 [entries, 4], of vlj_edge.cuda.attention; and key_mask, int32
            [1, ceil(tokens / 4)], whose bytes are 1 for a key that is attended to. (TensorRT passes neither bool nor
            uint8 to plugins: PluginTensorDesc::type, TensorRT 10.14.)
        attributes: names of int32 lists: heads, the number of query and of key heads; picture, the rows and columns of
            tokens in a frame.
    """

    name: str
    rotation: Rotation
    inputs: tuple[str, ...]
    attributes: tuple[str, ...]


AXES = Plugin("AttentionByAxes", "axes", ("qkv", "rotary"), ("heads", "picture"))
HALVES = Plugin("AttentionByHalves", "halves", ("qkv", "rotary", "key_mask"), ("heads",))


def launch(
    plugin: Plugin, dtype: str, qkv: Sequence[int], heads: Sequence[int], picture: Sequence[int] | None = None
) -> Launch:
    """Return the kernel launch of a node.

    Args:
        dtype: "float16" or "bfloat16".
        qkv: shape of the first input.
        heads, picture: the node's attributes.

    Raises:
        VljEdgeError: the kernel does not support this; the message says what it supports.
    """
    batch, tokens, width = qkv
    query_heads, key_heads = heads
    return attention_launch(
        plugin.rotation,
        dtype,
        batch=batch,
        tokens=tokens,
        heads=query_heads,
        kv_heads=key_heads,
        head_dim=width // (query_heads + 2 * key_heads),
        grid=None if picture is None else (picture[0], picture[1]),
    )
