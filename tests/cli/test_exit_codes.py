"""Exit codes of calls that are refused: 2 where the call is wrong whatever the files hold that it names, 1 where what
is found there, or on this machine, is. That an option names a folder, or no folder, click finds before the call."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.command import error_of, run_here
from vlj_edge.errors import VljEdgeError, WrongCall, WrongText
from vlj_edge.text_list import texts_of_file

LONG = "very " * 2000


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(demo, "demo.mp4")
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("no video")
    Path("long.txt").write_text(f"a dog\n{LONG}\n", encoding="utf-8")
    Path("twice.txt").write_text("a dog\na dog\n", encoding="utf-8")
    Path("wrong.json").write_text("[]", encoding="utf-8")
    Path("folder").mkdir()
    return tmp_path


@pytest.fixture(scope="session")
def demo() -> Path:
    return Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"


WRONG_CALLS = (
    "narrate",
    "narrate demo.mp4 --nothing",
    "narrate demo.mp4 --start 5 --end 2",
    "narrate demo.mp4 --log demo.mp4",
    "narrate demo.mp4 --srt x.srt --vtt x.srt",
    "narrate demo.mp4 --tokens 0.5",
    "narrate demo.mp4 --backend nothing",
    "narrate ftp://host/demo.mp4",
    "narrate rtsp://host:99999/1",
    "narrate http://host:0/1",
    "embed demo.mp4 --out demo.mp4",
    "embed demo.mp4 --width 100000",
    "embed demo.mp4 --form nothing",
    "embed demo.mp4 --keep 5",
    "profile demo.mp4 --rounds 3",
    "ask demo.mp4 text.mp4 what? --choices a,b",
    "ask what? demo.mp4 --choices a,b",
    "labels demo.mp4 --out demo.mp4",
    "labels long.txt --out long.txt",
    "labels --out bank.npz",
    "labels",
    "classify demo.mp4",
    "classify demo.mp4 --labels a,a",
    "classify demo.mp4 --labels ~a,~a",
    "ask demo.mp4 ~what? --choices ~yes,~yes",
    f"classify demo.mp4 --labels {LONG.strip().replace(' ', '_')}",
    "classify demo.mp4 --labels a,b --template nothing",
    "ask demo.mp4 what? --choices yes,no",
    "calibrate demo.mp4 --out demo.mp4",
    "narrate demo.mp4 --log folder",
    "narrate demo.mp4 --gates folder",
    "narrate demo.mp4 --engines nothing",
    "profile demo.mp4 --html demo.mp4",
)
FAILURES = (
    "narrate nothing.mp4",
    "narrate empty.mp4",
    "narrate *.mkv",
    "narrate text.mp4",
    "narrate demo.mp4 --gates nothing.json",
    "narrate demo.mp4 --gates wrong.json",
    "narrate demo.mp4 --bundle folder",
    "narrate demo.mp4 --log nothing/log",
    "embed nothing.mp4",
    "embed demo.mp4 --bank nothing.npz",
    "embed demo.mp4 --bank folder",
    "labels long.txt --out bank.npz",
    "labels twice.txt --out bank.npz",
    "labels nothing.txt --out bank.npz",
    "classify nothing.mp4 --labels a,b",
    "classify demo.mp4 --labels long.txt",
    "classify demo.mp4 --labels twice.txt",
    "ask demo.mp4 what? --choices long.txt",
    "ask nothing.mp4 what? --choices a,b",
    "calibrate nothing.mp4",
    "calibrate demo.mp4 --events wrong.json",
    "profile nothing.mp4",
    "eval nothing.csv",
    "inspect folder",
    "verify folder",
    "build nothing",
    "serve demo.mp4 --config nothing.toml",
)


@pytest.mark.parametrize(("call", "code"), [*((call, 2) for call in WRONG_CALLS), *((call, 1) for call in FAILURES)])
def test_exit_code(call: str, code: int, here: Path) -> None:
    done = run_here(*call.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and done.stderr and not done.stdout
    if code == 1:
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    assert (here / "demo.mp4").stat().st_size > 100_000, "an input is as it was"


@pytest.mark.parametrize("command", [("labels", "{}", "--out", "bank.npz"), ("classify", "demo.mp4", "--labels", "{}")])
def test_a_text_that_is_too_long_names_its_line_in_a_file(command: tuple[str, ...], here: Path) -> None:
    done = run_here(*(word.format("long.txt") for word in command))
    assert "long.txt, line 2" in done.stderr


def test_only_the_file_that_holds_a_text_is_named(here: Path) -> None:
    with pytest.raises(WrongText, match="no"), texts_of_file("twice.txt"):
        raise WrongText("no", "a cat")
    with pytest.raises(VljEdgeError, match=r"twice\.txt, line 1: no") as found, texts_of_file("twice.txt"):
        raise WrongText("no", "a dog")
    assert not isinstance(found.value, WrongCall)
    with pytest.raises(WrongText), texts_of_file("a dog,a cat"):
        raise WrongText("no", "a dog")


@pytest.mark.parametrize(
    "call",
    [
        "narrate {}",
        "classify {} --labels a,b",
        "ask {} what? --choices a,b",
        "embed {}",
        "calibrate {}",
        "profile {}",
        "verify --source {} --backend onnxruntime",
    ],
)
def test_a_source_is_looked_at_before_a_model_is_opened(call: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("narrate", "classify", "ask", "embed", "calibrate", "profile"):
        monkeypatch.setattr(f"vlj_edge.cli.{command}.load_model", None)
    monkeypatch.setattr("vlj_edge.bundle.verify_bundle", None)
    for source, named in (("nothing.mp4", "does not exist"), ("text.mp4", "no video"), ("empty.mp4", "is empty")):
        assert named in error_of(run_here(*call.format(source).split()))
    assert "ends at 80" in error_of(run_here(*call.format("demo.mp4").split(), "--start", "99"))
    if call != "profile {}":  # to which a folder without images is a bundle
        assert "no images" in error_of(run_here(*call.format("folder").split()))
