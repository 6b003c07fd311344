"""Comparing a bundle with the transformers model that it was exported from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_transforms import get_resize_output_image_size

from vlj_edge.bundle import read_manifest
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.families.find import read_shape
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.runtime.embedding.classify import label_scores
from vlj_edge.runtime.engines.base import open_engine
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.preprocess import CpuPreprocessor, crop_and_resize
from vlj_edge.runtime.words.tokenizer import FixedLengthTokenizer

ODD_SIZES = [(41, 67), (75, 33), (97, 96), (64, 64), (480, 271)]  # height, width


def export(directory: Path) -> Path:
    """Export a checkpoint in fp32, beside it. Returns the bundle."""
    out = directory.with_name(f"{directory.name}-bundle")
    export_bundle(ExportRequest(WeightSources(directory), read_shape(directory), out))
    return out


def pictures(sizes: Sequence[tuple[int, int]] = ODD_SIZES, seed: int = 0) -> list[np.ndarray]:
    """Pictures, uint8 [height, width, 3], RGB, with edges and soft areas."""
    rng = np.random.default_rng(seed)
    found = []
    for height, width in sizes:
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
        picture = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
        picture[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
        found.append(picture)
    return found


def processed(bundle: Path, frames: Sequence[np.ndarray]) -> np.ndarray:
    """The encoder's input for these frames (RGB), float32 [1, frames, 3, side, side]."""
    preprocess = read_manifest(bundle).preprocess
    pixels = np.empty((1, len(frames), 3, preprocess.crop, preprocess.crop), np.float32)
    cropped = [crop_and_resize(np.ascontiguousarray(frame[:, :, ::-1]), preprocess) for frame in frames]
    CpuPreprocessor(pixels, preprocess).fill(cropped)
    return pixels


def video_processor(picture: np.ndarray, size: int | tuple[int, int], crop: int, filter: str) -> np.ndarray:
    """What transformers' video processors (BaseVideoProcessor) make of a frame, before they normalise it.

    They need torchvision, which does not load beside the CPU build of torch. Its resize of uint8 is torch's own.

    Args:
        picture: uint8 (height, width, 3), RGB.
        size: of the short side, or (height, width).
        filter: of torch.nn.functional.interpolate.

    Returns:
        float32 (3, crop, crop), 0..1.
    """
    frame = torch.from_numpy(picture).permute(2, 0, 1)
    if isinstance(size, int):
        size = get_resize_output_image_size(picture, size, default_to_square=False, input_data_format="channels_last")
    resized = torch.nn.functional.interpolate(frame[None], size, mode=filter, antialias=True)[0]
    top, left = (int((length - crop) / 2.0) for length in resized.shape[1:])
    return resized[:, top : top + crop, left : left + crop].numpy().astype(np.float32) / 255


def run(bundle: Path, name: str, **inputs: Any) -> np.ndarray:
    """Run one engine in ONNX Runtime and return its first output."""
    engine = open_engine(bundle, read_manifest(bundle), name)
    for key, value in inputs.items():
        engine.inputs[key][...] = value
    engine.run()
    engine.wait()
    return next(iter(engine.outputs.values())).copy()


def tokens(bundle: Path, text: str) -> tuple[np.ndarray, np.ndarray]:
    return FixedLengthTokenizer(bundle, read_manifest(bundle), "text_encoder").encode(text)


def unit(x: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(x.float(), dim=-1).detach().numpy()


def assert_close(found: np.ndarray, expected: np.ndarray, largest: float = 1e-4, cosine: float = 0.99999) -> None:
    """The bars of a fp32 export, for rows of unit length."""
    assert np.abs(found - expected).max() < largest
    assert (found * expected).sum(-1).min() > cosine


def assert_mean_of_pictures(bundle: Path, pixels: np.ndarray, own: torch.Tensor) -> None:
    """The embedding of a clip is the mean of the unit embeddings, (frames, embedding), of its frames."""
    mean = torch.nn.functional.normalize(own, dim=-1).mean(0, keepdim=True)
    assert_close(run(bundle, "vision_encoder", pixels=pixels), unit(mean))


def assert_text_embedding(bundle: Path, text: str, embed: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """The embedding of a text is what the model makes of the same tokens, int64 (1, length)."""
    ids, mask = tokens(bundle, text)
    with torch.no_grad():
        expected = embed(torch.from_numpy(ids))
    assert_close(run(bundle, "text_encoder", text_ids=ids, text_mask=mask), unit(expected))


def scores_of(bundle: Path, pixels: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """The scores of texts as labels of a clip, and of none of them."""
    embedding = run(bundle, "vision_encoder", pixels=pixels)[0]
    with Model(bundle) as model:
        cosines = np.stack([model.embed_text(text) for text in texts]) @ embedding
        return label_scores(cosines, model.manifest.labels)
