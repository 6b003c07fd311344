"""The precisions and flavours of an engine. Needs no torch, so that a wrong choice is reported at once."""

from __future__ import annotations

from dataclasses import dataclass

from vlj_edge.bundle import ENGINE_NAMES
from vlj_edge.errors import WrongCall
from vlj_edge.presets import ModelShape, Preset

from .onnx import plugins


@dataclass(frozen=True)
class Precision:
    """The number formats of an engine.

    Attributes:
        compute: type of the inputs and outputs of its matrix products: "fp32", "fp16" or "bf16".
        weights: type in which its large matrices are stored: "int8", "int4", or None for that of `compute`.
        int8_activations: matrix products multiply int8 by int8, with activation scales measured on real video.
    """

    compute: str
    weights: str | None = None
    int8_activations: bool = False


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision("fp32"),
    "fp16": Precision("fp16"),
    "bf16": Precision("bf16"),
    "int8": Precision("fp32", "int8", int8_activations=True),
    "int8w": Precision("fp32", "int8"),
    "int4w": Precision("fp32", "int4"),
    "int8-fp16": Precision("fp16", "int8", int8_activations=True),
    "int8w-fp16": Precision("fp16", "int8"),
    "int4w-fp16": Precision("fp16", "int4"),
}
FLAVOURS = ("native", "portable", "fused")

# The text encoder runs once for a label or a search, so its time does not matter, and MiniLM tolerates neither: with
# int8 activations its embeddings fall to cosine 0.87, with int4 weights to 0.76 (measured by export/parity.py on nano).
# Where one name is given for all engines it is stored as int8 instead; the summary and the manifest say so.
_FOR_TEXT = {"int8": "int8w", "int4w": "int8w", "int8-fp16": "int8w-fp16", "int4w-fp16": "int8w-fp16"}
_OVERFLOWS_FP16 = {"embeddinggemma-300m"}  # its activations reach 8e5


def select_precision(preset: ModelShape, requested: str | None, flavour: str = "native") -> dict[str, str]:
    """Return the precision of every engine, a name of PRECISIONS each.

    Args:
        requested: None for the preset's own, one name of PRECISIONS for all engines, or "engine=name" with commas
            between; an engine that is not named keeps the preset's.
        flavour: "portable" cannot store weights as int8 in blocks, so its text encoder stores the type it computes in.

    Raises:
        VljEdgeError: there is no such engine or precision, the text encoder overflows it, or the flavour has no form
            for it.
    """
    precisions = dict.fromkeys(ENGINE_NAMES, "fp32")
    if preset.text is not None and preset.text.int8_storage and flavour != "portable":
        precisions["text_encoder"] = "int8w"
    named = set[str]()
    for item in requested.split(",") if requested else ():
        engine, equals, name = item.strip().rpartition("=")
        if (equals and engine not in ENGINE_NAMES) or name not in PRECISIONS:
            raise WrongCall(
                f"'{item.strip()}' is no precision: name one of {', '.join(PRECISIONS)}, or engine=precision with an"
                f" engine of {', '.join(ENGINE_NAMES)}"
            )
        if equals:
            precisions[engine] = name
            named.add(engine)
        else:
            text = _FOR_TEXT.get(name, name) if flavour != "portable" else PRECISIONS[name].compute
            precisions = dict.fromkeys(ENGINE_NAMES, name) | {"text_encoder": text}
    if preset.own_captions:
        _check_stored(preset, requested)
        if flavour != "portable":
            precisions["decoder"] = "int8w"  # a matrix of embeddings, chosen among by their cosine
    if preset.labels:
        precisions["decoder"] = "fp32"  # one product a text, whose near ties every backend should decide alike
    if preset.text is not None:
        _check_text_range(preset.text.backbone, precisions["text_encoder"], requested, "text_encoder" in named)
    return precisions


def text_form_for_cpu(preset: ModelShape, precisions: dict[str, str]) -> str | None:
    """Return the precision of a second form of the text encoder, for a CPU that embeds labels and searches for a bundle
    that a card runs; None: it needs none. It is no larger than the first."""
    if preset.text is None or PRECISIONS[precisions["text_encoder"]].compute != "bf16":
        return None
    return "int8w" if preset.text.int8_storage or preset.text.backbone in _OVERFLOWS_FP16 else "fp16"


def vision_is_scaled(requested: str | None) -> bool:
    """Return whether a precision gives the vision encoder int8 activations, whatever the model is."""
    items = [item.strip().rpartition("=") for item in requested.split(",")] if requested else []
    chosen = [name for engine, _, name in items if engine in ("", "vision_encoder")]
    return bool(chosen) and chosen[-1] in PRECISIONS and PRECISIONS[chosen[-1]].int8_activations


def check_family(preset: ModelShape, flavour: str) -> None:
    """Refuse the fused flavour for models whose attention our kernel does not compute.

    Raises:
        VljEdgeError: it is not VL-JEPA.
    """
    if flavour == "fused" and not isinstance(preset, Preset):
        raise WrongCall(
            f"the fused flavour's attention kernel is VL-JEPA's own, and this is {preset.family}: name --flavour native"
        )


def check_flavour(engine: str, precision: str, flavour: str) -> None:
    """Refuse a precision for which an engine has no graph in this flavour.

    Raises:
        VljEdgeError: the message says what the flavour lacks.
    """
    types = PRECISIONS[precision]
    if flavour == "fused" and engine in plugins.ENGINES and types.compute == "fp32":
        raise WrongCall(
            f"{engine}: {precision} computes in fp32 and the fused flavour's attention kernel in fp16 and bf16: name"
            " --precision fp16, or --flavour native"
        )
    lacks = None
    if types.weights is not None and not types.int8_activations:
        lacks = "scales for blocks of weights, which ONNX has from opset 21"
    elif types.compute == "bf16" and engine == "vision_encoder":
        lacks = "a bf16 convolution, which ONNX has from opset 22"
    if flavour == "portable" and lacks is not None:
        raise WrongCall(f"{engine}: {precision} needs {lacks}: choose fp16 or int8 for the portable flavour")


def _check_stored(preset: ModelShape, requested: str | None) -> None:
    if requested not in (None, "fp32", "fp16"):
        raise WrongCall(
            f"{preset.name} is made in fp32 or fp16, not {requested}: weights are stored as int8 and int4 in either:"
            " leave --precision out"
        )


def _check_text_range(backbone: str, precision: str, requested: str | None, named: bool) -> None:
    if PRECISIONS[precision].compute != "fp16" or backbone not in _OVERFLOWS_FP16:
        return
    remedy = "text_encoder=bf16, or text_encoder=int8w"
    if not named:
        remedy = f"--precision {requested},text_encoder=bf16, or text_encoder=fp32"
    raise WrongCall(
        f"{backbone}, the text encoder, does not run in {precision}: its activations reach 8e5 and fp16 ends at 65504:"
        f" name {remedy}"
    )
