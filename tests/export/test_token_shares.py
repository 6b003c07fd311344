"""Engines that are given a part of a clip's tokens compute what torch does with the others dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vlj_edge
from tests.cli.command import run_here
from tests.export.tiny_weights import TINY
from tests.runtime.calibration.streams import SCENES
from vlj_edge import VljEdgeError
from vlj_edge.bundle import MANIFEST, Tokens, read_manifest
from vlj_edge.export.bundle import Exported
from vlj_edge.export.models.predictor import Predictor
from vlj_edge.export.models.vision_encoder import VisionEncoder
from vlj_edge.export.parity_cases import probe_clip
from vlj_edge.export.request import ExportRequest, check_request
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.export.weights.sources import open_weights
from vlj_edge.runtime.engines.base import open_engine


@pytest.fixture
def bundle(token_bundle: Path) -> Path:
    return token_bundle


@pytest.fixture(scope="module")
def parts(tiny_weights: Path) -> tuple[VisionEncoder, Predictor]:
    loaders = open_weights(WeightSources(tiny_weights), TINY).loaders
    encoder, predictor = loaders["vision_encoder"](), loaders["predictor"]()
    assert isinstance(encoder, VisionEncoder) and isinstance(predictor, Predictor)
    return encoder.eval(), predictor.eval()


def test_calibrate_compares_parts_of_the_tokens_with_all(
    bundle: Path, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    film, out = make_video(SCENES, rate=8), tmp_path / "gates.json"
    done = run_here("calibrate", film, "--bundle", bundle, "--json", "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 0.25 <= found["tokens"]["share"] < 1 and 0 < found["tokens"]["cosine"] <= 1
    assert json.loads(out.read_text())["tokens"] == found["tokens"]["proposed"]
    with vlj_edge.load(bundle, gates=out) as model:
        assert model.tokens == found["tokens"]["proposed"]
    without = run_here("calibrate", film, "--bundle", bundle, "--json", "--tokens", "all")
    assert "tokens" not in json.loads(without.stdout)


class Engines:
    """The two vision engines of a bundle on a backend, with the default query."""

    def __init__(self, bundle: Path, backend: str) -> None:
        manifest = read_manifest(bundle)
        self.encoder = open_engine(bundle, manifest, "vision_encoder", backend=backend, threads=1)
        inputs_from = {"visual_tokens": self.encoder}
        self.predictor = open_engine(bundle, manifest, "predictor", backend=backend, threads=1, inputs_from=inputs_from)
        self.predictor.inputs["query_ids"][...], self.predictor.inputs["query_mask"][...] = query_of(bundle)

    def embedding(self, clip: torch.Tensor, kept: np.ndarray | None = None) -> np.ndarray:
        self.encoder.inputs["pixels"][...] = clip.numpy()
        for engine in (self.encoder, self.predictor):
            if kept is not None:
                engine.keep_tokens(kept)
            engine.run()
        found: np.ndarray = self.predictor.outputs["embedding"][0].copy()
        return found


def query_of(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    with vlj_edge.load(bundle) as model:
        query = model.chain.query(TINY.default_query)
    assert query is not None
    return query


@torch.no_grad()
def masked_embedding(
    parts: tuple[VisionEncoder, Predictor], clip: torch.Tensor, kept: np.ndarray, query: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """All tokens computed, but none of the others attended to or averaged: no position can be wrong."""
    encoder, predictor = parts
    ids, mask = (torch.from_numpy(each) for each in query)
    seen = torch.zeros(1, TOKENS, dtype=torch.bool)
    seen[0, kept] = True
    attend = F.scaled_dot_product_attention

    def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **others: Any) -> torch.Tensor:
        return attend(q, k, v, **others | {"attn_mask": real[:, None, None, :].expand(-1, 1, q.shape[2], -1)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", masked)
        real = seen
        x = torch.cat((predictor.vis_proj(encoder(clip)), predictor.embed_tokens(ids)), dim=1)
        real = torch.cat((seen, mask), dim=1)
        for layer in predictor.layers:
            x = layer(x, predictor.cos, predictor.sin, predictor.attention_of(real))
    mean = predictor.norm(x)[real].mean(0)
    found: np.ndarray = F.normalize(predictor.out_proj(mean), dim=-1).numpy()
    return found


TOKENS = 32  # 2 slots of 4 x 4 places


def test_the_manifest_names_the_counts(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.tokens == Tokens(tubelet=2, side=4, counts=(8, 16, 32))
    by_tokens = {
        (name, tensor.name): tensor.shape[tensor.by_tokens]
        for name, spec in manifest.engines.items()
        for tensor in (*spec.inputs, *spec.outputs)
        if tensor.by_tokens is not None
    }
    of_encoder = {("vision_encoder", "kept"), ("vision_encoder", "visual_tokens")}
    assert by_tokens == dict.fromkeys(of_encoder | {("predictor", "kept"), ("predictor", "visual_tokens")}, TOKENS)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_any_part_equals_torch_with_the_others_masked(
    bundle: Path, parts: tuple[VisionEncoder, Predictor], backend: str
) -> None:
    pytest.importorskip(backend)
    engines, rng, query = Engines(bundle, backend), np.random.default_rng(0), query_of(bundle)
    for seed, count in enumerate((8, 32, 16, 8, 16, 32)):  # in turn: no part is left over from the one before
        clip, kept = probe_clip(TINY, seed), np.sort(rng.permutation(TOKENS)[:count])
        expected = masked_embedding(parts, clip, kept, query)
        assert np.abs(engines.embedding(clip, kept) - expected).max() < 1e-4


def test_all_tokens_give_what_an_engine_of_fixed_shape_gives(bundle: Path, exported: Callable[[str], Exported]) -> None:
    fixed, whole = Engines(exported("fp32").bundle, "onnxruntime"), Engines(bundle, "onnxruntime")
    for seed in range(3):
        expected = fixed.embedding(probe_clip(TINY, seed))
        assert np.abs(whole.embedding(probe_clip(TINY, seed)) - expected).max() < 1e-6
    assert "kept" not in fixed.encoder.inputs


def test_a_run_computes_what_moved(bundle: Path, pictures: list[tuple[float, np.ndarray]]) -> None:
    with vlj_edge.load(bundle, tokens="auto") as auto, vlj_edge.load(bundle) as every:
        totals, embeddings = [], []
        for model in (auto, every, auto):
            with model.embed(iter(pictures), every_window=True) as run:
                embeddings.append(np.stack([item.embedding for item in run]))
            totals.append(run.totals)
    assert totals[0].tokens == totals[1].tokens == totals[1].tokens_kept == TOKENS * totals[0].windows > 0
    assert totals[0].tokens_kept == totals[0].tokens / 2, "one place of 16 moves: the first slot and 8 more"
    assert (embeddings[0] == embeddings[2]).all() and not (embeddings[0] == embeddings[1]).all()


@pytest.fixture
def pictures() -> list[tuple[float, np.ndarray]]:
    """A still picture in which something small moves up and down."""
    found = []
    for number in range(10):
        image = np.full((36, 36, 3), 90, np.uint8)
        image[4 + number % 2 * 3 : 8 + number % 2 * 3, 4:8] = 250
        found.append((number / TINY.clip.frames_per_second, image))
    return found


@pytest.mark.parametrize(
    ("shares", "flavour", "named"), [((0.0,), "native", "0 %"), ((1.5,), "native", "150 %"), ((0.5,), "fused", "fused")]
)
def test_what_cannot_be_exported_is_refused_at_once(
    tiny_weights: Path, tmp_path: Path, shares: tuple[float, ...], flavour: str, named: str
) -> None:
    precision = "fp16,text_encoder=bf16" if flavour == "fused" else None
    sources = WeightSources(tiny_weights, without_decoder=True)
    request = ExportRequest(sources, TINY, tmp_path / "out", token_shares=shares, flavour=flavour, precision=precision)
    with pytest.raises(VljEdgeError, match=named):
        check_request(request)


@pytest.mark.parametrize("counts", [[], [32, 8], [8, 8, 32], [8, 16], [64]], ids=str)
def test_a_manifest_with_other_counts_is_refused(bundle: Path, tmp_path: Path, counts: list[int]) -> None:
    raw = json.loads((bundle / MANIFEST).read_text())
    raw["tokens"]["counts"] = counts
    (tmp_path / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(VljEdgeError, match="damaged"):
        read_manifest(tmp_path)
