"""verify --backend: a backend with the same results passes, and one with other results is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import error_of, run_here, vlj_edge
from tests.needs import needs
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge.bundle import read_manifest
from vlj_edge.runtime import chain
from vlj_edge.runtime.engines.base import Engine, open_engine
from vlj_edge.runtime.profiling import backends_diff as comparing


@pytest.fixture
def video(make_video: Callable[..., Path]) -> Path:
    return make_video([(RED, 3), (BLUE, 3)])


class Other:
    """An engine that adds something to one output after every run."""

    def __init__(self, engine: Engine, output: str, add: float) -> None:
        self.inputs, self.outputs, self.engine = engine.inputs, engine.outputs, engine
        self.output, self.add = output, add

    def run(self) -> None:
        self.engine.run()
        if self.output in self.outputs:
            self.outputs[self.output][...] += self.add

    def wait(self) -> None:
        self.engine.wait()

    def keep_output(self, output: str) -> object | None:
        return self.engine.keep_output(output)

    def set_input(self, name: str, value: object) -> None:
        self.engine.set_input(name, value)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, float], None]:
    """other(engine, output, add): from now on the backend "tensorrt" is ONNX Runtime with that error."""

    def install(engine: str, output: str, add: float) -> None:
        def opened(directory: Path, manifest: Any, name: str, *, backend: str = "onnxruntime", **wanted: Any) -> Engine:
            made = open_engine(directory, manifest, name, **wanted)
            return Other(made, output, add) if backend == "tensorrt" and name == engine else made

        monkeypatch.setattr(comparing, "open_engine", opened)
        monkeypatch.setattr(chain, "open_engine", opened)

    return install


def run(bundle: Path, video: Path) -> comparing.Comparison:
    return comparing.compare_backends(bundle, read_manifest(bundle), video, "tensorrt")


def test_the_same_engines_agree(tiny_bundle: Path, video: Path, other: Any) -> None:
    other("none", "none", 0.0)
    found = run(tiny_bundle, video)
    assert found.agrees and [row.engine for row in found.rows][-1] == "chain"
    assert {row.engine for row in found.rows} == {"vision_encoder", "predictor", "decoder", "text_encoder", "chain"}
    assert all(row.cosine > 0.999999 for row in found.rows)
    assert {ours for ours, _ in found.texts} >= {"a red screen", "blue"}


@pytest.mark.parametrize(
    ("engine", "output", "add", "wrong"),
    [
        ("vision_encoder", "visual_tokens", 0.3, {"vision_encoder", "chain"}),
        ("predictor", "embedding", -0.4, {"predictor", "chain"}),
        ("text_encoder", "embedding", 0.2, {"text_encoder"}),
    ],
)
def test_an_engine_that_computes_something_else_is_named(
    tiny_bundle: Path, video: Path, other: Any, engine: str, output: str, add: float, wrong: set[str]
) -> None:
    other(engine, output, add)
    found = run(tiny_bundle, video)
    assert not found.agrees
    assert {row.engine for row in found.rows if not row.agrees} == wrong


def test_other_words_do_not_agree(tiny_bundle: Path, video: Path, other: Any) -> None:
    other("decoder", "next_token", 1)
    found = run(tiny_bundle, video)
    assert not found.agrees and any(a != b for a, b in found.texts)


@needs("polygraphy")
def test_the_command(tiny_bundle: Path, video: Path) -> None:
    done = vlj_edge("verify", tiny_bundle, "--backend", "onnxruntime", "--source", video)
    assert (done.returncode, done.stderr) == (0, "")
    assert "texts: " in done.stdout and " NO " not in done.stdout and "[I]" not in done.stdout
    for half in (("--backend", "tensorrt"), ("--source", str(video))):
        alone = vlj_edge("verify", tiny_bundle, *half)
        assert alone.returncode == 2 and "--backend and --source" in alone.stderr and not alone.stdout
    assert "abacus" in error_of(vlj_edge("verify", tiny_bundle, "--backend", "abacus", "--source", video), 2)


@pytest.mark.parametrize(("add", "agrees"), [(0.0, True), (0.05, True), (-2.0, False)])
def test_an_engine_with_another_form_for_cpus_may_be_as_far_as_both_are_from_torch(
    tiny_bundle: Path, video: Path, other: Any, tmp_path: Path, add: float, agrees: bool
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    raw = json.loads((bundle / "manifest.json").read_text())
    spec = raw["engines"]["text_encoder"]
    raw["on_cpu"] = {"text_encoder": spec | {"precision": "int8w"}}
    raw["parity"]["lowest_cosine"] = {"fp32": 0.99, "int8w": 0.99}
    (bundle / "manifest.json").write_text(json.dumps(raw))
    other("text_encoder", "embedding", add)
    [row] = [row for row in run(bundle, video).rows if row.engine == "text_encoder"]
    assert row.agrees == agrees and row.precision == f"{spec['precision']} and int8w"


@needs("openvino")
def test_the_text_encoder_of_nano_agrees_on_openvino() -> None:
    video = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"
    done = run_here("verify", "--backend", "openvino", "--source", video, "--duration", "4")
    assert done.returncode == 0 and "text_encoder" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("add", "agrees"), [(0.01, True), (-2.0, False)])
def test_inputs_that_onnx_runtime_rounds_may_be_as_far_as_both_are_from_torch(
    tiny_bundle: Path, video: Path, other: Any, tmp_path: Path, add: float, agrees: bool
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["engines"]["text_encoder"]["precision"] = "int8w"
    raw["parity"]["lowest_cosine"] = {"fp32": 0.99, "int8w": 0.99}
    (bundle / "manifest.json").write_text(json.dumps(raw))
    other("text_encoder", "embedding", add)
    [row] = [row for row in run(bundle, video).rows if row.engine == "text_encoder"]
    assert row.agrees == agrees and row.precision == "int8w"
