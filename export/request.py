"""The arguments of an export, and every check of them that needs no torch: a wrong call fails in milliseconds."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import DECODER, PREDICTOR
from vlj_edge.errors import VljEdgeError, WrongCall, require
from vlj_edge.outputs import refuse_replacing
from vlj_edge.presets import ModelShape, Preset
from vlj_edge.targets import Target

from .hub import Repository
from .precisions import FLAVOURS, PRECISIONS, check_family, check_flavour, select_precision
from .weights.locations import WeightSources, check_checkpoint, check_sources

COMPARED_CLIPS = 4  # compared with torch; further ones only set the scales of int8 activations
_PACKAGES = (
    ("torch", "export"),
    ("onnx", "export"),
    ("onnxscript", "export"),
    ("safetensors", "export"),
    ("transformers", "export"),
    ("onnxruntime", "cpu"),
)


@dataclass(frozen=True)
class ExportRequest:
    """All arguments of an export.

    >>> from pathlib import Path
    >>> import vlj_edge
    >>> sources = vlj_edge.WeightSources(vlj_edge.shipped_weights())
    >>> request = vlj_edge.ExportRequest(sources, vlj_edge.preset("nano"), Path("nano-fp16"), precision="fp16")
    >>> request.engines
    ['vision_encoder', 'predictor', 'decoder', 'text_encoder']

    Attributes:
        out: the bundle directory to make.
        precision: as for precisions.select_precision().
        flavour: of the ONNX graphs. "native": the operators of opset 23; "portable": opset 19, for backends that do not
            know these; "fused": native with this project's attention kernel, for TensorRT only.
        check_parity: compare every engine with torch; without it the manifest says that parity was not measured.
        clips: encoder inputs, float32 (1, frames, 3, crop, crop), from real video. The first COMPARED_CLIPS are used
            for parity instead of synthetic ones, the others set the scales of int8 activations, which need them.
        preset: VL-JEPA's, or the shape of another family's checkpoint (families.find.read_shape), whose directory is
            `sources.weights`.
        target: the target whose gate settings replace those calibrated with the weights.
        overwrite: replace a bundle that exists at `out`.
        command: the command line, for the receipt.
        token_shares: shares, 0..1, of a clip's visual tokens that the vision engines can be given in place of all.
        repositories: the public repositories that weights were fetched from, for the receipt.
    """

    sources: WeightSources
    preset: ModelShape
    out: Path
    precision: str | None = None
    flavour: str = "native"
    check_parity: bool = True
    clips: Sequence[npt.NDArray[np.float32]] = ()
    target: Target | None = None
    overwrite: bool = False
    command: str = ""
    repositories: Sequence[Repository] = ()
    token_shares: Sequence[float] = ()

    @property
    def int8_engines(self) -> list[str]:
        """Engines whose int8 activations take their scales from `clips`."""
        precisions = select_precision(self.preset, self.precision, self.flavour)
        return [name for name in self.engines if PRECISIONS[precisions[name]].int8_activations]

    @property
    def engines(self) -> list[str]:
        """Names of the engines to make."""
        names = ["vision_encoder"]
        if isinstance(self.preset, Preset):
            names += [PREDICTOR] + ([DECODER] if self.sources.has_decoder else [])
        elif self.sources.captions is not None or (self.preset.has_texts and not self.sources.without_decoder):
            names.append(DECODER)
        return names + (["text_encoder"] if self.preset.text is not None else [])


def check_request(request: ExportRequest) -> None:
    """Check the request, except for `clips`.

    Raises:
        VljEdgeError: a name is unknown, a path is missing or of another kind, two choices exclude each other, `out`
            exists, or a package is not installed.
    """
    if request.flavour not in FLAVOURS:
        raise WrongCall(f"no flavour is called '{request.flavour}': choose one of {', '.join(FLAVOURS)}")
    precisions = select_precision(request.preset, request.precision, request.flavour)
    check_family(request.preset, request.flavour)
    for name in request.engines:
        check_flavour(name, precisions[name], request.flavour)
    _check_token_shares(request)
    _check_weights(request.sources, request.preset)
    check_out(request.out, request.overwrite)
    paths = [path for path in vars(request.sources).values() if isinstance(path, Path)]
    refuse_replacing("--out", request.out, paths)
    check_packages()


def _check_token_shares(request: ExportRequest) -> None:
    if not request.token_shares:
        return
    if not isinstance(request.preset, Preset):
        raise WrongCall(f"{request.preset.family} is given all tokens: leave --token-shares out")
    if request.flavour == "fused":
        raise WrongCall("the fused attention kernel takes all tokens: leave --token-shares or --flavour fused out")
    wrong = [share for share in request.token_shares if not 0.01 <= share < 1]  # less was meant as a fraction
    if wrong:
        raise WrongCall(
            f"{100 * wrong[0]:g} % is no part of a clip's tokens: give percentages from 1 to 99, such as 25,37,50,75"
        )


def check_packages() -> None:
    """Check that everything an export imports is installed, without importing it.

    Raises:
        VljEdgeError: a package is not.
    """
    for package, extra in _PACKAGES:
        _check_installed(package, extra)


def _check_weights(sources: WeightSources, preset: ModelShape) -> None:
    if not isinstance(preset, Preset):
        if sources.weights is not None:  # None: they are in packages, which were checked when the shape was made
            check_checkpoint(sources.weights)
        if sources.captions is not None and preset.text is None:
            raise WrongCall(
                f"{preset.family} says its own labels and can be compared with no other texts: leave --captions out, or"
                " name a model with a text encoder (vlj-edge models lists some)"
            )
        return
    check_sources(sources)
    if preset.text.backbone == "embeddinggemma-300m" and not _has_text_encoder(sources):
        raise WrongCall(
            f"the text encoder {preset.text.backbone} needs its weights: name its directory with --text-encoder"
        )


def is_judged_on_video(request: ExportRequest) -> bool:
    """Return whether synthetic clips are too far from what weights know to set the scales of int8 activations, or to
    judge vision engines in bf16."""
    precisions = select_precision(request.preset, request.precision, request.flavour)
    vision = [precisions[name] for name in request.engines if name in ("vision_encoder", PREDICTOR)]
    in_bf16 = request.check_parity and any(PRECISIONS[name].compute == "bf16" for name in vision)
    return in_bf16 or bool(request.int8_engines)


def check_clips(request: ExportRequest) -> None:
    """Check that int8 activations have clips to take their scales from.

    Raises:
        VljEdgeError: there are too few.
    """
    if request.int8_engines and len(request.clips) <= COMPARED_CLIPS:
        raise clips_missing(request.int8_engines, some=bool(request.clips))


def clips_missing(engines: Sequence[str], some: bool = False) -> VljEdgeError:
    """Return the error of an export in int8 without clips, or with too few (`some`)."""
    return (VljEdgeError if some else WrongCall)(
        f"int8 activations ({', '.join(sorted(engines))}) take their scales from real video: name one"
        f" with --calibrate-on that has more than {COMPARED_CLIPS} windows, or choose --precision int8w"
    )


def check_out(out: Path, overwrite: bool) -> None:
    """Check that a bundle may be written at `out`.

    Raises:
        VljEdgeError: it exists and is not to be overwritten, or is no bundle.
    """
    if out.exists() and not overwrite:
        raise VljEdgeError(f"{out} exists: name another --out, or add --overwrite")
    if out.exists() and not (out / "manifest.json").is_file():
        raise VljEdgeError(f"{out} exists and is no bundle, so it is not overwritten: name another --out")


def _has_text_encoder(sources: WeightSources) -> bool:
    own = sources.weights is not None and (sources.weights / "text_encoder").is_dir()
    return own or sources.text_encoder is not None or sources.random is not None


def _check_installed(package: str, extra: str) -> None:
    """Raise the error of `require` without importing the package."""
    try:
        found = importlib.util.find_spec(package) is not None
    except ImportError:
        found = False
    if not found:
        require(package, extra)
