"""`vlj_edge` offers the whole public API, imported lazily; its examples run as they stand in docstrings and docs."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vlj_edge

ROOT = Path(__file__).parents[1]
CLASSES = [name for name in vlj_edge.__all__ if name[0].isupper() and name != "VljEdgeError"]


@pytest.fixture
def beside_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with what examples read: `examples/`, `video.mp4` and the folder `videos`."""
    demo = ROOT / "examples" / "media" / "demo.mp4"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "video.mp4").symlink_to(demo)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "demo.mp4").symlink_to(demo)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    imported = {
        (f".{each.module}".replace(".vlj_edge", ""), alias.name)
        for each in guarded.body
        if isinstance(each, ast.ImportFrom)
        for alias in each.names
        if alias.asname is None
    }
    assert imported == {(module, name) for module, names in vlj_edge._LAZY.items() for name in names}
    assert {name for _, name in imported} <= {*vlj_edge.__all__}


def test_no_example_looks_inside_the_package() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "vlj_edge." in text and "from vlj_edge" not in text and "import vlj_edge." not in text, path.name


@pytest.mark.parametrize("name", ["vlj_edge", *CLASSES])
def test_the_example_of_a_public_class_runs(name: str, beside_the_examples: Path) -> None:
    found = vlj_edge if name == "vlj_edge" else getattr(vlj_edge, name)
    text = inspect.getdoc(found) or ""
    assert ">>>" in text, f"{name} has no example in its docstring"
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    told: list[str] = []
    assert runner.run(example, out=told.append).failed == 0, "".join(told)


@pytest.mark.parametrize(
    "page",
    ["README.md", pytest.param("docs/python.md", marks=pytest.mark.slow), "docs/library.md", "docs/architecture.md"],
)
def test_the_python_of_a_page_runs(page: str, beside_the_examples: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("\n".join(blocks), page, "exec"), names)
    if page == "docs/architecture.md":  # the source and the sink that the page adds have done what they are for
        assert len(names["embeddings"]) == 7
        assert names["loudspeaker"].texts[0].startswith("demo: the robot arm") and names["loudspeaker"].closed
