"""Child processes import nothing from the current folder, and find what their parent has."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path

import PIL.Image
import pytest

from vlj_edge.child import python_command

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "vlj_edge",
    "numpy",
    "cv2",
    "av",
    "PIL",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "gi",
    "click",
    "rich",
    "sitecustomize",
)

_MJPEG = """
import sys
from contextlib import closing
import vlj_edge
with closing(vlj_edge.open_source(sys.argv[1])) as source:
    print(next(source.frames()).image.shape)
"""
_WEBCAM = """
from contextlib import suppress
import vlj_edge
from vlj_edge.runtime.video.cameras.camera import CameraSource
from vlj_edge.runtime.video.cameras.camera_address import CameraAddress
with suppress(vlj_edge.VljEdgeError):
    CameraSource(CameraAddress("webcam", "/dev/video99"))
print("tried")
"""
_GSTREAMER = """
from types import SimpleNamespace
from vlj_edge.runtime.video.decoding.gstreamer_decoder import GStreamerDecoder
codec = SimpleNamespace(name="h264", pix_fmt="yuv420p", format=None, extradata=None)
decoder = GStreamerDecoder(SimpleNamespace(codec_context=codec))
try:
    decoder.decode(None)
except (OSError, RuntimeError) as error:
    print(error)
decoder.close()
print("tried")
"""


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder with a module for every name that a process may import, which leaves a mark when it is."""
    folder = tmp_path / "decoys"
    folder.mkdir()
    for name in (*PACKAGES, *sys.stdlib_module_names):
        (folder / name).mkdir()
        mark = f"open({str(tmp_path / 'marks')!r}, 'a').write({name!r} + chr(10))\nraise SystemExit('decoy')\n"
        (folder / name / "__init__.py").write_text(mark)
    return folder


@pytest.fixture
def mjpeg() -> Iterator[str]:
    picture = BytesIO()
    PIL.Image.new("RGB", (64, 48), "red").save(picture, "JPEG")
    part = b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + picture.getvalue() + b"\r\n"

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            try:
                while not stopping.wait(0.02):
                    self.wfile.write(part)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    stopping = threading.Event()
    server = HTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/video"
    stopping.set()
    server.shutdown()
    thread.join()
    server.server_close()


def run(program: str, cwd: Path, *arguments: str, **variables: str) -> str:
    """Run a program that lies in a folder of its own, so that the current folder is not in its own path."""
    script = cwd.parent / "program" / "program.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def marks(folder: Path) -> list[str]:
    path = folder.parent / "marks"
    return path.read_text().split() if path.exists() else []


def test_the_reader_of_a_camera_imports_nothing_from_the_current_folder(decoys: Path, mjpeg: str) -> None:
    assert "(48, 64, 3)" in run(_MJPEG, decoys, mjpeg)
    assert marks(decoys) == []


@pytest.mark.parametrize("program", [_WEBCAM, _GSTREAMER], ids=["webcam", "gstreamer"])
def test_no_child_imports_from_the_current_folder(program: str, decoys: Path) -> None:
    assert "tried" in run(program, decoys)
    assert marks(decoys) == []


def test_the_decoys_would_run(decoys: Path) -> None:
    subprocess.run([sys.executable, "-m", "vlj_edge"], cwd=decoys, capture_output=True)
    assert marks(decoys)


def test_the_installed_command_imports_nothing_from_the_current_folder(decoys: Path) -> None:
    command = shutil.which("vlj-edge", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("vlj-edge is not installed in this environment")
    done = subprocess.run([command, "inspect"], cwd=decoys, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert marks(decoys) == []


def test_a_child_keeps_the_users_own_path(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "of_the_user.py").write_text("def main():\n    import sys\n    print(sys.argv[1:])\n")
    done = subprocess.run(
        [*python_command("of_the_user"), "a"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "mine")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "['a']", done.stderr


@pytest.mark.parametrize("options", [["-S"], ["-S", "-I"]], ids=["no packages", "isolated"])
def test_a_child_finds_vlj_edge_where_its_parent_found_it(options: list[str], tmp_path: Path) -> None:
    """Also in a clone that is not installed."""
    python, *rest = python_command("vlj_edge.errors")  # which has no main()
    done = subprocess.run([python, *options, *rest], cwd=tmp_path, capture_output=True, text=True)
    assert "cannot import name 'main' from 'vlj_edge.errors'" in done.stderr


def test_no_python_is_started_but_by_python_command() -> None:
    """Or by the path of a script, whose own folder comes first."""
    found = []
    for folder in ("vlj_edge", "runtime", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
            if "executable" in names or "multiprocessing" in text:
                found.append(str(path.relative_to(ROOT)))
    assert sorted(found) == ["runtime/video/decoding/gstreamer_decoder.py", "vlj_edge/child.py"]
