"""Real engines from real TensorRT-RTX, which needs no card to build them. They cannot be run here."""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from vlj_edge.bundle import ENGINE_NAMES, read_manifest
from vlj_edge.bundle.engine_cache import BuiltEngine, RuntimeId, find_engine, read_engine
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.tensorrt import network as networks
from vlj_edge.export.tensorrt.build import build_engines, compute_capability
from vlj_edge.export.tensorrt.int8_blocks import without_int8_blocks
from vlj_edge.export.weights.locations import WeightSources, shipped_weights
from vlj_edge.presets import Preset, preset
from vlj_edge.runtime.video.clips import spread_clips
from vlj_edge.tensorrt_package import TensorRtPackage, import_tensorrt

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="TensorRT-RTX has no package for this machine; on x86-64 it must be there"
)
DEMO = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"
CARDS = ("sm86", "sm89", "sm120")


@pytest.fixture(scope="module")
def trt() -> TensorRtPackage:
    return import_tensorrt("tensorrt_rtx")


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """nano(precision, flavour) -> its bundle, exported once a module."""
    made: dict[tuple[str, str], Path] = {}

    def export(precision: str, flavour: str = "native") -> Path:
        if (precision, flavour) not in made:
            out = tmp_path_factory.mktemp("nano") / "bundle"
            chosen = preset("nano")
            clips = spread_clips(DEMO, chosen.clip, chosen.preprocess, 8) if "int8" in precision else []
            options = {"precision": precision, "flavour": flavour, "check_parity": False, "clips": tuple(clips)}
            export_bundle(ExportRequest(WeightSources(shipped_weights()), chosen, out, **options))
            made[precision, flavour] = out
        return made[precision, flavour]

    return export


def paper(vision: int, predictor: int, decoder: int) -> Preset:
    """The paper's model with so many layers; below its own depth with a small vocabulary."""
    whole = preset("vl-jepa-1.6b")
    if predictor == whole.predictor.layers:
        return whole
    return replace(
        whole,
        vision=replace(whole.vision, layers=vision),
        predictor=replace(whole.predictor, layers=predictor, vocabulary=1000),
        decoder=replace(whole.decoder, layers=decoder, vocabulary=1000),
    )


def ahead(trt: TensorRtPackage, sm: str) -> RuntimeId:
    return RuntimeId(trt.package, trt.version, sm, None)


@pytest.mark.parametrize(
    ("precision", "cards"),
    [
        *(("fp16", CARDS[:1]), ("int8-fp16", CARDS[:1])),
        *(
            pytest.param(precision, CARDS, marks=pytest.mark.slow)
            for precision in ("fp16", "int8", "int8-fp16", "int4w-fp16", "bf16")
        ),
    ],
)
def test_all_four_engines_of_nano(nano: Any, trt: TensorRtPackage, precision: str, cards: tuple[str, ...]) -> None:
    bundle = nano(precision)
    manifest = read_manifest(bundle)
    shutil.rmtree(bundle / "engines", ignore_errors=True)
    for sm in cards:
        built = build_engines(bundle, manifest, trt, ahead(trt, sm))
        assert [engine.name for engine in built] == list(manifest.engines) and set(manifest.engines) == set(
            ENGINE_NAMES
        )
        for engine in built:
            assert not engine.again and engine.megabytes > 1
            layers = {"vision_encoder": 4, "predictor": 3, "decoder": 3, "text_encoder": 6}[engine.name]
            assert engine.attention == layers
            # fp16 and bf16 have fused kernels for nano's heads of 32, fp32 has none but for a step over the cache
            whole = engine.name == "decoder" or engine.precision.endswith("16")
            assert engine.decomposed == (0 if whole else layers)
        card = replace(ahead(trt, sm), device="a card")
        plans = [read_engine(find_engine(bundle, manifest, name, card)) for name in manifest.engines]
        assert all(plan[:4] != b"\0" * 4 for plan in plans)
    again = build_engines(bundle, manifest, trt, ahead(trt, CARDS[0]))
    assert all(engine.again for engine in again), "what is current is not built a second time"


@pytest.mark.slow
def test_the_portable_flavour_builds_without_an_attention_operator(nano: Any, trt: TensorRtPackage) -> None:
    bundle = nano("fp16", "portable")
    built = build_engines(bundle, read_manifest(bundle), trt, ahead(trt, "sm86"))
    assert [engine.attention for engine in built] == [0, 0, 0, 0]


@pytest.mark.slow
def test_the_paper_s_engines_at_random_weights(tmp_path: Path, trt: TensorRtPackage) -> None:
    out, layers = tmp_path / "bundle", (24, 8, 30)
    names = ("vision_encoder", "predictor", "decoder")
    sources, chosen = WeightSources(random=0), "fp16,text_encoder=bf16"
    export_bundle(ExportRequest(sources, paper(*layers), out, precision=chosen, check_parity=False))
    manifest = read_manifest(out)
    built = build_engines(out, manifest, trt, ahead(trt, "sm89"), names=names)
    assert [(engine.name, engine.attention, engine.decomposed) for engine in built] == [
        (name, count, 0) for name, count in zip(names, layers, strict=True)
    ]
    for engine in built:
        onnx_bytes = sum(s.bytes for file, s in manifest.files.items() if file.startswith(f"{engine.name}.onnx"))
        assert engine.megabytes > 0.95 * onnx_bytes / 1e6, "the weights are in it"


@pytest.mark.parametrize("engine", ["text_encoder", "decoder"])
def test_unfolded_int8_blocks_compute_what_the_bundle_s_graph_does(nano: Any, tmp_path: Path, engine: str) -> None:
    bundle = nano("int8w")
    spec = read_manifest(bundle).engines[engine]
    copy, count = without_int8_blocks(bundle / spec.file, tmp_path)
    assert count > 1 and copy.parent == tmp_path
    assert without_int8_blocks(copy, tmp_path / "nowhere") == (copy, 0), "nothing is left to unfold"
    assert not any(t.data_type == onnx.TensorProto.INT8 for t in onnx.load(copy).graph.initializer)
    rng = np.random.default_rng(0)
    feed: dict[str, Any] = {}
    for tensor in spec.inputs:
        whole = np.issubdtype(np.dtype(tensor.dtype), np.floating)
        values = rng.normal(size=tensor.shape) * 0.1 if whole else rng.integers(0, 2, tensor.shape)
        feed[tensor.name] = values.astype(tensor.dtype)
    feed |= {"text_mask": np.ones_like(feed["text_mask"])} if "text_mask" in feed else {}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    before, after = (ort.InferenceSession(path, options).run(None, feed) for path in (bundle / spec.file, copy))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_an_engine_in_another_precision_than_asked_for_is_an_error_that_names_the_layer(
    nano: Any, trt: TensorRtPackage
) -> None:
    bundle = nano("fp16")
    spec = read_manifest(bundle).engines["vision_encoder"]
    network = networks.parse(trt, bundle / spec.file)
    networks.check(network, bundle / spec.file, spec)
    for wrong in ("fp32", "bf16"):
        with pytest.raises(VljEdgeError, match=r"stem\.first/Conv.*HALF"):
            networks.check(network, bundle / spec.file, replace(spec, precision=wrong))
    with pytest.raises(VljEdgeError, match=r"vision_encoder\.onnx.*int8"):
        networks.check(network, bundle / spec.file, replace(spec, precision="int8-fp16"))


def test_another_interface_than_the_manifest_s_is_an_error(nano: Any, trt: TensorRtPackage) -> None:
    bundle = nano("fp16")
    spec = read_manifest(bundle).engines["vision_encoder"]
    network = networks.parse(trt, bundle / spec.file)
    pixels = spec.inputs[0]
    for changed in (
        replace(pixels, shape=(1, 2, 3, 4, 5)),
        replace(pixels, dtype="float32"),
        replace(pixels, name="x"),
    ):
        with pytest.raises(VljEdgeError, match=r"x\.onnx.*manifest says (pixels|x) "):
            networks.check(network, Path("x.onnx"), replace(spec, inputs=(changed,)))


def test_a_graph_that_tensorrt_does_not_know_and_a_broken_file(tmp_path: Path, trt: TensorRtPackage) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph at all")
    with pytest.raises(VljEdgeError, match="--flavour portable"):
        networks.parse(trt, broken)


def test_a_graph_that_was_exchanged_is_not_built(nano: Any, trt: TensorRtPackage, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(nano("fp16"), bundle, ignore=shutil.ignore_patterns("engines"))
    shutil.copy(bundle / "predictor.onnx", bundle / "decoder.onnx")
    with pytest.raises(VljEdgeError, match=r"decoder\.onnx"):
        build_engines(bundle, read_manifest(bundle), trt, ahead(trt, "sm86"), names=["decoder"])
    assert not (bundle / "engines").exists()


def test_cards_that_it_does_not_build_ahead_for(trt: TensorRtPackage) -> None:
    with pytest.raises(VljEdgeError, match=r"sm87.*sm86.*vlj-edge build"):
        compute_capability(trt, "sm87")
    with pytest.raises(VljEdgeError, match=r"vlj-edge build.*vlj-edge\[rtx\]"):
        compute_capability(TensorRtPackage(object(), "tensorrt", "10.3.0"), "sm86")


def test_a_plan_is_whole(nano: Any, trt: TensorRtPackage) -> None:
    """What was published is what the builder gave, to the byte: its header is TensorRT's own."""
    bundle = nano("fp16")
    build_engines(bundle, read_manifest(bundle), trt, ahead(trt, "sm75"), names=["decoder"])
    found = find_engine(bundle, read_manifest(bundle), "decoder", replace(ahead(trt, "sm75"), device="T4"))
    assert isinstance(found, BuiltEngine) and len(read_engine(found)) == found.path.stat().st_size > 5_000_000


def test_without_a_card_tensorrt_says_where_to_build(monkeypatch: pytest.MonkeyPatch, trt: TensorRtPackage) -> None:
    class Nothing:
        def __getattr__(self, name: str) -> Any:
            return getattr(trt.module, name)

        def Builder(self, log: Any) -> None:
            return None

    with pytest.raises(VljEdgeError, match=r"vlj-edge\[rtx\].*--target"):
        networks.parse(TensorRtPackage(Nothing(), "tensorrt", "10.3.0"), Path("x.onnx"))
