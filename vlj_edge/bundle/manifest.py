"""The types of a bundle's manifest.json, and writing it. Reading and checking it is in validate.py.

The names of the fields are the names in the JSON file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..presets import Clip, Preprocess
from ..schema import Count
from .gate_settings import GateSettings, KnownSettings, LabelHead, LabelSettings

DEFAULT_GATES = "defaults, not calibrated"  # in the receipt
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1: VL-JEPA alone
MANIFEST = "manifest.json"
ENGINE_NAMES = ("vision_encoder", "predictor", "decoder", "text_encoder")
TOKENIZER_NAMES = ("query", "decoder", "text_encoder")
DECODER = "decoder"  # the engine and the tokenizer that a bundle may lack: it then gives embeddings and no texts
PREDICTOR = "predictor"  # without it, the vision encoder gives the embedding and the model takes no query
KEPT = "kept"  # the input of the vision engines that names the tokens which they are given
TEXT_ENCODER = "text_encoder"  # the engine and the tokenizer; without them texts cannot be compared with a video
BUILT_ENGINES = "engines"  # the folder of TensorRT engines built on a device, which the manifest does not list


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an engine.

    Attributes:
        dtype: numpy's name, except for bfloat16.
        by_tokens: the axis along which the tensor may also have another of the lengths `Tokens.counts`; None: its shape
            is fixed.
    """

    name: str
    dtype: Literal["float32", "float16", "bfloat16", "int64", "int32", "bool"]
    shape: tuple[Count, ...]
    by_tokens: int | None = None

    def shape_of(self, tokens: int | None) -> tuple[int, ...]:
        """Return the shape with so many tokens; None: with all."""
        if self.by_tokens is None or tokens is None:
            return self.shape
        return (*self.shape[: self.by_tokens], tokens, *self.shape[self.by_tokens + 1 :])


@dataclass(frozen=True)
class EngineSpec:
    """One engine: an ONNX file and its properties.

    Attributes:
        file: path of the ONNX file, relative to the bundle.
        precision: of the matrix products: "fp32", "fp16", "bf16" or "int8" (int8 by int8); "int8w" and "int4w" compute
            in fp32 with weights that are stored as integers. A suffix "-fp16" means that the rest is fp16.
        opset: ONNX opset of the default domain.
        in_place: output name -> name of the input whose buffer it must be bound to (the key-value cache).
        kept_fp32: with fp16: the operators that stay in fp32 and why, one sentence each.
        plugins: operators that are this project's own and not ONNX's. Only TensorRT runs such an engine, with plugins
            that `vlj-edge build` brings (the fused flavour).
    """

    file: str
    precision: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    in_place: dict[str, str] = field(default_factory=dict)
    kept_fp32: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()

    @property
    def by_tokens(self) -> tuple[TensorSpec, ...]:
        """The inputs that have an axis by tokens; none if the engine takes all tokens alone."""
        return tuple(tensor for tensor in self.inputs if tensor.by_tokens is not None)

    @property
    def of_all_tokens(self) -> EngineSpec:
        """The same engine where every shape is fixed: it takes all tokens."""
        inputs, outputs = (
            tuple(replace(tensor, by_tokens=None) for tensor in tensors) for tensors in (self.inputs, self.outputs)
        )
        return replace(self, inputs=inputs, outputs=outputs)


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer in the JSON format of the tokenizers library.

    Attributes:
        file: relative to the bundle.
        length: number of token ids that the engine takes; the decoder's: the most that a text can have.
        pad: id of the padding token.
        end: id at which the decoder stops; None for the others.
        text_prefix: put before every text (EmbeddingGemma's task prompts).
    """

    file: str
    length: Count
    pad: int
    end: int | None = None
    text_prefix: str = ""


@dataclass(frozen=True)
class Tokens:
    """The visual tokens of a clip, which the vision engines may be given a part of: the input "kept" names them.

    Tokens are in time slots of `tubelet` frames, each of side x side places, in T, H, W order.

    Attributes:
        counts: how many tokens the engines take, ascending; the last is all.
        default: what is computed where nothing is asked for: "all", or "auto", those that carry news, if vlj-edge
            calibrate found that the texts stay as right.
    """

    tubelet: Count
    side: Count
    counts: tuple[Count, ...]
    default: Literal["all", "auto"] = "all"


@dataclass(frozen=True)
class FileSeal:
    """The size in bytes and sha256 in hex that a file must have."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
        preset: name of the model's dimensions (vlj_edge.presets).
        embedding: width of the embeddings.
        default_query: the query that the predictor gets if the user gives none; empty if the model takes none.
        engines: by ENGINE_NAMES; more are allowed.
        tokenizers: by TOKENIZER_NAMES.
        gates: defaults, calibrated with the weights.
        files: path relative to the bundle -> its seal, for every file except the manifest.
        receipt: how the bundle was made: weights, commit, command, versions; `gates`: DEFAULT_GATES, or how they were
            calibrated for a camera.
        parity: how closely the engines match torch, with figures.
        queries: the queries that the predictor was trained on, all of them; empty: they are not known.
        captions: file of texts, one a line, of which the decoder engine chooses the nearest; None: the decoder is a
            language model, or there is none.
        family: of checkpoints (export/families).
        label_head: the decoder's outputs are logits of labels; None: it is another kind, or there is none.
        known: what embeddings look like on data that the model knows; None: that was not measured.
        tokens: how the vision engines take a part of a clip's tokens; None: they always take all.
        on_cpu: for an engine that only a card runs, the same engine in a form for ONNX Runtime on a CPU, by name.
        prefix: file of axes on which shortened embeddings keep the most (runtime/embedding/quantize.py).
    """

    preset: str
    embedding: Count
    preprocess: Preprocess
    clip: Clip
    default_query: str
    engines: dict[str, EngineSpec]
    tokenizers: dict[str, TokenizerSpec]
    gates: GateSettings
    files: dict[str, FileSeal]
    receipt: dict[str, Any]
    parity: dict[str, Any]
    captions: str | None = None
    labels: LabelSettings = field(default_factory=LabelSettings)
    prefix: str | None = None
    queries: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
    family: str = "vl-jepa"
    label_head: LabelHead | None = None
    known: KnownSettings | None = None
    tokens: Tokens | None = None
    on_cpu: dict[str, EngineSpec] = field(default_factory=dict)

    def for_cpu(self) -> Manifest:
        """Return the manifest with the engines' forms for a CPU in place of those for a card."""
        for_card = {name: self.engines[name] for name in self.on_cpu}
        return replace(self, engines=self.engines | self.on_cpu, on_cpu=for_card)

    @property
    def takes_query(self) -> bool:
        """Whether the embedding depends on a query."""
        return PREDICTOR in self.engines

    @property
    def embeds_texts(self) -> bool:
        """Whether texts have embeddings that can be compared with those of a video."""
        return TEXT_ENCODER in self.engines

    @property
    def has_default_gates(self) -> bool:
        """Whether its gates are known to be defaults, which nothing was calibrated for."""
        return bool(self.receipt.get("gates") == DEFAULT_GATES)

    @property
    def vision_engines(self) -> tuple[str, ...]:
        """The engines from pixels to the embedding, in their order."""
        return ("vision_encoder", PREDICTOR) if self.takes_query else ("vision_encoder",)


def with_relative_defaults(manifest: Manifest) -> Manifest:
    """Return a manifest whose meaning gate follows the stream if nothing was calibrated: nobody knows then how near to
    each other the embeddings of unrelated scenes lie. Bundles of earlier versions do not say so."""
    if not manifest.has_default_gates:
        return manifest
    return replace(manifest, gates=replace(manifest.gates, meaning=replace(manifest.gates.meaning, relative=True)))


def seal(path: Path) -> FileSeal:
    """Return a file's size and sha256, without reading it into memory whole."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return FileSeal(path.stat().st_size, digest.hexdigest())


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json; `manifest.files` must hold the seals of all other files already."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def nano_bundle() -> Path:
    """Return the directory of the bundle that is part of this package, the default of every command."""
    return Path(__file__).parents[1] / "nano"
