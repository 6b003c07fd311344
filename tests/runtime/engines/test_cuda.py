"""The CUDA backend of ONNX Runtime, with a stand-in for the card: what is bound, copied and refused."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.cli.command import error_of, run_here, vlj_edge
from tests.runtime.engines.ort_cuda import OrtCuda
from vlj_edge.bundle import KEPT, EngineSpec, TensorSpec, nano_bundle, read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines import base, cuda, cuda_check, select, tuning
from vlj_edge.runtime.engines.base import EngineRequest, open_engine
from vlj_edge.runtime.engines.cuda import CudaEngine
from vlj_edge.runtime.engines.tuning import Tuning, read_tuning, tune
from vlj_edge.runtime.model import Model, copy_of
from vlj_edge.runtime.profiling import backends_diff
from vlj_edge.runtime.video.uri import open_source

DEMO = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"
CARD = "NVIDIA Stand-in 4090"
NODES = {"MatMul", "Gemm", "Gather", "ReduceMean", "Conv"}  # of the tiny bundle


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> OrtCuda:
    """onnxruntime-gpu on a machine with a card."""
    found = OrtCuda()
    for module in (cuda, cuda_check):
        monkeypatch.setattr(module, "import_onnxruntime", lambda: found)
    monkeypatch.setattr(cuda_check, "_name_of_card", lambda: CARD)
    return found


@pytest.fixture
def own(tmp_path: Path, tiny_bundle: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_nano_says_and_embeds_what_it_does_on_the_cpu(ort: OrtCuda) -> None:
    with Model(nano_bundle(), backend="cuda") as ours, Model(nano_bundle(), backend="onnxruntime") as theirs:
        assert ours.backend.description == (
            f"ONNX Runtime with CUDA on {CARD}, fp32 without TF32, one CUDA graph an engine"
        )
        said = [list(model.narrate(open_source(DEMO, end=8.0))) for model in (ours, theirs)]
        assert [dataclasses.replace(one, similarity=None) for one in said[0]] == [
            dataclasses.replace(one, similarity=None) for one in said[1]
        ]
        assert said[0] and {session.settings["use_tf32"] for session in ort.sessions} == {"0"}
        texts = [model.embed_text("the robot arm") for model in (ours, theirs)]
        np.testing.assert_allclose(texts[0], texts[1], atol=1e-5)
    assert {session.settings["enable_cuda_graph"] for session in ort.sessions} == {"1"}
    assert all(session.graphs and session.threads == 1 and not session.cpu_allowed for session in ort.sessions)
    assert ort.violations == 0, "encoder and decoder work in two threads"


def test_what_engines_pass_to_each_other_stays_on_the_card(ort: OrtCuda, tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    encoder = open_engine(tiny_bundle, manifest, "vision_encoder", backend="cuda", outputs_read=())
    predictor: Any = open_engine(
        tiny_bundle, manifest, "predictor", backend="cuda", inputs_from={"visual_tokens": encoder}
    )
    assert not encoder.outputs and "visual_tokens" not in predictor.inputs
    of_encoder, of_predictor = (session.bindings[0].addresses for session in ort.sessions)
    assert of_encoder["visual_tokens"] == of_predictor["visual_tokens"]
    encoder.inputs["pixels"][...] = 0.25
    encoder.run()
    predictor.run()
    theirs = open_engine(tiny_bundle, manifest, "vision_encoder")
    theirs.inputs["pixels"][...] = 0.25
    theirs.run()
    np.testing.assert_allclose(predictor.on_card["visual_tokens"].numpy(), theirs.outputs["visual_tokens"], atol=1e-6)


def test_a_cache_is_written_in_place_and_never_copied(ort: OrtCuda, tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    spec = manifest.engines["decoder"]
    decoder: Any = open_engine(tiny_bundle, manifest, "decoder", backend="cuda", constant_inputs=("embedding",))
    addresses = ort.sessions[0].bindings[0].addresses
    assert spec.in_place and all(addresses[out] == addresses[into] for out, into in spec.in_place.items())
    assert set(decoder.inputs) == {"token", "position"} and not set(decoder.outputs) & set(spec.in_place)
    decoder.set_input("embedding", np.ones(spec.inputs[0].shape[1], np.float64))
    assert decoder.on_card["embedding"].numpy().tolist() == np.ones(spec.inputs[0].shape).tolist()


def test_threads_take_turns_on_the_card(ort: OrtCuda, tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    engines = [open_engine(tiny_bundle, manifest, "vision_encoder", backend="cuda") for _ in range(3)]
    failed: list[Exception] = []

    def work(engine: Any) -> None:
        try:
            for _ in range(30):
                engine.run()
            open_engine(tiny_bundle, manifest, "text_encoder", backend="cuda")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and ort.violations == 0


def test_a_part_of_the_tokens_has_a_graph_of_its_own(ort: OrtCuda, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", [KEPT], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["values", "as_float"], ["sums"]),
    ]
    shapes = [("values", TensorProto.FLOAT), (KEPT, TensorProto.INT64)]
    inputs = [helper.make_tensor_value_info(name, kind, [1, "n"]) for name, kind in shapes]
    outputs = [helper.make_tensor_value_info("sums", TensorProto.FLOAT, [1, "n"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    onnx.save(model, tmp_path / "sum.onnx")
    tensors = TensorSpec("values", "float32", (1, 6), 1), TensorSpec(KEPT, "int64", (1, 6), 1)
    spec = EngineSpec("sum.onnx", "fp32", 21, tensors, (TensorSpec("sums", "float32", (1, 6), 1),))
    request = EngineRequest(tmp_path, SimpleNamespace(engines={"sum": spec}), "sum")  # type: ignore[arg-type]
    engine = CudaEngine(tmp_path / "sum.onnx", request)
    engine.inputs["values"][...] = 10
    for kept in ([0, 2, 5], [1, 3], [0, 2, 4], list(range(6))):
        engine.keep_tokens(np.array(kept))
        engine.run()
        assert engine.outputs["sums"][0, : len(kept)].tolist() == [10 + number for number in kept]
    assert set(ort.sessions[0].graphs) == {"", "2", "3", "6"}


def test_tf32_and_the_cpu_are_asked_for_by_name(ort: OrtCuda, own: Path, caplog: pytest.LogCaptureFixture) -> None:
    ort.without_kernel = NODES
    model = Model(own, backend="cuda-tf32+cpu")
    with caplog.at_level(logging.INFO, "vlj_edge"):
        _ = model.chain.vision
    assert "fp32 in TF32" in model.backend.description and "CPU" in model.backend.description
    assert {session.settings["use_tf32"] for session in ort.sessions} == {"1"}
    assert {session.settings["enable_cuda_graph"] for session in ort.sessions} == {"0"}
    assert any("ReduceMean" in record.getMessage() for record in caplog.records)
    assert not model.backend.cuda_graph and Model(own, backend="cuda").backend.cuda_graph
    assert copy_of(model, 1).backend.requested == "cuda-tf32+cpu"


def test_a_node_without_a_kernel_is_an_error(ort: OrtCuda, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ort.without_kernel = NODES
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)  # the provider's library can be loaded
    with pytest.raises(VljEdgeError, match=r"--backend cuda\+cpu") as caught:
        Model(tiny_bundle, backend="cuda").chain.load(words=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["cuda", "cuda+cpu"])
def test_a_provider_that_does_not_start_is_an_error(ort: OrtCuda, tiny_bundle: Path, backend: str) -> None:
    ort.starts = False
    with pytest.raises(VljEdgeError, match=r"did not start .*libonnxruntime_providers_cuda\.so") as caught:
        _ = Model(tiny_bundle, backend=backend).chain.vision
    assert "\n" not in str(caught.value)


# As onnxruntime-gpu 1.31 says it: what the card did comes late in the text.
SIGNATURE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:63 static std::string onnxruntime::" + "x" * 150
)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (f"{SIGNATURE} CUDA failure 2: out of memory ; GPU=0 ; hostname=h", r"no memory left"),
        (f"{SIGNATURE} Failed to allocate memory for requested buffer of size 123", r"no memory left"),
        (f"{SIGNATURE} CUDA failure 700: CUDA_ERROR_ILLEGAL_ADDRESS\nand more ; GPU=0", r"lost"),
        (
            f"{SIGNATURE} CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0",
            r"CUDNN_STATUS_NOT_SUPPORTED.*nvidia-smi",
        ),
        (f"{SIGNATURE} CUDA failure 35: CUDA driver version is insufficient ; GPU=-1 ", r"insufficient\)"),
    ],
    ids=["memory", "arena", "lost", "cudnn", "driver"],
)
def test_a_failed_run_or_load_is_one_line(ort: OrtCuda, tiny_bundle: Path, said: str, remedy: str) -> None:
    engine = open_engine(tiny_bundle, read_manifest(tiny_bundle), "vision_encoder", backend="cuda")
    ort.fails = said
    for fails in (
        engine.run,
        lambda: open_engine(tiny_bundle, read_manifest(tiny_bundle), "predictor", backend="cuda"),
    ):
        with pytest.raises(VljEdgeError, match=remedy) as caught:
            fails()
        assert "\n" not in str(caught.value) and "onnxruntime_src" not in str(caught.value)


def test_the_package_without_cuda_is_refused_in_one_line(tiny_bundle: Path) -> None:
    if cuda_check.has_provider():
        pytest.skip("this onnxruntime has CUDA")
    said = error_of(vlj_edge("narrate", DEMO, "--bundle", tiny_bundle, "--backend", "cuda"))
    assert "vlj-edge[gpu]" in said
    done = run_here("narrate", DEMO, "--bundle", tiny_bundle, "--backend", "cuda+cpu", "--duration", "3")
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "vlj-edge[gpu]" in done.stderr


class Driver:
    """libcuda.so.1 on a machine without a usable card."""

    def __init__(self, init: int = 0, cards: int = 0) -> None:
        self._init, self._cards = init, cards

    def cuInit(self, flags: int) -> int:
        return self._init

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._cards
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"NVIDIA H100"
        return 0

    def cuGetErrorName(self, code: int, name: Any) -> int:
        name._obj.value = {100: b"CUDA_ERROR_NO_DEVICE", 803: b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}.get(code)
        return 0


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (None, r"libcuda\.so\.1"),
        (Driver(init=100), "CUDA_ERROR_NO_DEVICE"),
        (Driver(init=803), "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        (Driver(init=999), "error 999"),
        (Driver(cards=0), "no card"),
    ],
    ids=["no driver", "no device", "mismatch", "unknown", "none"],
)
def test_a_machine_without_a_card_is_refused_in_one_line(
    driver: Driver | None, said: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def library(name: str) -> Driver:
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError("libcuda.so.1: cannot open shared object file: No such file or directory")
        return driver

    monkeypatch.setattr(cuda_check, "import_onnxruntime", OrtCuda)
    monkeypatch.setattr(ctypes, "CDLL", library)
    with pytest.raises(VljEdgeError, match=said) as caught:
        Model(tiny_bundle, backend="cuda")
    assert "\n" not in str(caught.value) and "--backend" in str(caught.value)
    model = Model(tiny_bundle, backend="cuda+cpu")
    assert model.backend.name == "onnxruntime" and model.backend.warning and "CPU" in model.backend.warning


def test_the_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_check, "import_onnxruntime", OrtCuda)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(cards=2))
    assert cuda_check.find_card() == "NVIDIA H100"


def test_missing_libraries_are_named_and_nothing_is_printed(
    ort: OrtCuda, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ort.preload_says = (
        "Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open shared object file: No such file\n"
        "Failed to load libcudnn.so.9: libcudnn.so.9: cannot open shared object file: No such file or directory\n"
        "Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA.\n"
    )
    with pytest.raises(VljEdgeError, match=r"libcublasLt\.so\.13, libcudnn\.so\.9: pip install .*cuda,cudnn"):
        Model(tiny_bundle, backend="cuda")
    assert capfd.readouterr() == ("", "")


def test_bf16_and_other_engines_are_refused(ort: OrtCuda, tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    half = dataclasses.replace(manifest.engines["predictor"], precision="bf16")
    other = dataclasses.replace(manifest, engines=manifest.engines | {"predictor": half})
    with pytest.raises(VljEdgeError, match=r"bf16.*cuda"):
        open_engine(tiny_bundle, other, "predictor", backend="cuda")
    with pytest.raises(VljEdgeError, match="--engines"):
        Model(tiny_bundle, backend="cuda", engines=tmp_path)


def test_tune_tries_cuda_and_keeps_it_for_this_card(ort: OrtCuda, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = tuning._time

    def faster(engines: Any, clip: Any) -> Any:
        share = {"0": 0.1, "1": 0.01}[ort.sessions[-1].settings["use_tf32"]] if hasattr(engines[0], "on_card") else 1.0
        return [(wall * share, cpu) for wall, cpu in timed(engines, clip)]

    monkeypatch.setattr(tuning, "_time", faster)
    monkeypatch.setattr(select, "installed", lambda: False)  # TensorRT
    manifest = read_manifest(own)
    tried = tune(own, manifest)
    assert [one.tuning for one in tried[:1]] == [Tuning(1, False, "cuda", tf32=True)]
    assert Tuning(1, False, "cuda") in [one.tuning for one in tried]
    model = Model(own)
    assert model.backend.name == "cuda" and "TF32" in model.backend.reason
    assert "fp32 in TF32" in model.backend.description and model.chain.engine_options["tf32"]
    assert not Model(own, backend="onnxruntime").chain.engine_options.get("tf32")
    monkeypatch.setattr(cuda_check, "_name_of_card", lambda: "NVIDIA Another")
    assert read_tuning(own, manifest) is None
    monkeypatch.setattr(cuda_check, "_name_of_card", lambda: (_ for _ in ()).throw(VljEdgeError("the card is gone")))
    gone = Model(own).backend
    assert gone.name == "onnxruntime" and gone.warning and "the card is gone" in gone.warning


def test_tune_says_why_cuda_was_left_out(ort: OrtCuda, own: Path) -> None:
    ort.without_kernel = NODES
    said: list[str] = []
    tried = tune(own, read_manifest(own), left_out=said.append)
    assert len(said) == 1 and said[0].startswith("cuda is left out: ")
    assert "cuda" not in {one.tuning.backend for one in tried}


def test_cuda_that_nobody_asked_for_is_pointed_out(
    ort: OrtCuda, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "installed", lambda: False)
    monkeypatch.setattr(select, "driver_found", lambda: False)
    assert Model(tiny_bundle).backend.warning is None
    monkeypatch.setattr(select, "driver_found", lambda: True)
    backend = Model(tiny_bundle).backend
    assert backend.name == "onnxruntime" and backend.warning and "vlj-edge tune" in backend.warning


def test_verify_says_how_it_multiplied(
    ort: OrtCuda, tiny_bundle: Path, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polygraphy")
    video = make_video([((255, 0, 0), 5)])
    found = backends_diff.compare_backends(tiny_bundle, read_manifest(tiny_bundle), video, "cuda-tf32")
    assert found.agrees and CARD in found.described and "in TF32" in found.described
    assert {row.precision for row in found.rows if row.engine != "chain"} == {"fp32 in TF32"}
    done = run_here("verify", tiny_bundle, "--backend", "cuda", "--source", video)
    assert done.returncode == 0 and "fp32 without TF32" in done.stdout


def test_every_name_of_a_backend_may_stand_in_a_configuration() -> None:
    assert set(get_args(base.BackendName)) == {*base.BACKENDS, *base.WITH_SETTINGS}
