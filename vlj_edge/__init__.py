"""VL-JEPA on the device: one embedding per clip window, words only when the meaning changes.

This is the public Python API, described with examples in docs/python.md. Everything a program needs is an attribute of
`vlj_edge`; each is imported when it is first used, so that `import vlj_edge` stays light.

>>> import vlj_edge
>>> with vlj_edge.load() as model:
...     event = next(model.narrate("video.mp4"))
>>> event.text
'the robot arm stays still'
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import VljEdgeError
from .telemetry import opt_out as _opt_out_of_telemetry

if TYPE_CHECKING:
    from vlj_edge.export.bundle import export_bundle
    from vlj_edge.export.request import ExportRequest
    from vlj_edge.export.tensorrt.build import BuildResult as _BuildResult
    from vlj_edge.export.weights.locations import WeightSources, shipped_weights
    from vlj_edge.runtime.embedding.ask import answer_questions
    from vlj_edge.runtime.embedding.classify import classify, classify_source, watch
    from vlj_edge.runtime.embedding.labels import LabelBank, load_bank, make_bank, read_labels, save_bank
    from vlj_edge.runtime.embedding.novelty import NoveltyDetector, Observation, observe
    from vlj_edge.runtime.embedding.quantize import read_basis, shorten
    from vlj_edge.runtime.embedding.record_file import Layout, Record, RecordFile, read_records
    from vlj_edge.runtime.gating.stream_noise import StreamNoise
    from vlj_edge.runtime.library.index import IndexedVideo, index
    from vlj_edge.runtime.library.search import embedding_at, search
    from vlj_edge.runtime.library.store import Store
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.stream.run import Run
    from vlj_edge.runtime.video.source import Frame, Source
    from vlj_edge.runtime.video.uri import open_source
    from vlj_edge.runtime.words.endpoint import Endpoint
    from vlj_edge.runtime.words.words import Words

    from .bundle.embedding_space import embedding_space
    from .bundle.gate_settings import (
        BudgetSettings,
        CaptionMemorySettings,
        GateSettings,
        MeaningGateSettings,
        RestSettings,
        SceneGateSettings,
    )
    from .decisions import Check, Decision, TextReport
    from .presets import preset
    from .results import (
        Answer,
        Classification,
        Guess,
        Moment,
        Narration,
        Totals,
        Window,
        WindowAnswers,
        WindowEmbedding,
        WindowReport,
    )

__version__ = "0.1.0"

_opt_out_of_telemetry()

# In a clone, export/ and runtime/ stand beside this folder. They are also parts of the package if Python finds this
# folder before an installed package, as it does for `python -m vlj_edge` in the clone's root.
if (Path(__file__).parents[1] / "runtime" / "model.py").is_file():
    __path__.append(str(Path(__file__).parents[1]))

__all__ = [
    "Answer",
    "BudgetSettings",
    "CaptionMemorySettings",
    "Check",
    "Classification",
    "Decision",
    "Endpoint",
    "ExportRequest",
    "Frame",
    "GateSettings",
    "Guess",
    "IndexedVideo",
    "LabelBank",
    "Layout",
    "MeaningGateSettings",
    "Model",
    "Moment",
    "Narration",
    "NoveltyDetector",
    "Observation",
    "Record",
    "RecordFile",
    "RestSettings",
    "Run",
    "SceneGateSettings",
    "Source",
    "Store",
    "StreamNoise",
    "TextReport",
    "Totals",
    "VljEdgeError",
    "WeightSources",
    "Window",
    "WindowAnswers",
    "WindowEmbedding",
    "WindowReport",
    "Words",
    "__version__",
    "answer_questions",
    "build_engines",
    "classify",
    "classify_source",
    "embedding_at",
    "embedding_space",
    "export_bundle",
    "index",
    "load",
    "load_bank",
    "make_bank",
    "observe",
    "open_source",
    "preset",
    "read_basis",
    "read_labels",
    "read_records",
    "save_bank",
    "search",
    "shipped_weights",
    "shorten",
    "watch",
]

# Module -> the public names imported from it on first use; the same as the imports for type checkers above.
_LAZY = {
    ".bundle.embedding_space": ("embedding_space",),
    ".bundle.gate_settings": (
        "BudgetSettings",
        "CaptionMemorySettings",
        "GateSettings",
        "MeaningGateSettings",
        "RestSettings",
        "SceneGateSettings",
    ),
    ".decisions": ("Check", "Decision", "TextReport"),
    ".export.bundle": ("export_bundle",),
    ".export.request": ("ExportRequest",),
    ".export.weights.locations": ("WeightSources", "shipped_weights"),
    ".presets": ("preset",),
    ".results": (
        "Answer",
        "Classification",
        "Guess",
        "Moment",
        "Narration",
        "Totals",
        "Window",
        "WindowAnswers",
        "WindowEmbedding",
        "WindowReport",
    ),
    ".runtime.embedding.ask": ("answer_questions",),
    ".runtime.embedding.classify": ("classify", "classify_source", "watch"),
    ".runtime.embedding.labels": ("LabelBank", "load_bank", "make_bank", "read_labels", "save_bank"),
    ".runtime.embedding.novelty": ("Observation", "NoveltyDetector", "observe"),
    ".runtime.embedding.quantize": ("read_basis", "shorten"),
    ".runtime.embedding.record_file": ("Layout", "Record", "RecordFile", "read_records"),
    ".runtime.gating.stream_noise": ("StreamNoise",),
    ".runtime.library.index": ("IndexedVideo", "index"),
    ".runtime.library.search": ("embedding_at", "search"),
    ".runtime.library.store": ("Store",),
    ".runtime.model": ("Model",),
    ".runtime.stream.run": ("Run",),
    ".runtime.video.source": ("Frame", "Source"),
    ".runtime.video.uri": ("open_source",),
    ".runtime.words.endpoint": ("Endpoint",),
    ".runtime.words.words": ("Words",),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}

if not TYPE_CHECKING:  # a type checker sees the imports above, and reports names that do not exist

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF[name], __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    bundle: str | Path | None = None,
    backend: str | None = None,
    engines: str | Path | None = None,
    threads: int | None = None,
    gates: GateSettings | str | Path | None = None,
    tokens: float | Literal["all", "auto"] | None = None,
) -> Model:
    """Open a bundle for running.

    Args:
        bundle: its directory; None for the nano bundle that ships in the package.
        backend: "onnxruntime", "openvino", "tensorrt" or "cuda"; None for the best that works here. `Model.backend`
            names it.
        engines: a folder of TensorRT engines that were built elsewhere and are trusted.
        threads: CPU threads of the backend; None for what `vlj-edge tune` stored, otherwise all that may be used.
        gates: settings of the gates, or a file that `vlj-edge calibrate` wrote, in place of the bundle's.
        tokens: which visual tokens of a clip are computed: "all"; "auto", those that carry news; or a share, 0..1, for
            bundles that were exported with --token-shares.

    Returns:
        A Model, which is also a context manager.

    Raises:
        VljEdgeError: the bundle does not match its manifest, or the backend is not installed or broken.
    """
    from vlj_edge.runtime.model import Model

    from .bundle import nano_bundle

    return Model(
        Path(bundle) if bundle is not None else nano_bundle(), backend, threads, engines, gates=gates, tokens=tokens
    )


def build_engines(bundle: str | Path, card: str) -> list[_BuildResult]:
    """Build a bundle's TensorRT engines ahead of time, for a card that need not be in this machine.

    `vlj-edge build` also builds for the card in this machine. Engines that are current are kept.

    Args:
        bundle: its directory; the engines go to its `engines/` folder.
        card: compute capability, such as "sm86" (RTX 30), "sm89" (RTX 40) or "sm120" (RTX 50).

    Raises:
        VljEdgeError: TensorRT-RTX is not installed, or it cannot build one of the graphs for this card.
    """
    from vlj_edge.export.tensorrt.build import build_engines, compute_capability

    from .bundle import read_manifest
    from .bundle.engine_cache import RuntimeId
    from .tensorrt_package import import_tensorrt

    trt = import_tensorrt("tensorrt_rtx")
    compute_capability(trt, card)
    directory = Path(bundle)
    return build_engines(directory, read_manifest(directory), trt, RuntimeId(trt.package, trt.version, card, None))
