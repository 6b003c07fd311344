"""The choice of a backend and its message. TensorRT that is installed but broken is an error, not a silent CPU run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlj_edge import tensorrt_package as trt_module
from vlj_edge.bundle import FileSeal, read_manifest
from vlj_edge.bundle.engine_cache import Receipt, RuntimeId, engine_sources, store_engine
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines import select
from vlj_edge.runtime.engines.select import select_backend
from vlj_edge.tensorrt_package import TensorRtPackage, import_tensorrt

CARD = SimpleNamespace(name="Orin", sm="sm87")
HERE = RuntimeId("tensorrt", "10.3.0", "sm87", "Orin")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """machine(packages, driver, **replaced): what is installed here from now on."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def install(
        packages: tuple[str, ...] = ("tensorrt",), driver: bool = True, ort: bool = True, **replaced: Any
    ) -> None:
        monkeypatch.setattr(select, "installed", lambda: list(packages))
        monkeypatch.setattr(select, "driver_found", lambda: driver)
        monkeypatch.setattr(select, "is_installed", lambda name: ort)
        monkeypatch.setattr(select, "import_tensorrt", lambda: TensorRtPackage(None, "tensorrt", "10.3.0"))
        monkeypatch.setattr(select, "open_device", lambda: CARD)
        for name, function in replaced.items():
            monkeypatch.setattr(select, name, function)

    return install


@pytest.fixture
def own(tmp_path: Path) -> Path:
    from tests.runtime import tiny_bundle

    return tiny_bundle.build(tmp_path / "bundle")


def build(bundle: Path, *names: str, runtime: RuntimeId = HERE) -> None:
    manifest = read_manifest(bundle)
    for name in names:
        store_engine(
            bundle, Receipt(name, "", FileSeal(0, ""), engine_sources(manifest, name), {}, runtime, {}), b"plan"
        )


def test_without_tensorrt_it_is_onnx_runtime(machine: Any, own: Path) -> None:
    machine(packages=())
    assert select_backend(own, read_manifest(own)).name == "onnxruntime"
    machine(driver=False)  # a machine that builds ahead of time
    chosen = select_backend(own, read_manifest(own))
    assert chosen.name == "onnxruntime" and "no NVIDIA driver" in chosen.reason and chosen.warning is None


def test_tensorrt_runs_once_its_engines_are_built(machine: Any, own: Path) -> None:
    machine()
    chosen = select_backend(own, read_manifest(own))
    assert (chosen.name, chosen.description) == ("onnxruntime", "ONNX Runtime on the CPU")
    assert chosen.warning is not None and "tensorrt 10.3.0" in chosen.warning and "vlj-edge build" in chosen.warning
    build(own, "vision_encoder", "predictor")
    assert select_backend(own, read_manifest(own)).name == "onnxruntime", "the decoder is on the way of a frame too"
    build(own, "decoder")
    chosen = select_backend(own, read_manifest(own))
    assert (chosen.name, chosen.description, chosen.warning) == ("tensorrt", "tensorrt 10.3.0 on Orin", None)


def test_engines_of_another_version_are_said_and_not_run(machine: Any, own: Path) -> None:
    machine()
    build(own, "vision_encoder", "predictor", "decoder", runtime=RuntimeId("tensorrt", "10.13.2", "sm87", "Orin"))
    chosen = select_backend(own, read_manifest(own))
    assert chosen.name == "onnxruntime" and chosen.warning is not None and "vlj-edge build" in chosen.warning


def test_where_nothing_else_runs_missing_engines_are_an_error(machine: Any, own: Path) -> None:
    machine(ort=False)  # JetPack 6
    with pytest.raises(VljEdgeError, match="vlj-edge build"):
        select_backend(own, read_manifest(own))


def test_broken_tensorrt_is_an_error_unless_another_backend_is_asked_for(machine: Any, own: Path) -> None:
    def broken() -> Any:
        raise VljEdgeError("tensorrt is installed but does not work (libnvinfer.so.10: no such file)")

    for replaced in ({"import_tensorrt": broken}, {"open_device": broken}):
        machine(**replaced)
        with pytest.raises(VljEdgeError, match="libnvinfer"):
            select_backend(own, read_manifest(own))
        assert select_backend(own, read_manifest(own), "onnxruntime").name == "onnxruntime"


def test_what_is_asked_for_is_taken_or_refused(machine: Any, own: Path) -> None:
    machine(packages=())
    manifest = read_manifest(own)
    assert select_backend(own, manifest, "tensorrt").name == "tensorrt"
    assert select_backend(own, manifest, engines=Path("elsewhere")).name == "tensorrt"
    with pytest.raises(VljEdgeError, match="onnxruntime, openvino, tensorrt"):
        select_backend(own, manifest, "abacus")
    with pytest.raises(VljEdgeError, match="onnxruntime"):
        select_backend(own, manifest, "onnxruntime", Path("elsewhere"))


# Importing TensorRT


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """package(text): from now on, that is the installed tensorrt, and there is no tensorrt_rtx."""
    monkeypatch.setattr(trt_module, "PACKAGES", ("tensorrt",))

    def write(text: str) -> None:
        (tmp_path / "tensorrt.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    return write


def test_tensorrt_that_works(package: Any) -> None:
    package("__version__ = '10.3.0'\nclass Logger: pass")
    found = import_tensorrt()
    assert (found.package, found.version) == ("tensorrt", "10.3.0") and found.module.Logger
    sys.modules.pop("tensorrt")


@pytest.mark.parametrize(
    "text",
    [
        "raise OSError('libnvinfer.so.10: cannot open shared object file')",
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
        "import a_module_that_is_not_there_libnvinfer",
        "raise RuntimeError('libnvinfer.so.10 does not fit')",
        "__version__ = '10.3.0'  # and no Logger: the bindings without their libraries",
    ],
)
def test_tensorrt_that_does_not_work_is_named_with_the_reason(package: Any, text: str) -> None:
    package(text)
    with pytest.raises(VljEdgeError, match=r"^tensorrt .*(libnvinfer|Logger)") as error:
        import_tensorrt()
    assert "--backend onnxruntime" in str(error.value)


def test_tensorrt_that_is_not_there_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_module, "PACKAGES", ("a_tensorrt_that_nobody_has",))
    with pytest.raises(VljEdgeError, match=r"vlj-edge\[rtx\].*--system-site-packages"):
        import_tensorrt()
