"""The bundle: the only thing that passes between export and runtime.

A directory with `manifest.json`, one ONNX file an engine and the tokenizers. The manifest holds the size and sha256 of
every file; `engines/` (built on this device) is outside it. Belongs here: the manifest's types, reading and checking
them, gate settings, and the cache of built engines. Does not: making a bundle (export) or running one (runtime).
"""

from .gate_settings import (
    CaptionMemorySettings,
    GateSettings,
    LabelSettings,
    MeaningGateSettings,
    RestSettings,
    SceneGateSettings,
)
from .manifest import (
    BUILT_ENGINES,
    DECODER,
    ENGINE_NAMES,
    MANIFEST,
    SCHEMA_VERSION,
    TOKENIZER_NAMES,
    EngineSpec,
    FileSeal,
    Manifest,
    TensorSpec,
    TokenizerSpec,
    nano_bundle,
    seal,
    write_manifest,
)
from .validate import read_manifest, verify_bundle, verify_file

__all__ = [
    "BUILT_ENGINES",
    "DECODER",
    "ENGINE_NAMES",
    "MANIFEST",
    "SCHEMA_VERSION",
    "TOKENIZER_NAMES",
    "CaptionMemorySettings",
    "EngineSpec",
    "FileSeal",
    "GateSettings",
    "LabelSettings",
    "Manifest",
    "MeaningGateSettings",
    "RestSettings",
    "SceneGateSettings",
    "TensorSpec",
    "TokenizerSpec",
    "nano_bundle",
    "read_manifest",
    "seal",
    "verify_bundle",
    "verify_file",
    "write_manifest",
]
