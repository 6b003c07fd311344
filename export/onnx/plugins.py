"""The two operators of the fused flavour, which ONNX does not have: our attention kernel as TensorRT plugins.

export/models/fused.py puts them into graphs and export/tensorrt/fused_attention.py tells TensorRT what they are; both
ask here, and through it the kernel's contract. TensorRT's parser takes a node that it does not know for the plugin
whose name is the node's type (onnx-tensorrt, onnxOpImporters.cpp, FallbackPluginImporter).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlj_edge.cuda import kernels

DOMAIN = "vlj_edge"  # of the node in ONNX, and the plugin's namespace in TensorRT
ENGINES = ("vision_encoder", "predictor")  # that have bidirectional attention of ours; the others stay as in native


@dataclass(frozen=True)
class Plugin:
    """One operator.

    Attributes:
        name: of the node's type and of the plugin.
        inputs: qkv, 16-bit [1, tokens, (heads + 2 kv_heads) * head_dim]; turns, float32 [n, 4], a constant
            (kernels.axes_turns, halves_turns); and seen, int32 [1, ceil(tokens / 4)]: four keys a value, a byte each,
            since TensorRT hands plugins neither bool nor uint8 (PluginTensorDesc::type, TensorRT 10.14).
        attributes: lists of int32: heads, of the queries and of the keys; picture, rows and columns of tokens.
    """

    name: str
    rotation: kernels.Rotation
    inputs: tuple[str, ...]
    attributes: tuple[str, ...]

    @property
    def masked(self) -> bool:
        """Are there keys that are padding?"""
        return "seen" in self.inputs


AXES = Plugin("AttentionByAxes", "axes", ("qkv", "turns"), ("heads", "picture"))
HALVES = Plugin("AttentionByHalves", "halves", ("qkv", "turns", "seen"), ("heads",))


def launch(
    plugin: Plugin, dtype: str, qkv: Sequence[int], heads: Sequence[int], picture: Sequence[int] | None = None
) -> kernels.Launch:
    """How the kernel is started for a node.

    Args:
        dtype: "float16" or "bfloat16".
        qkv: its shape.

    Raises:
        VljEdgeError: the kernel does not serve this; it says what it serves.
    """
    batch, tokens, width = qkv
    queries, keys = heads
    return kernels.attention(
        plugin.rotation,
        dtype,
        batch=batch,
        tokens=tokens,
        heads=queries,
        kv_heads=keys,
        head_dim=width // (queries + 2 * keys),
        grid=None if picture is None else (picture[0], picture[1]),
        masked=plugin.masked,
    )
