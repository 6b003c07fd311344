"""Images that are turned, whatever source they come from."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.uri import open_source

from .fake_camera import fake_camera

IMAGE = np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8)
TURNED = {
    90: PIL.Image.Transpose.ROTATE_270,  # Pillow turns counterclockwise
    180: PIL.Image.Transpose.ROTATE_180,
    270: PIL.Image.Transpose.ROTATE_90,
}


def turned(image: np.ndarray, degrees: int) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(image).transpose(TURNED[degrees])) if degrees else image


def write_video(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=4, width=16, height=12, pix_fmt="bgr24")
        for shift in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(IMAGE, shift), format="bgr24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_files_and_images_are_turned_clockwise(tmp_path: Path, degrees: int) -> None:
    PIL.Image.fromarray(IMAGE[..., ::-1]).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", write_video(tmp_path / "a.nut")):
        with closing(open_source(source, rotate=degrees)) as opened:
            frame = next(iter(opened))
        assert np.array_equal(frame.image, turned(IMAGE, degrees))
        assert frame.image.flags.c_contiguous


def test_a_camera_is_turned(tmp_path: Path) -> None:
    with closing(fake_camera(tmp_path, "frames(3)")) as source:
        source.rotate = 90
        assert next(iter(source)).image.shape == (6, 4, 3)


def test_a_wrong_angle_is_one_line(tmp_path: Path) -> None:
    for angle in (45, -90, 360):
        with pytest.raises(VljEdgeError, match=f"{angle}"):
            open_source(write_video(tmp_path / "a.nut"), rotate=angle)
