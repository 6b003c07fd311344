"""The bundle: the directory that export writes and the runtime runs, the only thing that passes between them.

It holds manifest.json, one ONNX file an engine and the tokenizers; the manifest lists every file with size and sha256.
Here: the manifest's types, reading and checking it, gate settings, and engines built from a bundle. Not here: making a
bundle (export), running one (runtime).
"""

from .gate_settings import (
    NO_GATES,
    BudgetSettings,
    CaptionMemorySettings,
    GateSettings,
    KnownSettings,
    LabelHead,
    LabelSettings,
    MeaningGateSettings,
    RestSettings,
    SceneGateSettings,
)
from .manifest import (
    BUILT_ENGINES,
    DECODER,
    DEFAULT_GATES,
    ENGINE_NAMES,
    KEPT,
    MANIFEST,
    PREDICTOR,
    SCHEMA_VERSION,
    TEXT_ENCODER,
    TOKENIZER_NAMES,
    EngineSpec,
    FileSeal,
    Manifest,
    TensorSpec,
    TokenizerSpec,
    Tokens,
    nano_bundle,
    seal,
    write_manifest,
)
from .validate import read_manifest, verify_bundle, verify_file

__all__ = [
    "BUILT_ENGINES",
    "DECODER",
    "DEFAULT_GATES",
    "ENGINE_NAMES",
    "KEPT",
    "MANIFEST",
    "NO_GATES",
    "PREDICTOR",
    "SCHEMA_VERSION",
    "TEXT_ENCODER",
    "TOKENIZER_NAMES",
    "BudgetSettings",
    "CaptionMemorySettings",
    "EngineSpec",
    "FileSeal",
    "GateSettings",
    "KnownSettings",
    "LabelHead",
    "LabelSettings",
    "Manifest",
    "MeaningGateSettings",
    "RestSettings",
    "SceneGateSettings",
    "TensorSpec",
    "TokenizerSpec",
    "Tokens",
    "nano_bundle",
    "read_manifest",
    "seal",
    "verify_bundle",
    "verify_file",
    "write_manifest",
]
