"""No command sends anything or leaves a library's usage data in the user's home."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.cli.command import COMMAND
from tests.needs import needs
from tests.waiting import free_port

REPOSITORY = Path(__file__).parents[2]
_SENT = ("connect", "sendto", "sendmsg", "sendmmsg")
_NETWORK = re.compile(r"sa_family=AF_INET6?,")
_LOOPBACK = re.compile(r'inet_addr\("127\.|"::1"|"::ffff:127\.')
_TINY_EXPORT = """
from tests.export.tiny_weights import TINY
from vlj_edge.cli import main
from vlj_edge.presets import PRESETS
PRESETS[TINY.name] = TINY
main()
"""


@cache
def _traced() -> tuple[str, ...]:
    """The command line of strace, which sees every socket; empty where it may not trace."""
    found = shutil.which("strace")
    works = found and subprocess.run([found, "-o", os.devnull, "true"], capture_output=True).returncode == 0
    return (str(found), "-f", "-qq", "-s", "64", "-e", f"trace={','.join(_SENT)}") if works else ()


class Home:
    """A user's fresh home. What runs in it has none of the variables that these tests or vlj_edge itself have set."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._trace = folder / "home", folder / "trace"
        self.folder.mkdir()

    def start(self, command: Sequence[str | Path], **variables: str) -> subprocess.Popen[str]:
        kept = {name: os.environ[name] for name in ("PATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH") if name in os.environ}
        traced = (*_traced(), "-o", str(self._trace)) if _traced() else ()
        return subprocess.Popen(
            [*traced, *map(str, command)],
            env={**kept, "HOME": str(self.folder), **variables},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str | Path, **variables: str) -> str:
        process = self.start(command, **variables)
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
        return said

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def sent(self) -> list[str]:
        """The system calls that reached for another machine, a name server too."""
        lines = self._trace.read_text(errors="replace").splitlines() if _traced() else []
        return [line for line in lines if _NETWORK.search(line) and not _LOOPBACK.search(line)]

    def check(self) -> None:
        assert self.files() == []
        assert self.sent() == []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("narrate", "VIDEO", "--bundle", "BUNDLE", "--backend", "onnxruntime"),
        pytest.param(("narrate", "VIDEO", "--bundle", "BUNDLE", "--backend", "openvino"), marks=needs("openvino")),
        ("embed", "VIDEO", "--bundle", "BUNDLE"),
        ("classify", "VIDEO", "--bundle", "BUNDLE", "--labels", "a red screen,blue"),
        ("ask", "VIDEO", "what colour is it", "--bundle", "BUNDLE", "--choices", "red,blue"),
        ("labels", "a red screen,blue", "--bundle", "BUNDLE", "--out", "FOLDER/bank.npz"),
        ("profile", "BUNDLE", "VIDEO"),
        pytest.param(("tune", "BUNDLE"), marks=pytest.mark.slow),
        pytest.param(
            ("verify", "BUNDLE", "--backend", "onnxruntime", "--source", "VIDEO"),
            marks=[needs("polygraphy"), pytest.mark.slow],
        ),
        pytest.param(
            ("verify", "BUNDLE", "--backend", "openvino", "--source", "VIDEO"),
            marks=[needs("openvino"), needs("polygraphy"), pytest.mark.slow],
        ),
        ("inspect", "BUNDLE"),
        ("--help",),
    ],
    ids=lambda arguments: " ".join(word for word in arguments if word.islower() and "-" not in word),
)
def test_a_command_sends_nothing(
    home: Home, arguments: Sequence[str], video: Path, bundle: Path, tmp_path: Path
) -> None:
    places = {"VIDEO": video, "BUNDLE": bundle, "FOLDER": tmp_path}
    words = [re.sub("VIDEO|BUNDLE|FOLDER", lambda found: str(places[found[0]]), word) for word in arguments]
    home.run(*COMMAND, *words)
    home.check()


@needs("lancedb")
def test_a_store_sends_nothing(home: Home, video: Path, bundle: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store", "--bundle", bundle)
    home.run(*COMMAND, "index", video, *store)
    home.check()
    assert "colours.avi" in home.run(*COMMAND, "search", "a red screen", *store)
    home.check()


@needs("fastapi")
def test_a_server_sends_nothing(home: Home, video: Path, bundle: Path) -> None:
    port = free_port()
    command = [*COMMAND, "serve", f"a={video}", "--bundle", str(bundle), "--port", str(port)]
    process = home.start([*command, "--log", str(home.folder.parent / "log")])
    try:
        until = time.monotonic() + 120
        while not (home.folder.parent / "log").exists() or not (home.folder.parent / "log").read_text():
            assert process.poll() is None and time.monotonic() < until, process
            time.sleep(0.1)
    finally:
        os.kill(_served(process.pid), signal.SIGTERM)
        process.communicate(timeout=60)
    home.check()


def _served(pid: int) -> int:
    """The process of the command: strace, where it traces, is its parent and keeps signals to itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if _traced() else []
    return int(children[0]) if children else pid


@pytest.mark.slow
@needs("torch")
def test_an_export_sends_nothing(home: Home, tiny_weights: Path, tmp_path: Path) -> None:
    arguments = ("export", tiny_weights, "--preset", "tiny", "--out", tmp_path / "exported")
    home.run(sys.executable, "-c", _TINY_EXPORT, *arguments)
    assert home.sent() == []
    assert not [name for name in home.files() if re.search("telemetry|intel|Microsoft|_cid|deviceid", name)]


_IMPORTS: list[tuple[str, Callable[[list[str]], bool]]] = [
    ("onnxruntime", lambda files: any("onnxruntime" in name for name in files)),
    ("openvino", lambda files: any("openvino_ga_cid" in name for name in files)),
]


@pytest.mark.parametrize(("library", "sends"), _IMPORTS, ids=["onnxruntime", "openvino"])
def test_the_libraries_by_themselves_are_caught_by_these_tests(
    home: Home, library: str, sends: Callable[[list[str]], bool]
) -> None:
    pytest.importorskip(library)
    home.run(sys.executable, "-c", f"import {library}")
    if not home.files():
        pytest.skip(f"this {library} keeps no usage data here")
    assert sends(home.files())


@pytest.mark.parametrize(
    ("library", "variables"),
    [("onnxruntime", {"ORT_DISABLE_TELEMETRY": "0"}), ("huggingface_hub", {"HF_HUB_DISABLE_TELEMETRY": "0"})],
)
def test_a_user_who_allows_it_is_not_overruled(home: Home, library: str, variables: dict[str, str]) -> None:
    shown = (
        "import os, vlj_edge; print(sorted((k, v) for k, v in os.environ.items() if 'TELEMETRY' in k or 'TRACK' in k))"
    )
    said = home.run(sys.executable, "-c", shown, **variables)
    (name,) = variables
    assert f"('{name}', '0')" in said
    assert name == "ORT_DISABLE_TELEMETRY" or "DO_NOT_TRACK" not in said


def test_openvino_has_its_telemetry_only_where_the_user_has_opted_in(home: Home) -> None:
    pytest.importorskip("openvino_telemetry")
    shown = (
        "import sys; from vlj_edge.telemetry import import_openvino; import_openvino();"
        "print('openvino_telemetry.main' in sys.modules)"
    )
    assert home.run(sys.executable, "-c", shown).strip() == "False"
    home.check()
    (home.folder / "intel").mkdir()
    (home.folder / "intel" / "openvino_telemetry").write_text("1")
    assert home.run(sys.executable, "-c", shown, CI="true").strip() == "True"  # which sends nothing in a CI
