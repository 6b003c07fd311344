from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.command import Done, error_of, python, run_here, start, vlj_edge
from tests.needs import needs
from vlj_edge.bundle import read_manifest
from vlj_edge.cli.export import _print_summary
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import shipped_weights
from vlj_edge.presets import PRESETS

# The command with a preset of tiny dimensions, and optionally a limit (bytes) on every file that is written: then the
# kernel refuses to write on, as it does on a full disk.
_TINY_EXPORT = """
import resource, sys
from tests.export.tiny_weights import TINY
from vlj_edge.cli import main
from vlj_edge.export.weights.locations import shipped_weights
from vlj_edge.presets import PRESETS
PRESETS[TINY.name] = TINY
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""
REPOSITORY = Path(__file__).parents[2]

Export = Callable[..., Done]


def export_tiny(*arguments: str | Path, limit: int = 0) -> Done:
    """`vlj-edge export ARGUMENTS --preset tiny` in a process of its own."""
    return python(_TINY_EXPORT, str(limit), "export", *arguments, "--preset", "tiny", cwd=REPOSITORY)


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch) -> Export:
    """`vlj-edge export ARGUMENTS --preset tiny` in this process, because torch takes seconds to import."""
    from tests.export.tiny_weights import TINY

    monkeypatch.setitem(PRESETS, "tiny", TINY)

    return lambda *arguments, preset="tiny": run_here("export", *arguments, "--preset", preset)


# Run each call of argv[1] (JSON) in turn; print its error, and whether torch was imported by then.
_WRONG_CALLS = """
import json, sys
from vlj_edge.cli.group import cli
from vlj_edge.errors import VljEdgeError
for call in json.loads(sys.argv[1]):
    if call[0].startswith("without "):
        sys.modules[call.pop(0).removeprefix("without ")] = None
    try:
        cli.main(["export", *call], standalone_mode=False)
        message = "no error"
    except VljEdgeError as error:
        message = str(error)
    print(json.dumps([message, sys.modules.get("torch") is not None]))
"""


@needs("torch")
def test_a_wrong_argument_is_reported_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a checkpoint")
    (tmp_path / "empty").mkdir()
    cut = Path(shutil.copytree(shipped_weights(), tmp_path / "cut"))
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-10])
    (tmp_path / "text.pt").write_text("not a checkpoint")
    missing, out = str(tmp_path / "missing"), str(tmp_path / "out")
    cases: list[tuple[list[str], str]] = [
        ([missing], missing),
        ([str(tmp_path / "text")], "text is one file"),
        ([str(tmp_path / "empty")], "model.safetensors"),
        ([str(cut)], "model.safetensors"),
        ([str(tmp_path / "text.pt")], "text.pt"),
        (["--preset", "huge"], "'huge'"),
        (["--preset", "vl-jepa-1.6b"], "vlj-edge export WEIGHTS --preset vl-jepa-1.6b"),
        (["--preset", "vl-jepa-1.6b", "--random-weights", "0", "--encoder", "clip"], "vjepa2-vitl"),
        (["--preset", "vl-jepa-1.6b", "--random-weights", "0", "--fp16"], "text_encoder=bf16"),
        (["--frames", "7"], "a multiple of 2"),
        (["--precision", "fp8"], "fp8"),
        (["--precision", "encoder=fp16"], "vision_encoder"),
        (["--target", "toaster"], "jetson-orin-nano"),
        (["--target", "cpu", "--engine", "tensorrt"], "--engine tensorrt"),
        (["--fp16", "--precision", "int8"], "--fp16"),
        (["--no-decoder", "--captions", "x.txt"], "--captions"),
        (["--flavour", "fused"], "--precision fp16"),
        (["--flavour", "portable", "--precision", "int8w"], "portable"),
        (["--random-weights", "0", "--precision", "int8"], "--calibrate-on"),
        (["--random-weights", "0", "--target", "cpu"], "--calibrate-on"),
        (["--random-weights", "0", "--target", "wearable"], "--calibrate-on"),
        (["--precision", "int8", "--calibrate-on", missing], missing),
        (["--precision", "int8", "--calibrate-on", str(tmp_path / "text")], "text"),
        (["--vision-encoder", missing], missing),
        (["--predictor", missing], missing),
        (["--text-encoder", missing], missing),
        (["--decoder", missing], missing),
        (["--captions", missing], missing),
        (["--out", str(tmp_path / "empty")], "exists"),
        (["--out", str(tmp_path / "empty"), "--overwrite"], "is no bundle"),
        (["without transformers"], "pip install 'vlj-edge[export]'"),
        (["without torch"], "pip install 'vlj-edge[export]'"),
    ]
    calls = [call if "--out" in call else [*call, "--out", out] for call, _ in cases]
    before = sorted(tmp_path.rglob("*"))
    done = python(_WRONG_CALLS, json.dumps(calls))
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (call, words), (message, torch_imported) in zip(cases, found, strict=True):
        assert words in message and "\n" not in message, call
        assert not torch_imported, call
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    line = error_of(run_here("export", tmp_path / "none", "--out", tmp_path / "out"))
    assert str(tmp_path / "none") in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["bundle", "folder", "file"])
def test_what_lies_at_out_is_left_alone(
    what: str, export: Export, tiny_weights: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if what == "bundle":
        shutil.copytree(tiny_bundle, out)
    elif what == "folder":
        out.mkdir()
    else:
        out.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert f"{out} exists" in error_of(export(tiny_weights, "--out", out))
    assert sorted(tmp_path.rglob("*")) == before


def test_overwrite_does_not_replace_what_is_no_bundle(export: Export, tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_text("mine")
    assert "is no bundle" in error_of(export(tiny_weights, "--out", tmp_path / "photos", "--overwrite"))
    assert (tmp_path / "photos" / "1.jpg").read_text() == "mine"


def test_weights_of_another_preset_are_listed(export: Export, tiny_weights: Path, tmp_path: Path) -> None:
    line = error_of(export(tiny_weights, "--out", tmp_path / "out", preset="nano"))
    assert "does not fit preset nano" in line
    for part in ("missing: ", "wrong shape: ", " instead of (", " more"):
        assert part in line
    assert list(tmp_path.iterdir()) == []


def test_a_few_wrong_keys_are_all_named(export: Export, tiny_weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    changed = Path(shutil.copytree(tiny_weights, tmp_path / "weights"))
    state = load_file(changed / "model.safetensors")
    state["text_projection.weights"] = state.pop("text_projection.weight")
    state["text_projection.bias"] = state["text_projection.bias"][:-1].clone()
    save_file(state, changed / "model.safetensors")
    line = error_of(export(changed, "--out", tmp_path / "out"))
    assert "missing: text_projection.weight;" in line
    assert "unexpected: text_projection.weights;" in line
    assert "wrong shape: text_projection.bias (39,) instead of (40,)" in line


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("name", ["model.safetensors", "query_tokenizer.json", "decoder_tokenizer.json"])
@pytest.mark.parametrize("harm", [Path.unlink, cut])
def test_a_damaged_weights_folder_is_one_line(
    harm: Callable[[Path], None], name: str, export: Export, tiny_weights: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(tiny_weights, tmp_path / "weights"))
    harm(changed / name)
    assert name in error_of(export(changed, "--out", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == [changed]


def test_a_place_that_cannot_be_written_is_one_line(export: Export, tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file" / "out") in error_of(export(tiny_weights, "--out", tmp_path / "file" / "out"))


def test_an_exported_bundle_verifies_and_narrates(tiny_weights: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export_tiny(tiny_weights, "--out", out)
    assert (done.returncode, done.stderr) == (0, ""), "nothing but results where there is no terminal"
    for part in ("vision_encoder", "predictor", "decoder", "text_encoder", "parity", f"--bundle {out}"):
        assert part in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert run_here("verify", out).returncode == 0
    assert "made unknown" not in run_here("inspect", out).stdout
    assert run_here("narrate", video, "--bundle", out, "--every-window").returncode == 0


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    line = error_of(export_tiny(tiny_weights, "--out", tmp_path / "deep" / "out", limit=1_000))
    assert str(tmp_path / "deep" / "out") in line
    assert "free some space" in line
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.slow
def test_a_disk_that_fills_up_late_leaves_the_bundle_that_was_there(
    tiny_weights: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tiny_bundle, tmp_path / "out"))
    line = error_of(export_tiny(tiny_weights, "--out", out, "--overwrite", limit=300_000))  # the predictor is larger
    assert "free some space" in line
    assert list(tmp_path.iterdir()) == [out]
    assert vlj_edge("verify", out).returncode == 0


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tiny_weights: Path, tmp_path: Path) -> None:
    arguments = ("0", "export", tiny_weights, "--out", tmp_path / "out", "--preset", "tiny")
    running = start(*arguments, command=[sys.executable, "-c", _TINY_EXPORT], cwd=REPOSITORY)
    while not any(tmp_path.rglob("*.onnx")):  # the first engine is written: the other three are still to come
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, errors = running.communicate(timeout=60)
    assert (running.returncode, out, errors.strip()) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


class _Asked(Exception):
    pass


@pytest.mark.parametrize("call", [["--target", "cpu"], ["--target", "wearable"], ["--precision", "bf16"], ["--fp16"]])
def test_nano_has_a_clip_for_what_needs_one(call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import vlj_edge.export.bundle as made

    asked: list[ExportRequest] = []

    def note(request: ExportRequest, progress: object) -> None:
        asked.append(request)
        raise _Asked

    monkeypatch.setattr(made, "export_bundle", note)
    with pytest.raises(_Asked):
        run_here("export", *call, "--out", tmp_path / "out")
    [request] = asked
    assert len(request.clips) == (0 if call == ["--fp16"] else 36)
    assert all(clip.shape == (1, 8, 3, 96, 96) for clip in request.clips)


@needs("torch")
@pytest.mark.slow
def test_nano_for_a_wearable_is_exported_without_any_video(tmp_path: Path) -> None:
    done = vlj_edge("export", "--target", "wearable", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "") and "--calibrate-on" in done.stdout
    manifest = read_manifest(tmp_path / "out")
    assert manifest.engines["vision_encoder"].precision == "int8"
    assert all(row["cosine"] > 0.999 for row in manifest.parity["rows"])


@pytest.mark.parametrize(
    ("vision", "text", "said"),
    [("bf16", "bf16", "vlj-edge build"), ("fp32", "bf16", "vlj-edge narrate"), ("fp16", "int8w", "vlj-edge narrate")],
)
def test_what_no_cpu_runs_is_built_next(
    vision: str, text: str, said: str, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precisions = {"vision_encoder": vision, "text_encoder": text, "decoder": "fp32"}
    engines = [
        SimpleNamespace(name=n, precision=p, opset=19, nodes_a_layer=1, megabytes=1.0, kept_fp32=())
        for n, p in precisions.items()
    ]
    exported: Any = SimpleNamespace(bundle=tiny_bundle, engines=engines, parity=[], compared_as_native=())
    _print_summary(exported, None)
    next_step = capsys.readouterr().out.partition("next, ")[2]
    assert said in next_step and str(tiny_bundle) in next_step
