"""vlj-edge export OWNER/NAME: in a process of its own with the variables that people set, and here."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, Done, error_of, listen_to_ctrl_c, run_here
from tests.export.hub.conftest import FILES
from tests.export.hub.local_hub import COMMIT, Hub, Repository
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import DECODER_TOKENIZER, QUERY_TOKENIZER
from vlj_edge.presets import PRESETS

SLOW = 3_000_000  # bytes that a test can break off in the middle of


@pytest.fixture
def variables(hub: Hub, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}


def export(variables: dict[str, str], *arguments: str | Path, cwd: Path | None = None) -> Done:
    command = [*COMMAND, "export", *map(str, arguments)]
    return subprocess.run(command, env=variables, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def tiny(hub: Hub, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | Path]]:
    """Arguments that export a repository with the weights of the preset TINY."""
    from tests.export.tiny_weights import TINY

    files = {path.name: path.read_bytes() for path in tiny_weights.iterdir() if path.is_file()}
    assert {DECODER_TOKENIZER, QUERY_TOKENIZER, "model.safetensors"} <= set(files)
    hub.repositories["someone/tiny"] = Repository(files, licence="mit")
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    yield ["--preset", "tiny", "--text-encoder", tiny_weights / "text_encoder"]


@pytest.mark.slow
def test_a_name_becomes_a_bundle_whose_receipt_says_from_where(
    hub: Hub, cache: Path, tiny: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    done = run_here("export", "someone/tiny", *tiny)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"someone/tiny at commit {COMMIT}, licence mit" in " ".join(done.stdout.split())
    text = (tmp_path / "tiny-fp32" / "manifest.json").read_text()
    [entry] = json.loads(text)["receipt"]["repositories"]
    assert (entry["commit"], entry["licence"], entry["gated"]) == (COMMIT, "mit", False)
    assert re.fullmatch("[0-9a-f]{64}", entry["sha256"]["model.safetensors"])
    assert "hf_good" not in text + done.stdout
    assert COMMIT in run_here("inspect", tmp_path / "tiny-fp32").stdout


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[ExportRequest]:
    """What `vlj-edge export` asks export_bundle() for, which does nothing here: it imports torch."""
    asked: list[ExportRequest] = []

    def export_bundle(request: ExportRequest, progress: object) -> Exported:
        asked.append(request)
        return Exported(request.out, [], [])

    @dataclass
    class Exported:
        bundle: Path
        engines: list[object]
        parity: list[object]
        compared_as_native: tuple[str, ...] = ()

    stub = types.ModuleType("vlj_edge.export.bundle")
    stub.export_bundle = export_bundle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlj_edge.export.bundle", stub)
    return asked


def test_a_name_is_fetched_and_its_directory_exported(
    hub: Hub, cache: Path, tiny: list[str | Path], requests: list[ExportRequest]
) -> None:
    done = run_here("export", "someone/tiny@v1", *tiny, "--fp16")
    assert error_of(done)  # v1 is empty
    assert (run_here("export", f"someone/tiny@{COMMIT}", *tiny, "--fp16").returncode, len(requests)) == (0, 1)
    [request] = requests
    [repository] = request.repositories
    assert request.sources.weights == repository.directory
    assert request.out == Path("tiny-fp16")


def test_a_directory_of_that_name_is_used(
    hub: Hub,
    cache: Path,
    tiny_weights: Path,
    tiny: list[str | Path],
    requests: list[ExportRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone" / "tiny").symlink_to(tiny_weights)
    done = run_here("export", "someone/tiny", *tiny, "--out", "out")
    assert done.returncode == 0
    assert "someone/tiny is a directory here" in done.stderr and "someone/tiny@main" in done.stderr
    assert not hub.seen
    [request] = requests
    assert (request.sources.weights, request.repositories) == (Path("someone/tiny"), ())


def test_what_is_wrong_with_the_call_is_said_before_anything_is_fetched(hub: Hub, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for arguments, code, words in [
        (["--out", tmp_path / "there"], 1, "there exists"),
        (["--precision", "fp17"], 2, "fp17"),
        (["--fp16", "--precision", "int8"], 2, "exclude each other"),
        (["--target", "toaster"], 2, "toaster"),
        (["--target", "cpu"], 2, "--calibrate-on"),
        (["--target", "wearable"], 2, "--calibrate-on"),
        (["--precision", "int8-fp16"], 2, "--calibrate-on"),
        (["--precision", "fp16,vision_encoder=int8"], 2, "--calibrate-on"),
        (["--calibrate-on", tmp_path / "none.mp4"], 1, "none.mp4"),
        (["--predictor", "meta-llama//Llama"], 2, "meta-llama//Llama"),
    ]:
        assert words in error_of(run_here("export", "google/siglip", "--out", tmp_path / "out", *arguments), code)
    assert not hub.seen


@pytest.fixture
def parts(hub: Hub) -> Hub:
    """open-vljepa and what it is made of, with files that pass for whole ones."""
    import torch

    stream = io.BytesIO()
    torch.save({"model_state_dict": {}}, stream)
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    safetensors = len(header).to_bytes(8, "little") + header + b"0"
    small = {"config.json": b"{}", "tokenizer.json": b"[]", "model.safetensors": safetensors}
    hub.repositories["cun-bjy/open-vljepa"] = Repository({"best.pt": stream.getvalue(), "train.py": b""})
    hub.repositories["meta-llama/Llama-3.2-1B"] = Repository(small, gated="manual", licence="llama3.2")
    hub.repositories["google/embeddinggemma-300m"] = Repository(small, gated="manual", licence="gemma")
    hub.repositories["facebook/vjepa2-vitl-fpc64-256"] = Repository(small, licence="mit")
    return hub


def test_open_vljepa_says_which_licences_have_to_be_accepted(parts: Hub, cache: Path, tmp_path: Path) -> None:
    line = error_of(run_here("export", "cun-bjy/open-vljepa", "--out", tmp_path / "out"))
    for part in ("https://huggingface.co/meta-llama/Llama-3.2-1B", "https://huggingface.co/google/embeddinggemma-300m"):
        assert part in line
    assert "HF_TOKEN" in line and "vjepa2" not in line
    assert not parts.requests("best.pt") and not parts.requests("safetensors")


def test_open_vljepa_is_fetched_with_what_it_is_made_of(
    parts: Hub, cache: Path, requests: list[ExportRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.chdir(tmp_path)
    done = run_here("export", "cun-bjy/open-vljepa", "--fp16")
    assert done.returncode == 0, done.stderr
    [request] = requests
    assert (request.preset.name, request.preset.clip.frames) == ("vl-jepa-1.6b", 8)
    assert (request.precision, request.out) == ("fp16,text_encoder=bf16", Path("open-vljepa-fp16"))
    sources = request.sources
    assert sources.weights is not None and sources.weights.name == "best.pt" and sources.is_open_vljepa
    assert {each.name.repository: each.licence for each in request.repositories} == {
        "cun-bjy/open-vljepa": "apache-2.0",
        "meta-llama/Llama-3.2-1B": "llama3.2",
        "google/embeddinggemma-300m": "gemma",
        "facebook/vjepa2-vitl-fpc64-256": "mit",
    }
    fetched = {
        each.path.partition("?")[0].rpartition("/")[2]
        for each in parts.requests("/meta-llama/")
        if "resolve" in each.path
    }
    assert fetched == {"config.json", "tokenizer.json"}, "its weights are in best.pt"
    assert not parts.requests("train.py")


def test_parts_of_open_vljepa_that_are_here_are_not_fetched(
    parts: Hub, cache: Path, requests: list[ExportRequest], tmp_path: Path
) -> None:
    for part in ("llama", "gemma"):
        (tmp_path / part).mkdir()
        for file in ("config.json", "tokenizer.json"):
            (tmp_path / part / file).write_text("{}")
    arguments = ("--predictor", tmp_path / "llama", "--text-encoder", tmp_path / "gemma", "--out", tmp_path / "out")
    done = run_here("export", "cun-bjy/open-vljepa", *arguments, "--no-decoder")
    assert done.returncode == 0, done.stderr
    assert requests[0].sources.predictor == tmp_path / "llama"
    assert not parts.requests("Llama") and not parts.requests("gemma")


@pytest.mark.parametrize("text", ["./none/here", "/none/here", "none.pt", "a/b.safetensors", "none"])
def test_what_looks_like_a_path_is_never_asked_for(hub: Hub, cache: Path, text: str, tmp_path: Path) -> None:
    error_of(run_here("export", text, "--out", tmp_path / "out"))
    assert not hub.seen


def test_gated_in_a_process_of_its_own(hub: Hub, variables: dict[str, str], tmp_path: Path) -> None:
    hub.repositories["google/siglip"].gated = "manual"
    line = error_of(export(variables, "google/siglip", "--out", tmp_path / "out"))
    assert "accept the licence at https://huggingface.co/google/siglip" in line and "hf auth login" in line
    assert "HF_TOKEN" in line and not (tmp_path / "out").exists()


def test_another_family_is_one_line_and_offline_is_silent(hub: Hub, variables: dict[str, str], tmp_path: Path) -> None:
    files = {QUERY_TOKENIZER: b"{}", "model.safetensors": b"no tensors"}  # half of what examples/train_nano writes
    hub.repositories["google/siglip"] = Repository(files, older=files)
    variables["HF_TOKEN"], variables["HF_DEBUG"] = "hf_good", "1"
    first = export(variables, "google/siglip@v1", "--out", tmp_path / "out")
    assert first.returncode == 1 and "Traceback" not in first.stderr
    assert "hf_good" not in first.stdout + first.stderr
    assert (tmp_path / "home" / "hub" / "models--google--siglip" / "refs" / "v1").exists()
    count = len(hub.seen)
    del variables["HF_DEBUG"]
    again = error_of(export({**variables, "HF_HUB_OFFLINE": "1"}, "google/siglip@v1", "--out", tmp_path / "out"))
    assert len(hub.seen) == count and again in first.stderr
    line = error_of(export({**variables, "HF_HUB_OFFLINE": "1"}, "google/other", "--out", tmp_path / "out"))
    assert "google/other" in line and "HF_HUB_OFFLINE" in line


def test_weights_of_no_family_are_not_fetched(hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.repositories["someone/bert"] = Repository({**FILES, "config.json": b'{"architectures": ["BertModel"]}'})
    hub.repositories["someone/tensors"] = Repository({"weights.safetensors": b"", "notes.json": b""})
    for name, word in (("someone/bert", "BertModel"), ("someone/tensors", "config.json")):
        line = error_of(run_here("export", name, "--out", tmp_path / "out"))
        assert word in line and "CLIPModel" in line
    assert not hub.requests("safetensors")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_with_130_and_the_next_call_goes_on(
    hub: Hub, variables: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    hub.repositories["google/siglip"] = Repository({QUERY_TOKENIZER: b"{}", "model.safetensors": bytes(SLOW)})
    hub.bytes_per_second = 1_000_000
    running = subprocess.Popen(
        [*COMMAND, "export", "google/siglip", "--out", str(tmp_path / "out")],
        env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c,
    )  # fmt: skip
    blobs = tmp_path / "home" / "hub" / "models--google--siglip" / "blobs"
    while (
        sum(path.stat().st_size for path in blobs.glob("*.incomplete")) < 1000
    ):  # of the weights: the tokenizer is first
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.send_signal(number)
    out, errors = running.communicate(timeout=60)
    assert (running.returncode, out, errors.strip()) == (130, "", "")
    [partial] = blobs.glob("*.incomplete")
    left = partial.stat().st_size
    assert 0 < left < SLOW
    hub.seen.clear()
    hub.bytes_per_second = None
    export(variables, "google/siglip", "--out", tmp_path / "out")
    assert [each.headers["range"] for each in hub.seen if "range" in each.headers and each.host[0] == "l"] == [
        f"bytes={left}-"
    ]


def test_a_bar_is_drawn_on_a_terminal_alone(hub: Hub, variables: dict[str, str], tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", _FETCH_ALONE, "google/siglip"]
    done = subprocess.run(
        command, env={**variables, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=follower, timeout=120
    )
    os.close(follower)
    drawn = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert done.returncode == 0 and COMMIT in drawn and "apache-2.0" in drawn
    piped = subprocess.run(
        [*command[:-1], "google/siglip@v1"], env=variables, capture_output=True, text=True, timeout=120
    )
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, "", "")


_FETCH_ALONE = """
import sys
from vlj_edge.cli.public_weights import _fetch
from vlj_edge.export.hub import Wanted, parse_name
_fetch(parse_name(sys.argv[1]), Wanted())
"""
