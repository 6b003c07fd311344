"""Rules for each folder: allowed imports, sizes of files and functions; and the packages of each extra."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("vlj_edge", "export", "runtime")

# Packages besides the standard library that a folder may import; the longest name counts. Everything else, such as
# OpenCV and the engine backends, is optional and imported by vlj_edge.errors.require where it is needed.
PACKAGES: dict[str, set[str] | None] = {
    "vlj_edge": {"numpy"},
    "vlj_edge.cli": {"click", "rich", "uvicorn"},
    "vlj_edge.runtime": {"numpy", "PIL", "tokenizers"},
    "vlj_edge.runtime.service.http": {
        "numpy",
        "anyio",
        "fastapi",
        "starlette",
        "uvicorn",
        "pydantic",
        "prometheus_client",
        "python_multipart",
    },
    "vlj_edge.runtime.video.decoding.gstreamer_process": {"gi"},
    "vlj_edge.runtime.profiling.backends_diff": {"numpy", "polygraphy"},
    "vlj_edge.export": None,  # anything, torch too
}

# From the bottom to the top: a module imports from its own row and the rows above it in this list. A name stands for a
# module or for a folder; the longest one counts.
LAYERS: list[set[str]] = [
    {"vlj_edge", "vlj_edge.errors", "vlj_edge.schema", "vlj_edge.atomic_write", "vlj_edge.telemetry", "vlj_edge.child"},
    {
        "vlj_edge.memory",
        "vlj_edge.json_text",
        "vlj_edge.loopback",
        "vlj_edge.outputs",
        "vlj_edge.variables",
        "vlj_edge.presets",
        "vlj_edge.results",
        "vlj_edge.time_text",
        "vlj_edge.decision_words",
        "vlj_edge.tensorrt_package",
        "vlj_edge.cuda",
    },
    {"vlj_edge.bundle"},
    {"vlj_edge.targets"},
    # On the device:
    {"vlj_edge.runtime", "vlj_edge.runtime.engines.base"},  # the Engine protocol
    {"vlj_edge.runtime.profiling.probe"},
    {"vlj_edge.runtime.video", "vlj_edge.runtime.words"},
    {"vlj_edge.runtime.stream", "vlj_edge.runtime.gating", "vlj_edge.runtime.engines"},
    {"vlj_edge.runtime.vision", "vlj_edge.runtime.words.words", "vlj_edge.runtime.words.settings"},
    {"vlj_edge.runtime.chain"},
    {"vlj_edge.runtime.run_state", "vlj_edge.runtime.words.narrator"},
    {"vlj_edge.runtime.model"},
    {
        "vlj_edge.runtime.alerts",
        "vlj_edge.runtime.calibration",
        "vlj_edge.runtime.embedding",
        "vlj_edge.runtime.library",
        "vlj_edge.runtime.profiling",
        "vlj_edge.runtime.sinks",
    },
    {"vlj_edge.runtime.evaluation"},
    {"vlj_edge.runtime.service"},
    {"vlj_edge.runtime.service.http"},
    # Before the device:
    {"vlj_edge.export", "vlj_edge.export.kernels", "vlj_edge.export.onnx", "vlj_edge.export.weights.locations"},
    {"vlj_edge.export.models", "vlj_edge.export.tensorrt"},
    {"vlj_edge.export.weights", "vlj_edge.export.families.checkpoint"},
    {"vlj_edge.export.families"},
    {"vlj_edge.export.engines", "vlj_edge.export.parity", "vlj_edge.export.parity_cases"},
    {"vlj_edge.export.text_form"},
    {"vlj_edge.export.bundle"},
    # The front door:
    {"vlj_edge.cli", "vlj_edge.__main__"},
]
NEVER = [("vlj_edge.export", "vlj_edge.runtime"), ("vlj_edge.runtime", "vlj_edge.export")]

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60


@dataclass(frozen=True)
class Import:
    """One import statement: `module` imports `name`, which is a module, absolute; `level` counts its dots."""

    module: str
    name: str
    level: int
    at_import_time: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the three folders, by the name under which it is installed."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "vlj_edge" else ("vlj_edge", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports() -> list[Import]:
    return [each for module in modules() for each in _imports(module, tree(module), True)]


def _imports(module: str, node: ast.AST, at_import_time: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, 0, at_import_time) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(module, child)
            for alias in child.names:
                inner = f"{base}.{alias.name}"
                yield Import(module, inner if inner in modules() else base, child.level, at_import_time)
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _imports(module, child, at_import_time and not inside)


def _absolute(module: str, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    package = module.split(".") if modules()[module].name == "__init__.py" else module.split(".")[:-1]
    package = package[: len(package) + 1 - statement.level]
    return ".".join([*package, *([statement.module] if statement.module else [])])


def is_in(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def longest(module: str, names: set[str]) -> str:
    """The name of the module itself or of the innermost folder around it."""
    return max((name for name in names if is_in(module, name)), key=len)


def test_lower_layers_never_import_upper_ones() -> None:
    height = {name: number for number, row in enumerate(LAYERS) for name in row}
    assert sum(map(len, LAYERS)) == len(height), "a name stands in two rows"
    for each in imports():
        if not is_in(each.name, "vlj_edge"):
            continue
        if each.module == "vlj_edge" and not each.at_import_time:
            continue  # the public names, from everywhere, each imported when it is first used
        ours, theirs = longest(each.module, {*height}), longest(each.name, {*height})
        assert height[theirs] <= height[ours], f"{each.module} imports {each.name}: {theirs} lies above {ours}"
        assert not any(is_in(each.module, one) and is_in(each.name, other) for one, other in NEVER), each


def test_no_module_imports_itself_through_others() -> None:
    edges = {(each.module, each.name) for each in imports() if each.at_import_time and each.name in modules()}
    edges = {(module, name) for module, name in edges if module != name}
    while edges:  # what imports nothing, or is imported by nothing, is in no circle
        importing, imported = {module for module, _ in edges}, {name for _, name in edges}
        kept = {(module, name) for module, name in edges if module in imported and name in importing}
        assert kept != edges, f"in a circle, or between two: {sorted({*importing})}"
        edges = kept


def test_every_folder_imports_only_its_packages() -> None:
    for each in imports():
        package, allowed = each.name.split(".")[0], PACKAGES[longest(each.module, {*PACKAGES})]
        if allowed is not None and package not in {*sys.stdlib_module_names, "vlj_edge"}:
            assert package in allowed, f"{each.module} imports {package}"


def test_imports_are_relative_inside_a_folder_and_absolute_across() -> None:
    outer = {"vlj_edge", "vlj_edge.export", "vlj_edge.runtime"}
    for each in imports():
        if is_in(each.name, "vlj_edge"):
            inside = longest(each.module, outer) == longest(each.name, outer)
            assert inside == bool(each.level), f"{each.module} imports {each.name}"


def test_every_folder_says_what_belongs_in_it() -> None:
    for folder in {path.parent for path in modules().values()}:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{folder / '__init__.py'} has no docstring"


def test_every_folder_is_installed() -> None:
    listed = set(
        re.findall(r'^  "(vlj_edge[\w.]*)",$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    folders = {module for module, path in modules().items() if path.name == "__init__.py"}
    assert folders == listed, "the packages of [tool.setuptools]"


def test_files_and_functions_are_short() -> None:
    for module, path in modules().items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{path} has {lines} lines: split it"
        for node in ast.walk(tree(module)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= MOST_LINES_OF_A_FUNCTION, f"{node.name} in {path} has {lines} lines: split it"


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
