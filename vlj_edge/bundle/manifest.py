"""The bundle: the only thing that passes between export and runtime.

A directory with `manifest.json`, one ONNX file an engine and the tokenizers. The manifest signs every file with size
and sha256; `engines/` (built on this device) is outside what it signs. Reading is strict: what does not match is
refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..presets import Clip, Preprocess
from ..schema import Count
from .gate_settings import GateSettings, LabelSettings

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
ENGINE_NAMES = ("vision_encoder", "predictor", "decoder", "text_encoder")
TOKENIZER_NAMES = ("query", "decoder", "text_encoder")
DECODER = "decoder"  # the engine and tokenizer that a bundle may go without: it then gives embeddings and no texts
BUILT_ENGINES = "engines"  # what `vlj-edge build` makes on a device; never signed


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an engine. `dtype` is a numpy name ("float32", "int64", "bool")."""

    name: str
    dtype: Literal["float32", "float16", "bfloat16", "int64", "int32", "bool"]
    shape: tuple[Count, ...]


@dataclass(frozen=True)
class EngineSpec:
    """One engine file.

    Attributes:
        file: ONNX file, relative to the bundle.
        precision: what its matrices are computed in: "fp32", "fp16", "bf16", or "int8", int8 by int8; "int8w" and
            "int4w" are fp32 arithmetic on weights that are stored as integers. With "-fp16" the rest is fp16.
        opset: ONNX opset of the default domain.
        in_place: output name -> input name, for outputs that must be bound to the input's own buffer (the KV cache).
        kept_fp32: with fp16, the operators that stay in fp32 and why, one sentence each.
        plugins: operators of the graph that are this project's own and not ONNX's: TensorRT alone runs it, and
            `vlj-edge build` brings them (the fused flavour).
    """

    file: str
    precision: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    in_place: dict[str, str] = field(default_factory=dict)
    kept_fp32: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizers JSON file and the ids that the runtime must know. `length` is the engine's fixed token count."""

    file: str
    length: Count
    pad: int
    end: int | None = None  # the decoder stops here
    text_prefix: str = ""  # put before every text (EmbeddingGemma's task prompts)


@dataclass(frozen=True)
class FileSeal:
    """Size in bytes and sha256 (hex) of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """manifest.json, schema version 1. A decoder is a language model with a tokenizer, a bank of captions, or none."""

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
    captions: str | None = None  # a file of texts, one a line, of which the decoder engine chooses the nearest
    labels: LabelSettings = field(default_factory=LabelSettings)
    prefix: str | None = (
        None  # a file of axes, on which shortened embeddings keep the most (runtime/embedding/quantize.py)
    )
    schema_version: int = SCHEMA_VERSION


def seal(path: Path) -> FileSeal:
    """Hash a file without reading it whole into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return FileSeal(path.stat().st_size, digest.hexdigest())


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json. The caller has sealed the files already."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def nano_bundle() -> Path:
    """The directory of the bundle that ships inside the package and runs when none is named."""
    return Path(__file__).parents[1] / "nano"
