"""Every command that reads a video obeys the options for a part of it: seen by the frames that it reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.command import run_here
from vlj_edge import VljEdgeError
from vlj_edge.cli.group import cli
from vlj_edge.cli.serve_settings import ServeSettings
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.video.clips import spread_clips
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.recordings.image_files import ImageFiles
from vlj_edge.runtime.video.source import Frame, Source

CALLS: dict[str, tuple[str, ...]] = {
    "narrate": ("narrate", "SOURCE"),
    "narrate several": ("narrate", "a=SOURCE", "b=SOURCE"),
    "narrate --out": ("narrate", "SOURCE", "--out", "texts"),
    "embed": ("embed", "SOURCE"),
    "classify": ("classify", "SOURCE", "--labels", "red,blue"),
    "classify several": ("classify", "SOURCE", "SOURCE", "--labels", "red,blue"),
    "ask": ("ask", "SOURCE", "what?", "--choices", "red,blue"),
    "index": ("index", "SOURCE", "--store", "store"),
    "serve": ("serve", "a=SOURCE"),
    "profile": ("profile", "BUNDLE", "SOURCE"),
    "calibrate": ("calibrate", "SOURCE"),
    "verify": ("verify", "BUNDLE", "--backend", "onnxruntime", "--source", "SOURCE"),
    "export": ("export", "--calibrate-on", "SOURCE", "--out", "made", "--precision", "int8"),
}
NEEDS = {"index": "lancedb", "serve": "fastapi", "verify": "polygraphy", "export": "torch"}

Seen = set[tuple[float, tuple[int, ...]]]


@pytest.fixture
def frames_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path) -> Callable[..., Seen]:
    """Run a command on a source with options; return the times and shapes of the frames that it reads."""
    seen: Seen = set()
    every_frame = Source.__iter__

    def watched(self: Source) -> Iterator[Frame]:
        for frame in every_frame(self):
            if isinstance(self, VideoFile | ImageFiles):
                seen.add((round(frame.time, 3), frame.image.shape))
            yield frame

    def play(model: Model, settings: ServeSettings, options: dict[str, Any], *_: Any) -> None:
        station = Station(model, settings.sources(model, options))
        station.start()
        station.wait()
        station.stop()

    def calibrated(request: Any) -> None:
        raise VljEdgeError("the clips are read, and the export is long")

    monkeypatch.setattr(Source, "__iter__", watched)
    monkeypatch.setattr("vlj_edge.cli.serve._run", play)
    monkeypatch.setattr("vlj_edge.export.request.check_clips", calibrated)
    monkeypatch.chdir(tmp_path)

    def run(name: str, source: Path, *options: str) -> Seen:
        pytest.importorskip(NEEDS.get(name, "numpy"), exc_type=ImportError)
        call = [word.replace("SOURCE", str(source)).replace("BUNDLE", str(tiny_bundle)) for word in CALLS[name]]
        more = () if "BUNDLE" in CALLS[name] or name == "export" else ("--bundle", tiny_bundle)
        done = run_here(*call, *more, *options)
        assert done.returncode == (1 if name in ("export", "calibrate") else 0), done.stderr  # that is too short
        return seen

    return run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Sixteen pictures, whose files were written half a second one after the other."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(16):
        Image.new("RGB", (64, 48), (255, 0, 0)).save(folder / f"{number}.png")
        os.utime(folder / f"{number}.png", (1e9 + number / 2, 1e9 + number / 2))
    return folder


@pytest.mark.parametrize("name", CALLS)
def test_a_part_of_a_video_is_read_turned(name: str, video: Path, frames_of: Callable[..., Seen]) -> None:
    software = () if name == "export" else ("--decoder", "software")  # export's decoder makes text
    seen = frames_of(name, video, "--start", "0:03", "--duration", "3s", "--rotate", "90", *software)
    times, shapes = zip(*sorted(seen), strict=True)
    assert times[0] == 3 and 5.5 < times[-1] < 6 and set(shapes) == {(64, 48, 3)}


@pytest.mark.parametrize("name", CALLS)
def test_a_video_has_the_rate_that_is_given(name: str, video: Path, frames_of: Callable[..., Seen]) -> None:
    last = max(time for time, _ in frames_of(name, video, "--fps", "20"))
    assert 4 < last <= 4.45  # 90 pictures


@pytest.mark.parametrize("name", CALLS)
def test_images_have_the_times_of_their_files(name: str, images: Path, frames_of: Callable[..., Seen]) -> None:
    seen = frames_of(name, images, "--image-times", "file", "--start", "2")
    assert sorted(time for time, _ in seen) == [number / 2 for number in range(4, 16)]


def test_a_live_source_without_an_end_is_not_read_for_ever() -> None:
    class Camera(Source):
        period, live, shown = 0.1, True, "the camera"

        def frames(self) -> Iterator[Frame]:
            raise AssertionError("it was read")

    with pytest.raises(VljEdgeError, match=r"the camera.*--duration"):
        spread_clips(Camera(), None, None, 4)  # type: ignore[arg-type]  # they are not looked at


def test_options_for_sources_that_only_the_configuration_names_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", exc_type=ImportError)
    (tmp_path / "serve.toml").write_text('[[source]]\nname = "a"\nuri = "a.mp4"\n')
    done = run_here("serve", "--config", tmp_path / "serve.toml", "--start", "3")
    assert done.returncode == 2 and "SOURCE" in done.stderr


@pytest.mark.parametrize("call", [("verify",), ("export",)])
def test_a_part_of_nothing_is_a_wrong_call(call: tuple[str, ...]) -> None:
    done = run_here(*call, "--start", "3")
    wanted = {"verify": "--source", "export": "--calibrate-on"}[call[0]]
    assert done.returncode == 2 and wanted in done.stderr


def test_every_command_that_reads_a_video_reads_a_part_of_it() -> None:
    wanted, readers = {"--start", "--end", "--duration", "--fps", "--image-times", "--rotate", "--decoder"}, set()
    for name, command in cli.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        if options & {"source", "sources", "paths", "--source", "--calibrate-on"}:
            readers.add(name)
            assert wanted <= options, name  # the --decoder of export is another one
    assert readers == {
        "ask",
        "calibrate",
        "classify",
        "embed",
        "export",
        "index",
        "narrate",
        "profile",
        "serve",
        "verify",
    }
