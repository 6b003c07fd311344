"""`vlj_edge` offers the whole public API, imported lazily; its examples and those of docs/python.md run as written."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import vlj_edge


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, vlj_edge; print(*{'numpy', 'PIL', 'onnxruntime', 'cv2', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_can_be_imported() -> None:
    for name in vlj_edge.__all__:
        assert getattr(vlj_edge, name) is not None
        assert name in dir(vlj_edge)


def test_type_checkers_and_python_see_the_same_names() -> None:
    source = Path(inspect.getfile(vlj_edge)).read_text(encoding="utf-8")
    guarded = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    seen = {
        (f"{'.' if each.level else 'vlj_edge.'}{each.module}".replace("vlj_edge.vlj_edge", ""), alias.name)
        for each in guarded.body
        if isinstance(each, ast.ImportFrom)
        for alias in each.names
    }
    assert seen == {(module, name) for module, names in vlj_edge._LAZY.items() for name in names}
    assert {name for _, name in seen} <= {*vlj_edge.__all__}
