"""One rule a folder: who may import what, and what each extra installs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Everything that runtime/ may need besides the standard library: what JetPack has, or pip has for its Python 3.10.
RUNTIME_MAY_IMPORT = {"numpy", "PIL", "tokenizers", "vlj_edge"}
# runtime/serve is an application on top of the rest, and only the command imports it, once these are known to be there.
SERVE_MAY_IMPORT = {"fastapi", "starlette", "pydantic", "prometheus_client", "python_multipart"}


def imports(path: Path) -> set[str]:
    """Absolute modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", files("runtime"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_runtime_needs_numpy_and_little_else(path: Path) -> None:
    import sys

    packages = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
    if path.name == "backends_diff.py":  # what it judges with is imported where it is needed, behind require()
        packages -= {"polygraphy"}
    if path.parent.name == "http":
        packages -= SERVE_MAY_IMPORT
    assert packages <= RUNTIME_MAY_IMPORT, "an engine backend and OpenCV are imported by vlj_edge.errors.require"


def test_nothing_else_in_the_runtime_needs_the_server() -> None:
    for path in files("runtime"):
        if path.parent.name == "http":
            continue
        relative = {
            node.module or ""
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and node.level
        }
        assert not any(name.split(".")[0] in ("http", "service.http") for name in relative), path


@pytest.mark.parametrize("folder, other", [("runtime", "vlj_edge.export"), ("export", "vlj_edge.runtime")])
def test_export_and_runtime_never_import_each_other(folder: str, other: str) -> None:
    for path in files(folder):
        assert not any(name.startswith(other) for name in imports(path)), path


@pytest.mark.parametrize("folder", ["vlj_edge", "runtime"])
def test_only_export_imports_torch(folder: str) -> None:
    heavy = {"torch", "onnx", "onnx_ir", "onnxscript", "transformers", "safetensors"}
    for path in files(folder):
        assert not heavy & {name.split(".")[0] for name in imports(path)}, path


def test_inside_a_folder_imports_are_relative() -> None:
    for folder in ("export", "runtime"):
        for path in files(folder):
            assert not any(name.startswith(f"vlj_edge.{folder}") for name in imports(path)), path


def requirements(extra: str) -> set[str]:
    """Names of the packages that `pip install "vlj-edge[extra]"` adds, other extras of vlj-edge followed."""
    found = set()
    for line in importlib.metadata.requires("vlj-edge") or []:
        requirement, _, marker = line.partition(";")
        if f'extra == "{extra}"' not in marker:
            continue
        if own := re.match(r"vlj-edge\[(.*)\]", requirement):
            found |= set().union(*(requirements(name) for name in own.group(1).split(",")))
        else:
            found.add(re.split(r"[<>=!~ \[]", requirement)[0])
    return found


def test_no_extra_installs_both_onnxruntimes() -> None:
    for extra in ("cpu", "gpu", "jetson", "tensorrt", "rtx", "export", "train", "dev"):
        assert requirements(extra), extra
        assert not {"onnxruntime", "onnxruntime-gpu"} <= requirements(extra), extra


def test_no_extra_shadows_the_opencv_of_a_jetson() -> None:
    assert not any("opencv" in name or "onnxruntime" in name for name in requirements("jetson"))


def test_opencv_comes_without_a_window_system() -> None:
    for extra in ("cpu", "gpu"):
        assert "opencv-python-headless" in requirements(extra)
        assert "opencv-python" not in requirements(extra)


def test_a_cpu_build_of_torch_that_lies_ready_is_newer_than_what_is_asked_for() -> None:
    torch = [line for line in importlib.metadata.requires("vlj-edge") or [] if line.startswith("torch")]
    assert torch and all("<2.14" in line and ">=2.9" in line for line in torch)
