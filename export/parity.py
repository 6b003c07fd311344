"""Every exported engine in ONNX Runtime against the torch model in fp32, before a bundle may exist."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vlj_edge.bundle import EngineSpec
from vlj_edge.errors import VljEdgeError, require
from vlj_edge.presets import Preset

from .models.text_encoder import TextEncoder
from .tokens import BundleTokenizers
from .weights import LoadedWeights

# Lowest cosine of an embedding to that of torch in fp32. fp16: V-JEPA 2's pooled output keeps 0.9999 although single
# tokens scatter, so precision is judged on the embedding. int8w: a weight is off by 0.4 % of its block's largest.
LOWEST_COSINE = {"fp32": 0.99999, "fp16": 0.999, "int8w": 0.995}
SENTENCES = ("a robot arm opens a drawer", "nothing moves", "someone closes the door of a microwave", "two people walk")
CLIPS = 4


@dataclass(frozen=True)
class Row:
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


class _Engine:
    """One graph in ONNX Runtime, inputs cast to what the graph declares."""

    def __init__(self, directory: Path, spec: EngineSpec) -> None:
        ort = require("onnxruntime", "cpu")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # TensorScatter warns at every step that is not bound in place
        self.session = ort.InferenceSession(directory / spec.file, options, providers=["CPUExecutionProvider"])
        self.spec = spec

    def __call__(self, *inputs: Tensor | npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        feed = {t.name: np.asarray(x).astype(t.dtype) for t, x in zip(self.spec.inputs, inputs, strict=True)}
        outputs: list[npt.NDArray[Any]] = self.session.run(None, feed)
        return outputs


def measure(
    directory: Path,
    engines: dict[str, EngineSpec],
    weights: LoadedWeights,
    preset: Preset,
    tokenizers: BundleTokenizers,
) -> list[Row]:
    """Run every engine of the bundle in `directory` on seeded clips and sentences.

    Raises:
        VljEdgeError: an engine is below its bar; the message has the figure.
    """
    model = weights.model
    encoder, predictor, decoder, text = (
        _Engine(directory, engines[name]) for name in ("vision_encoder", "predictor", "decoder", "text_encoder")
    )
    clips = [probe_clip(preset, seed) for seed in range(CLIPS)]
    query = [torch.from_numpy(x) for x in tokenizers.query.encode(preset.default_query)]
    with torch.no_grad():
        tokens = [model.vision_encoder(clip) for clip in clips]
        embeddings = [model.predictor(t, *query) for t in tokens]
        sentences = [[torch.from_numpy(x) for x in tokenizers.text_encoder.encode(s)] for s in SENTENCES]
        text_model = TextEncoder(weights.text_backbone.model, model.text_projection)
        texts = [text_model(*s) for s in sentences]
        own_tokens = [encoder(clip)[0] for clip in clips]
        hot = engines["predictor"].precision
        rows = [
            _compare("vision_encoder", hot, tokens, own_tokens),
            _compare("predictor", hot, embeddings, [predictor(t, *query)[0] for t in tokens]),
            _compare_texts(decoder, weights, [*embeddings, *texts], preset.decoder_end),
            _compare("text_encoder", engines["text_encoder"].precision, texts, [text(*s)[0] for s in sentences]),
            _compare("chain", hot, embeddings, [predictor(t, *query)[0] for t in own_tokens]),
        ]
    _judge(rows)
    return rows


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


def _compare(name: str, precision: str, expected: list[Tensor], found: list[npt.NDArray[Any]]) -> Row:
    pairs = [(e.double().numpy(), f.astype(np.float64)) for e, f in zip(expected, found, strict=True)]
    by_token = name == "vision_encoder"
    cosines = [_cosine(e.mean(1), f.mean(1)) if by_token else _cosine(e, f) for e, f in pairs]
    return Row(
        engine=name,
        precision=precision,
        cases=len(pairs),
        cosine=min(cosines),
        worst_token=min(_cosine(e, f) for e, f in pairs) if by_token else None,
        largest_difference=max(float(np.abs(e - f).max()) for e, f in pairs),
    )


def _compare_texts(decoder: _Engine, weights: LoadedWeights, embeddings: list[Tensor], end: int) -> Row:
    """The decoder is led along torch's text, so that one early difference does not hide what comes after it."""
    model, cosines, differences, differing = weights.model.decoder, [], [], []
    for embedding in embeddings:
        text = model.generate(embedding, end)
        led = torch.tensor([text[: model.capacity - 1]], dtype=torch.int64)
        expected = model(embedding, led)[0].numpy()
        caches: list[Any] = [np.zeros(t.shape, t.dtype) for t in decoder.spec.inputs[3:]]
        token = 0
        for position, logits in enumerate(expected):
            _, own, *caches = decoder(embedding, np.array([[token]]), np.array([position]), *caches)
            cosines.append(_cosine(logits[None], own))
            differences.append(float(np.abs(logits - own[0]).max()))
            if own.argmax() != logits.argmax():
                differing.append(position)
            token = text[position] if position < len(text) else end
    return Row(
        engine="decoder",
        precision=decoder.spec.precision,
        cases=len(embeddings),
        cosine=min(cosines),
        worst_token=None,
        largest_difference=max(differences),
        first_differing_token=min(differing, default=None),
    )


def _judge(rows: list[Row]) -> None:
    for row in rows:
        bar = LOWEST_COSINE[row.precision]
        if not row.cosine >= bar:  # also refuses NaN
            raise VljEdgeError(
                f"{row.engine} in {row.precision} reaches cosine {row.cosine:.6f} to torch, below {bar}:"
                " the bundle was not written; export without --fp16, or check the weights"
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
