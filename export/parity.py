"""Parity: the exported engines in ONNX Runtime, compared with the torch modules in fp32 before a bundle is written."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vlj_edge.bundle import EngineSpec, TensorSpec
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preset
from vlj_edge.telemetry import import_onnxruntime

from .onnx.emulate_bf16 import emulate_bf16
from .parity_cases import COMPARED, ParityCases
from .precisions import PRECISIONS

# Lowest cosine of an embedding to that of torch in fp32 with which a bundle is written, by precision. These minimums
# catch faulty exports; the accuracy of each precision is in results/precisions.json. The chain has the lower bar of
# its two engines. V-JEPA 2's single tokens scatter in fp16 while the embedding pooled from them keeps a cosine of
# 0.9999, so tokens have a bar of their own only in fp32.
LOWEST_COSINE = {
    "fp32": 0.99999,
    "fp16": 0.999,
    "bf16": 0.99,
    "int8w": 0.995,
    "int8w-fp16": 0.995,
    "int8": 0.98,
    "int8-fp16": 0.98,
    "int4w": 0.95,
    "int4w-fp16": 0.95,
}


@dataclass(frozen=True)
class ParityRow:
    """One line of the parity table.

    Attributes:
        cosine: lowest over all cases, of embeddings, or of the mean visual token, or of the decoder's logits.
        worst_token: lowest cosine of a single visual token; None for engines that make none.
        largest_difference: largest absolute difference of the output.
        first_differing_token: position at which a decoded text first differs; None where all texts are the same.
    """

    engine: str
    precision: str
    cases: int
    cosine: float
    worst_token: float | None
    largest_difference: float
    first_differing_token: int | None = None

    @property
    def makes_text(self) -> bool:
        """Whether the engine decodes texts, which could differ from torch's."""
        return self.engine == "decoder"


def compare_with_torch(name: str, directory: Path, spec: EngineSpec, cases: ParityCases) -> list[ParityRow]:
    """Compare the exported engine with torch's outputs; with the predictor, the chain of both video engines as well."""
    engine = _open_engine(directory, spec)
    if name == "vision_encoder" and not cases.query:
        embeddings = [engine(clip)[0] for clip in cases.clips[:COMPARED]]
        return [_compare_outputs(name, spec.precision, cases.clip_embeddings, embeddings)]
    if name == "vision_encoder":
        shown = zip(cases.clips[:COMPARED], cases.kept, strict=False)
        cases.exported_tokens = [engine(clip, *kept)[0] for clip, kept in shown]
        return [_compare_outputs(name, spec.precision, cases.visual_tokens, cases.exported_tokens)]
    if name == "predictor":
        inputs: dict[str, Sequence[Any]] = {"predictor": cases.visual_tokens[:COMPARED], "chain": cases.exported_tokens}
        found = {
            row: [engine(tokens, *cases.query, *kept)[0] for tokens, kept in zip(each, cases.kept, strict=False)]
            for row, each in inputs.items()
        }
        return [_compare_outputs(row, spec.precision, cases.clip_embeddings, own) for row, own in found.items()]
    if name == "text_encoder":
        own = [engine(*sentence)[0] for sentence in cases.sentences[:COMPARED]]
        return [_compare_outputs(name, spec.precision, cases.text_embeddings, own)]
    if cases.label_logits:
        logits = [engine(embedding)[0] for embedding in cases.decoder_inputs]
        return [_compare_outputs(name, spec.precision, cases.label_logits, logits)]
    return [_compare_captions(engine, cases) if cases.captions else _compare_texts(engine, cases)]


class _Engine:
    """A graph in ONNX Runtime; inputs are cast to the types that it declares."""

    def __init__(self, path: Path, spec: EngineSpec) -> None:
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only
        if PRECISIONS[spec.precision].int8_activations:  # as in runtime/engines/onnxruntime.py
            options.add_session_config_entry("optimization.disable_specified_optimizers", "MatMulAddFusion")
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.spec = spec

    def __call__(self, *inputs: Tensor | npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        feed = {t.name: np.asarray(x).astype(numpy_dtype(t)) for t, x in zip(self.spec.inputs, inputs, strict=True)}
        outputs: list[npt.NDArray[Any]] = self.session.run(None, feed)
        return outputs


def numpy_dtype(tensor: TensorSpec) -> Any:
    """Return the dtype of a tensor in the parity run, where bf16 is emulated in float32."""
    return np.dtype("float32" if tensor.dtype == "bfloat16" else tensor.dtype)


def _open_engine(directory: Path, spec: EngineSpec) -> _Engine:
    if PRECISIONS[spec.precision].compute != "bf16":
        return _Engine(directory / spec.file, spec)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        emulated = Path(scratch) / spec.file
        emulate_bf16(directory / spec.file, emulated)
        return _Engine(emulated, spec)


def _compare_outputs(name: str, precision: str, expected: list[Tensor], found: list[npt.NDArray[Any]]) -> ParityRow:
    pairs = [(e.double().numpy(), f.astype(np.float64)) for e, f in zip(expected, found, strict=False)]
    by_token = expected[0].ndim == 3
    cosines = [_cosine(e.mean(1), f.mean(1)) if by_token else _cosine(e, f) for e, f in pairs]
    return ParityRow(
        engine=name,
        precision=precision,
        cases=len(pairs),
        cosine=min(cosines),
        worst_token=min(_cosine(e, f) for e, f in pairs) if by_token else None,
        largest_difference=max(float(np.abs(e - f).max()) for e, f in pairs),
    )


def _compare_captions(decoder: _Engine, cases: ParityCases) -> ParityRow:
    """Compare the nearest captions. The row's cosine is 1 minus the largest error of a cosine to a caption."""
    errors, differing = [], []
    for embedding, (number, cosine) in zip(cases.decoder_inputs, cases.captions, strict=True):
        own_number, own_cosine = decoder(embedding)
        errors.append(abs(float(own_cosine[0, 0]) - float(cosine[0, 0])))
        if int(own_number[0, 0]) != int(number[0, 0]):
            differing.append(0)
    return ParityRow(
        engine="decoder",
        precision=decoder.spec.precision,
        cases=len(cases.captions),
        cosine=1 - max(errors),
        worst_token=None,
        largest_difference=max(errors),
        first_differing_token=min(differing, default=None),
    )


def _compare_texts(decoder: _Engine, cases: ParityCases) -> ParityRow:
    """Compare the logits. The decoder reads torch's text, so that one difference does not change later ones."""
    assert isinstance(cases.preset, Preset)
    end = cases.preset.decoder_end
    cosines, differences, differing = [], [], []
    for embedding, (text, expected) in zip(cases.decoder_inputs, cases.texts, strict=True):
        caches: list[Any] = [np.zeros(t.shape, numpy_dtype(t)) for t in decoder.spec.inputs[3:]]
        token = 0
        for position, logits in enumerate(expected.numpy()):
            _, own, *caches = decoder(embedding, np.array([[token]]), np.array([position]), *caches)
            cosines.append(_cosine(logits[None], own))
            differences.append(float(np.abs(logits - own[0]).max()))
            if own.argmax() != logits.argmax():
                differing.append(position)
            token = text[position] if position < len(text) else end
    return ParityRow(
        engine="decoder",
        precision=decoder.spec.precision,
        cases=len(cases.texts),
        cosine=min(cosines),
        worst_token=None,
        largest_difference=max(differences),
        first_differing_token=min(differing, default=None),
    )


def require_parity(rows: list[ParityRow], precisions: dict[str, str], synthetic: bool = False) -> None:
    """Check that every engine reaches the cosine of its precision; `precisions` is by engine name.

    Args:
        synthetic: whether the vision engines were compared on synthetic clips.

    Raises:
        VljEdgeError: an engine does not; the message has its name and its cosine.
    """
    for row in rows:
        engines = ("vision_encoder", "predictor") if row.engine == "chain" else (row.engine,)
        bar = min(LOWEST_COSINE[precisions[name]] for name in engines)
        if not row.cosine >= bar:  # also refuses NaN
            remedy = "choose another --precision for it, or check the weights"
            if synthetic and engines[0] in ("vision_encoder", "predictor"):
                remedy = (
                    f"add --calibrate-on VIDEO, since weights may know nothing like synthetic pictures, or {remedy}"
                )
            raise VljEdgeError(
                f"{row.engine} in {row.precision} reaches cosine {row.cosine:.6f} to torch, below {bar}:"
                f" the bundle was not written; {remedy}"
            )
        if row.precision == "fp32" and row.worst_token is not None and not row.worst_token >= bar:
            raise VljEdgeError(
                f"{row.engine} in fp32 has a token at cosine {row.worst_token:.6f} to torch, below {bar}:"
                " the bundle was not written; check the weights"
            )
        if row.precision == "fp32" and row.first_differing_token is not None:
            raise VljEdgeError(
                f"{row.engine} in fp32 decodes another token than torch at position {row.first_differing_token}:"
                " the bundle was not written; check the weights"
            )


def _cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the lowest cosine of two rows, which lie along the last axis."""
    product = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return float(product.min())
