"""A model says, once, that it has seen nothing like a video, and does not say it of its own data."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

import vlj_edge
from tests.cli.command import run_here
from vlj_edge import Model
from vlj_edge.bundle import nano_bundle, read_manifest, seal
from vlj_edge.errors import VljEdgeError

Frames = npt.NDArray[np.uint8]
DEMO = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"
REMEDY = "vlj-edge export google/videoprism-lvt-base-f16r288"
COUNT = 48  # 12 s


def noise() -> Frames:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 96, 128, 3), dtype=np.uint8)


def moving_gradient() -> Frames:
    row = np.linspace(0, 255, 128).astype(np.uint8)
    return np.stack([np.broadcast_to(np.roll(row, 4 * i)[None, :, None], (96, 128, 3)) for i in range(COUNT)])


def drawn_room(speed: int) -> Frames:
    frames = []
    for number in range(COUNT):
        picture = Image.new("RGB", (160, 120), (200, 190, 170))
        draw, x = ImageDraw.Draw(picture), 30 + speed * number % 100
        draw.rectangle((0, 80, 160, 120), fill=(120, 90, 60))
        draw.rectangle((20, 20, 60, 60), fill=(150, 200, 240))
        draw.ellipse((x, 50, x + 20, 70), fill=(220, 170, 140))
        draw.rectangle((x, 70, x + 20, 105), fill=(40, 60, 160))
        frames.append(np.asarray(picture))
    return np.stack(frames)


@pytest.fixture
def model() -> Iterator[Model]:
    with vlj_edge.load(threads=1) as loaded:
        yield loaded


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "nothing like this" in each.getMessage()]


@pytest.mark.parametrize(
    "frames", [noise(), moving_gradient(), drawn_room(2), drawn_room(0)], ids=["noise", "gradient", "room", "still"]
)
def test_it_says_so_once(model: Model, frames: Frames, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        list(model.narrate(frames))
    [line] = warnings(caplog)
    assert line.startswith("nano") and line.endswith(REMEDY) and "\n" not in line


def test_of_several_sources_each_is_judged_and_named(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    next(iter(model.narrate(vlj_edge.open_source(DEMO, end=4))))  # reads what is known
    door, yard = (model.chain.known.resemblance(None, name) for name in ("door", "yard"))
    assert door is not None and yard is not None
    for each in np.random.default_rng(0).normal(size=(20, model.manifest.embedding)):
        door.add_picture(each / np.linalg.norm(each))
    assert door.said and not yard.said  # what was said in the yard is remembered still
    again = model.chain.known.resemblance(None, "door")
    assert again is not None and again.said
    for each in np.random.default_rng(1).normal(size=(20, model.manifest.embedding)):
        yard.add_picture(each / np.linalg.norm(each))
    assert yard.said
    assert [line.partition(" ")[0] for line in warnings(caplog)] == ["door:", "yard:"]


def test_it_says_nothing_of_its_own_data(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    list(model.narrate(vlj_edge.open_source(DEMO, end=40)))
    assert warnings(caplog) == []


def test_it_says_nothing_of_answers_to_other_queries(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    list(model.narrate(noise(), query="Name the task."))
    assert warnings(caplog) == []


def test_a_command_says_it_on_stderr(tmp_path: Path) -> None:
    for number, frame in enumerate(noise()):
        Image.fromarray(frame).save(tmp_path / f"{number:03}.png")
    done = run_here("narrate", tmp_path, "--json")
    assert done.returncode == 0 and done.stderr.count(REMEDY) == 1, done.stderr
    assert REMEDY not in done.stdout and all(json.loads(line) for line in done.stdout.splitlines())


def without_known(directory: Path) -> Path:
    """Write a copy of nano's bundle as it was before manifests had `known`. Returns its manifest."""
    shutil.copytree(nano_bundle(), directory)
    manifest = directory / "manifest.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    (directory / fields.pop("known")["file"]).unlink()
    del fields["files"]["known.npy"]
    manifest.write_text(json.dumps(fields), encoding="utf-8")
    return manifest


def test_older_bundles_are_read_and_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    without_known(tmp_path / "old")
    with vlj_edge.load(tmp_path / "old") as old:
        list(old.narrate(noise()))
    assert warnings(caplog) == [] and read_manifest(tmp_path / "old").known is None


@pytest.mark.parametrize("axes", [np.zeros((5, 4)), np.zeros(384), np.zeros((384, 385))], ids=str)
def test_a_file_without_axes_is_refused(tmp_path: Path, axes: npt.NDArray[np.float64]) -> None:
    shutil.copytree(nano_bundle(), tmp_path / "bundle")
    path, manifest = tmp_path / "bundle" / "known.npy", tmp_path / "bundle" / "manifest.json"
    np.save(path, axes)
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    fields["files"]["known.npy"] = {"bytes": path.stat().st_size, "sha256": seal(path).sha256}
    manifest.write_text(json.dumps(fields), encoding="utf-8")
    with vlj_edge.load(tmp_path / "bundle") as broken, pytest.raises(VljEdgeError, match=r"known\.npy"):
        list(broken.narrate(noise()[:8]))


def test_the_log_is_the_one_of_the_package(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vlj_edge"):
        list(model.narrate(noise()))
    assert {each.name for each in caplog.records if "nothing like this" in each.getMessage()} == {"vlj_edge"}
