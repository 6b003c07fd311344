"""Every exported engine in ONNX Runtime against the torch model in fp32, before a bundle may exist."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vlj_edge.bundle import EngineSpec, TensorSpec
from vlj_edge.errors import VljEdgeError, require
from vlj_edge.presets import Preset

from .models.decoder import Decoder
from .models.nearest_caption import NearestCaption
from .onnx.emulate_bf16 import emulate_bf16
from .onnx.precision import observe
from .precisions import PRECISIONS
from .request import COMPARED_CLIPS
from .weights.tokenizers import BundleTokenizers

# Lowest cosine of an embedding to that of torch in fp32, by precision: what an export must reach to become a bundle.
# They catch what went wrong; what a precision costs in accuracy is in results/precisions.json. The chain is judged by
# its least precise engine. V-JEPA 2's single tokens scatter in fp16 while the embedding pooled from them keeps a
# cosine of 0.9999, so tokens have a bar of their own only in fp32.
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
SENTENCES = (
    "a robot arm opens a drawer",
    "nothing moves",
    "someone closes the door of a microwave",
    "two people walk",
    "What is the robot holding?",
    "the arm pushes a red puck across the table and lets go of it",
    "a cat",
    "The video shows how a person cuts an onion on a wooden board, then puts the pieces into a pan.",
)
JUDGED = COMPARED_CLIPS  # of the sentences and of the clips; further ones only set the scales of int8 activations


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
        """Is there a decoded text that could differ?"""
        return self.engine == "decoder"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass
class Cases:
    """What flows through the engines. torch's output of one is the next one's input, so that each engine is judged
    alone; `own_tokens` are the exported encoder's, for the chain. Embeddings float32 (1, embedding)."""

    preset: Preset
    clips: list[Tensor]
    query: list[Tensor]
    sentences: list[list[Tensor]]
    tokens: list[Tensor] = field(default_factory=list)
    own_tokens: list[npt.NDArray[Any]] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    texts: list[Tensor] = field(default_factory=list)
    nearest: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # of each: its caption's number and cosine
    written: list[tuple[list[int], Tensor]] = field(default_factory=list)  # of each embedding: its text, its logits


def make_cases(preset: Preset, tokenizers: BundleTokenizers, clips: list[Tensor]) -> Cases:
    """`clips` (1, frames, 3, crop, crop), or seeded ones where there are none; the preset's query; SENTENCES."""
    encode = tokenizers.text_encoder.encode
    return Cases(
        preset,
        clips or [probe_clip(preset, seed) for seed in range(JUDGED)],
        [torch.from_numpy(x) for x in tokenizers.query.encode(preset.default_query)],
        [[torch.from_numpy(x) for x in encode(sentence)] for sentence in SENTENCES],
    )


@torch.no_grad()
def run_torch(name: str, module: Any, cases: Cases) -> dict[str, float]:
    """Fill in what the engine makes of the cases in fp32; returns the ranges that its linear layers saw."""
    with observe(module) as ranges:
        if name == "vision_encoder":
            cases.tokens = [module(clip) for clip in cases.clips]
        elif name == "predictor":
            cases.embeddings = [module(tokens, *cases.query) for tokens in cases.tokens]
        elif name == "text_encoder":
            cases.texts = [module(*sentence) for sentence in cases.sentences]
        elif isinstance(module, NearestCaption):
            cases.nearest = [module(embedding) for embedding in _embeddings(cases)]
        else:
            cases.written = [_write(module, embedding, cases.preset.decoder_end) for embedding in _embeddings(cases)]
    return ranges


def compare_with_torch(name: str, directory: Path, spec: EngineSpec, cases: Cases) -> list[ParityRow]:
    """The exported engine against what torch made of the cases; with the predictor, the chain as well."""
    engine = _open(directory, spec)
    if name == "vision_encoder":
        cases.own_tokens = [engine(clip)[0] for clip in cases.clips[:JUDGED]]
        return [_compare(name, spec.precision, cases.tokens, cases.own_tokens)]
    if name == "predictor":
        alone = [engine(tokens, *cases.query)[0] for tokens in cases.tokens[:JUDGED]]
        chained = [engine(tokens, *cases.query)[0] for tokens in cases.own_tokens]
        judged = cases.embeddings
        return [_compare(n, spec.precision, judged, found) for n, found in (("predictor", alone), ("chain", chained))]
    if name == "text_encoder":
        own = [engine(*sentence)[0] for sentence in cases.sentences[:JUDGED]]
        return [_compare(name, spec.precision, cases.texts, own)]
    return [_compare_captions(engine, cases) if cases.nearest else _compare_texts(engine, cases)]


def _embeddings(cases: Cases) -> list[Tensor]:
    return cases.embeddings[:JUDGED] + cases.texts[:JUDGED]


def _write(decoder: Decoder, embedding: Tensor, end: int) -> tuple[list[int], Tensor]:
    """The greedy text, and the logits at each of its positions, float32 (n, vocabulary)."""
    text = decoder.generate(embedding, end)
    led = torch.tensor([text[: decoder.capacity - 1]], dtype=torch.int64)
    return text, decoder(embedding, led)[0]


class _Engine:
    """One graph in ONNX Runtime, inputs cast to what the graph declares."""

    def __init__(self, path: Path, spec: EngineSpec) -> None:
        ort = require("onnxruntime", "cpu")
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
    """What a tensor is handed over as in the parity run: bf16 is emulated in float32."""
    return np.dtype("float32" if tensor.dtype == "bfloat16" else tensor.dtype)


def _open(directory: Path, spec: EngineSpec) -> _Engine:
    if PRECISIONS[spec.precision].compute != "bf16":
        return _Engine(directory / spec.file, spec)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        emulated = Path(scratch) / spec.file
        emulate_bf16(directory / spec.file, emulated)
        return _Engine(emulated, spec)


def probe_clip(preset: Preset, seed: int) -> Tensor:
    """A seeded, normalised clip (1, frames, 3, crop, crop) of soft blobs that drift: nearer to a picture than noise."""
    rng = np.random.default_rng(seed)
    side, frames = preset.preprocess.crop, preset.clip.frames
    grid = np.linspace(0, 1, side, dtype=np.float32)
    image = np.full((frames, 3, side, side), 0.4, np.float32)
    for _ in range(8):
        (x, y), (dx, dy) = rng.random(2), rng.normal(0, 0.15, 2)
        colour, size = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.04, 0.25)
        for t, move in enumerate(np.linspace(0, 1, frames)):
            blob = np.exp(-((grid[None] - x - dx * move) ** 2 + (grid[:, None] - y - dy * move) ** 2) / size**2)
            image[t] += colour[:, None, None].astype(np.float32) * blob
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (preset.preprocess.mean, preset.preprocess.std))
    return torch.from_numpy((image.clip(0, 1) - mean) / std)[None]


def _compare(name: str, precision: str, expected: list[Tensor], found: list[npt.NDArray[Any]]) -> ParityRow:
    pairs = [(e.double().numpy(), f.astype(np.float64)) for e, f in zip(expected, found, strict=False)]
    by_token = name == "vision_encoder"
    cosines = [_cosine(e.mean(1), f.mean(1)) if by_token else _cosine(e, f) for e, f in pairs]
    return ParityRow(
        engine=name,
        precision=precision,
        cases=len(pairs),
        cosine=min(cosines),
        worst_token=min(_cosine(e, f) for e, f in pairs) if by_token else None,
        largest_difference=max(float(np.abs(e - f).max()) for e, f in pairs),
    )


def _compare_captions(decoder: _Engine, cases: Cases) -> ParityRow:
    """The row's cosine is 1 less the largest error of a cosine to a caption."""
    errors, differing = [], []
    for embedding, (number, cosine) in zip(_embeddings(cases), cases.nearest, strict=True):
        own_number, own_cosine = decoder(embedding)
        errors.append(abs(float(own_cosine[0, 0]) - float(cosine[0, 0])))
        if int(own_number[0, 0]) != int(number[0, 0]):
            differing.append(0)
    return ParityRow(
        engine="decoder",
        precision=decoder.spec.precision,
        cases=len(cases.nearest),
        cosine=1 - max(errors),
        worst_token=None,
        largest_difference=max(errors),
        first_differing_token=min(differing, default=None),
    )


def _compare_texts(decoder: _Engine, cases: Cases) -> ParityRow:
    """The decoder is led along torch's text, so that one early difference does not hide what comes after it."""
    cosines, differences, differing = [], [], []
    for embedding, (text, expected) in zip(_embeddings(cases), cases.written, strict=True):
        caches: list[Any] = [np.zeros(t.shape, numpy_dtype(t)) for t in decoder.spec.inputs[3:]]
        token = 0
        for position, logits in enumerate(expected.numpy()):
            _, own, *caches = decoder(embedding, np.array([[token]]), np.array([position]), *caches)
            cosines.append(_cosine(logits[None], own))
            differences.append(float(np.abs(logits - own[0]).max()))
            if own.argmax() != logits.argmax():
                differing.append(position)
            token = text[position] if position < len(text) else cases.preset.decoder_end
    return ParityRow(
        engine="decoder",
        precision=decoder.spec.precision,
        cases=len(cases.written),
        cosine=min(cosines),
        worst_token=None,
        largest_difference=max(differences),
        first_differing_token=min(differing, default=None),
    )


def require_parity(rows: list[ParityRow], precisions: dict[str, str]) -> None:
    """Refuse an engine below its bar. `precisions` is that of every engine: the chain has two.

    Raises:
        VljEdgeError: the message has the engine and its figure.
    """
    for row in rows:
        through = ("vision_encoder", "predictor") if row.engine == "chain" else (row.engine,)
        bar = min(LOWEST_COSINE[precisions[name]] for name in through)
        if not row.cosine >= bar:  # also refuses NaN
            raise VljEdgeError(
                f"{row.engine} in {row.precision} reaches cosine {row.cosine:.6f} to torch, below {bar}:"
                " the bundle was not written; choose another --precision for it, or check the weights"
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
    """Lowest cosine over the rows (last axis)."""
    product = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return float(product.min())
