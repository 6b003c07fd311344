"""Folders of images: their order, their times, their pixels, and those that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from vlj_edge import VljEdgeError, open_source

RED = (250, 130, 10)


def write(path: Path, grey: int = 0, taken: str | None = None, fraction: str | None = None) -> None:
    exif = PIL.Image.Exif()
    if taken is not None:
        exif.get_ifd(0x8769).update({36867: taken} | ({37521: fraction} if fraction else {}))
    PIL.Image.new("RGB", (8, 6), (grey,) * 3).save(path, exif=exif)


def times(folder: Path, **options: object) -> list[tuple[float, int]]:
    with open_source(folder, **options) as source:  # type: ignore[arg-type]
        return [(round(frame.time, 3), int(frame.image[0, 0, 0])) for frame in source]


def test_images_come_in_natural_order_at_four_a_second_or_the_rate_given(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100):
        write(tmp_path / f"frame{number}\N{SUPERSCRIPT TWO}.png", number)
    write(tmp_path / ".hidden.png")
    (tmp_path / "folder.png").mkdir()
    assert times(tmp_path) == [(0, 1), (0.25, 9), (0.5, 10), (0.75, 100)]
    assert times(tmp_path, frames_per_second=8) == [(0, 1), (0.125, 9), (0.25, 10), (0.375, 100)]
    assert times(tmp_path, start=0.25, end=0.75) == [(0.25, 9), (0.5, 10)]
    with pytest.raises(VljEdgeError, match=r"0\.75 s"):
        times(tmp_path, start=5)


def test_images_can_have_the_times_of_their_files_or_of_their_exif_data(tmp_path: Path) -> None:
    for number, (modified, taken, fraction) in enumerate(
        [(1000, "2024:05:01 10:00:02", "5"), (1060, "2024:05:01 10:00:00", None), (1120.5, "2024:05:01 10:00:10", "")]
    ):
        path = tmp_path / f"{number}.jpg"
        write(path, number * 100, taken, fraction)
        os.utime(path, (0, modified))
    assert times(tmp_path, image_times="file") == [(0, 0), (60, 100), (120.5, 200)]
    assert times(tmp_path, image_times="exif") == [(0, 100), (2.5, 0), (10, 200)]
    write(tmp_path / "3.png")
    with pytest.raises(VljEdgeError, match=r"3\.png has no time in its EXIF"):
        times(tmp_path, image_times="exif")
    for path in tmp_path.iterdir():
        os.utime(path, (0, 5))
    with pytest.raises(VljEdgeError, match="cp -p"):
        times(tmp_path, image_times="file")


@pytest.mark.parametrize("bad", [(0,), (2,), (0, 1, 3)])
def test_images_that_cannot_be_read_are_named_and_left_out(
    bad: tuple[int, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        path = tmp_path / f"{number}.png"
        write(path, number)
        if number in bad:
            path.write_bytes(path.read_bytes()[:45] if number else b"no image")
    source = open_source(tmp_path)
    assert [frame.time for frame in source] == [0.25 * number for number in range(4) if number not in bad]
    assert source.incomplete is not None and source.incomplete.startswith(f"{len(bad)} of 4 ")
    assert [f"{number}.png" in message for number, message in zip(bad, caplog.messages, strict=True)]


def test_a_folder_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(VljEdgeError, match=r"none of the 2 images.*2\.png"):
        open_source(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"1")
    with pytest.raises(VljEdgeError, match=r"holds no images.*videos/\*\.mp4"):
        open_source(tmp_path / "videos")


def rotated(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[:, :4] = RED
    PIL.Image.fromarray(picture).save(path, exif=exif)


def converted(mode: str) -> Callable[[Path], None]:
    return lambda path: PIL.Image.new("RGB", (8, 6), RED).convert(mode).save(path)


def sixteen_bits(path: Path) -> None:
    PIL.Image.fromarray(np.full((6, 8), 200 * 257, np.uint16)).save(path)


@pytest.mark.parametrize(
    "name, make, colour",
    [
        ("a.png", rotated, RED),
        ("a.png", converted("RGBA"), RED),
        ("a.png", converted("P"), RED),
        ("a.gif.png", converted("L"), (152,) * 3),
        ("a.jpg", converted("CMYK"), RED),
        ("a.tif", converted("CMYK"), RED),
        ("a.png", converted("LA"), (152,) * 3),
        ("a.png", sixteen_bits, (200,) * 3),
        ("a.tif", sixteen_bits, (200,) * 3),
        ("a.pgm", sixteen_bits, (200,) * 3),
        ("a.ppm", converted("RGB"), RED),
        ("a.webp", converted("RGBA"), RED),
        ("a.bmp", converted("RGB"), RED),
    ],
)
def test_pixels_are_those_that_a_viewer_shows(
    name: str, make: Callable[[Path], None], colour: tuple[int, int, int], tmp_path: Path
) -> None:
    make(tmp_path / name)
    [frame] = list(open_source(tmp_path / name))
    assert frame.image.dtype == np.uint8 and frame.image.shape == ((8, 6, 3) if make is rotated else (6, 8, 3))
    assert np.abs(np.subtract(frame.image[0, 0, ::-1], colour, dtype=int)).max() <= (25 if name == "a.png" else 12)


def _animated(path: Path) -> Path:
    pictures = [PIL.Image.new("RGB", (64, 48), (40 * number, 0, 0)) for number in range(5)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=250)
    return path


def test_an_animated_png_is_a_video(tmp_path: Path) -> None:
    with open_source(_animated(tmp_path / "x.png")) as source:
        assert len(list(source)) == 5


def test_an_animated_webp_is_not_taken_for_one_picture(tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match=r"x\.webp.*animated.*GIF"):
        open_source(_animated(tmp_path / "x.webp"))
