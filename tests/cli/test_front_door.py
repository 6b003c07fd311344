"""The command without optional packages, and the errors of wrong calls."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import vlj_edge as package
from tests.cli.command import (
    COMMAND,
    OPTIONAL,
    after_backend_warning,
    error_of,
    python,
    run_here,
    vlj_edge,
    vlj_edge_without,
    without,
)

COMMANDS = (
    "alerts",
    "narrate",
    "classify",
    "ask",
    "labels",
    "calibrate",
    "eval",
    "embed",
    "index",
    "search",
    "serve",
    "export",
    "models",
    "build",
    "inspect",
    "profile",
    "tune",
    "verify",
)
DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"

# Each takes a tenth of a second or more to import.
HEAVY = ("numpy", "rich", "PIL", "tokenizers", *OPTIONAL)

_IMPORTED = f"""
import sys
try:
    {{}}
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


def imported_by(program: str, *arguments: str) -> str:
    return python(_IMPORTED.format(program), *arguments).stderr.strip()


def test_import_loads_nothing_heavy() -> None:
    assert imported_by("import vlj_edge") == "[]"


def test_the_check_for_heavy_imports_sees_one() -> None:
    assert imported_by("import vlj_edge.results") == "['numpy']"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=str)
def test_the_first_answers_load_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by("from vlj_edge.cli import main; main()", *arguments) == "[]"


_EVERY_HELP = f"""
import contextlib, io, sys
from vlj_edge.cli.group import run
for name in {COMMANDS!r}:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = run([name, "--help"])
    heavy = [each for each in {HEAVY!r} if each in sys.modules]
    print(name, code, said.getvalue().splitlines()[0].startswith("Usage: vlj-edge " + name + " "), heavy)
"""


def test_no_commands_help_loads_anything_heavy() -> None:
    done = python(_EVERY_HELP)
    assert done.stdout.splitlines() == [f"{name} 0 True []" for name in COMMANDS], done.stderr


def test_no_commands_help_needs_an_extra() -> None:
    done = python(without(OPTIONAL, _EVERY_HELP))
    assert done.stdout.splitlines() == [f"{name} 0 True []" for name in COMMANDS], done.stderr
    done = vlj_edge_without(OPTIONAL, "--help")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("Usage: vlj-edge ")


def test_help_lists_every_command() -> None:
    commands = run_here("--help").stdout.partition("Commands:")[2]
    assert sorted(line.split()[0] for line in commands.splitlines() if line.strip()) == sorted(COMMANDS)


def test_the_list_of_commands_says_of_each_what_it_does() -> None:
    commands = run_here("--help").stdout.partition("Commands:")[2].strip("\n").splitlines()
    assert len(commands) == len(COMMANDS)
    assert all(re.fullmatch(r"  \w+ +[A-Z].*\w\.", line) and len(line) <= 80 for line in commands), commands


@pytest.mark.parametrize("name", ["narrate", "embed", "classify", "ask", "profile", "serve", "calibrate"])
def test_commands_describe_sources_in_the_same_words(name: str) -> None:
    of_this, of_narrate = (
        run_here(command, "--help").stdout.partition("\n  SOURCE is ")[2] for command in (name, "narrate")
    )
    assert of_this == of_narrate and "pipe:" in of_this


def test_version_is_that_of_the_package() -> None:
    done = vlj_edge("--version")
    assert (done.returncode, done.stdout) == (0, f"vlj-edge, version {package.__version__}\n")


@pytest.mark.parametrize("missing", ["av", "onnxruntime"])
def test_narrate_says_which_extra_to_install(missing: str, video: Path, tiny_bundle: Path) -> None:
    done = vlj_edge_without([missing], "narrate", video, "--bundle", tiny_bundle)
    assert error_of(done).startswith(f"error: {missing} is needed here")
    assert error_of(done).endswith("pip install 'vlj-edge[cpu]'")


def test_a_clone_hides_an_installed_package_and_works_all_the_same() -> None:
    """As after `pip install .`: nothing but the current directory leads to the folders beside vlj_edge/."""
    program = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in repr(finder) + finder.__module__]
sys.path.insert(0, "")
import vlj_edge.export.request, vlj_edge.runtime.model
print(vlj_edge.runtime.model.__file__)
"""
    root = Path(package.__file__).parents[1]
    done = python(program, cwd=root)
    assert (done.stdout.strip(), done.stderr) == (str(root / "runtime" / "model.py"), "")


def test_narrate_runs_without_what_only_export_needs(video: Path, tiny_bundle: Path) -> None:
    only_export = [name for name in OPTIONAL if name not in ("cv2", "onnxruntime")]
    done = vlj_edge_without(only_export, "narrate", video, "--bundle", tiny_bundle)
    assert (done.returncode, after_backend_warning(done.stderr)) == (0, "")


@pytest.mark.parametrize("name", ["inspect", "verify"])
def test_a_bundle_is_looked_at_without_any_extra(name: str, tiny_bundle: Path) -> None:
    done = vlj_edge_without(OPTIONAL, name, tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("missing", "extra"),
    [
        ("torch", "export"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)  # torch is imported before them
            for each in (("onnx", "export"), ("onnxscript", "export"), ("onnxruntime", "cpu"))
        ),
    ],
)
def test_export_says_which_extra_to_install(missing: str, extra: str, tmp_path: Path) -> None:
    done = vlj_edge_without([missing], "export", "--out", tmp_path / "out")
    assert f"No module named '{missing}'" in error_of(done)
    assert error_of(done).endswith(f"pip install 'vlj-edge[{extra}]'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["--no-such-option"],
        ["narrate"],
        ["narrate", "a.mp4", "b.mp4", "--srt", "c.srt"],
        ["narrate", "a.mp4", "--log-bytes", "100"],
        ["narrate", "a.mp4", "--no-such-option"],
        ["narrate", "a.mp4", "--srt", "."],
        ["export", "a", "b"],
        ["inspect", "a", "b"],
        ["verify", "--json"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_exits_with_2_and_how_it_is_used(arguments: list[str]) -> None:
    done = run_here(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: vlj-edge ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("export --fp16 --precision int8", "--precision"),
        ("export --precision fp17", "fp17"),
        ("export --precision encoder=fp16", "encoder=fp16"),
        ("export --preset mega", "mega"),
        ("export --encoder vjepa9 --preset vl-jepa-1.6b --random-weights 0", "vjepa9"),
        ("export --frames 7", "7 frames"),
        ("export --target toaster", "toaster"),
        ("export --engine tensorrt --target cpu", "--engine tensorrt"),
        ("export --captions everyday --no-decoder", "--no-decoder"),
        ("export --flavour portable --precision int4w", "int4w"),
        ("export --token-shares 120", "120 %"),
        ("export --token-shares 0.25,0.5", "0.25 %"),
        ("export google/siglip@", "google/siglip@"),
        ("build --target cpu", "nothing to build"),
        ("labels a,b,a --out bank.npz", "'a'"),
        ("classify demo.mp4 --labels ,", "labels"),
        ("ask demo.mp4 what --choices red", "choices"),
        ("ask demo.mp4 what --choices red,Red", "'Red'"),
        ("narrate nope://host/x", "nope"),
        ("narrate rtsp:///x", "no host"),
        ("narrate demo.mp4 --backend abacus", "abacus"),
        ("embed demo.mp4 --width 9999", "--width"),
    ],
)
def test_wrong_names_values_and_pairs_exit_with_2(
    call: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo.mp4").symlink_to(DEMO)
    monkeypatch.chdir(tmp_path)
    done = run_here(*call.split())
    assert named in error_of(done, 2) and done.stdout == ""
    assert os.listdir(tmp_path) == ["demo.mp4"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(video: Path, tiny_bundle: Path, tmp_path: Path, closed: str) -> None:
    command = [*COMMAND, "embed", str(video), "--bundle", str(tiny_bundle)]
    calls = [(["--out", str(tmp_path / "out.json")], 0)]
    if "2>&-" in closed:
        calls.append((["--start", "99"], 1))
    if ">&-" in closed.split():
        calls.append(([], 0))
    for options, code in calls:
        done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command, *options], capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


@pytest.mark.parametrize("option", ["--fps=nan", "--fps=0.0001", "--novel-below=nan"])
def test_a_number_that_is_none_is_a_wrong_call(video: Path, option: str) -> None:
    assert run_here("embed", video, option).returncode == 2


def test_without_a_command_it_shows_its_help() -> None:
    done, asked = vlj_edge(), run_here("--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.rstrip() == asked.stdout.rstrip()
