"""JPEGs found in data that comes in pieces."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.runtime.video.network.mjpeg import JpegSplitter


def jpeg(seed: int, **options: object) -> bytes:
    image = np.random.default_rng(seed).integers(0, 255, (40, 56, 3), np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(image).save(data, "JPEG", **options)
    return data.getvalue()


def with_thumbnail(seed: int) -> bytes:
    """A JPEG with another one in its EXIF segment."""
    outer, inner = jpeg(seed), b"Exif\0\0" + jpeg(seed + 1)
    return outer[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + outer[2:]


JPEGS = [
    jpeg(1),
    jpeg(2, progressive=True),
    jpeg(3, quality=95, subsampling=0),
    jpeg(4, restart_marker_blocks=2),
    with_thumbnail(5),
]


@given(
    st.lists(st.sampled_from(JPEGS), min_size=1, max_size=4),
    st.binary(max_size=40).filter(lambda raw: b"\xff" not in raw),
    st.integers(1, 3000),
)
def test_each_comes_whole_with_its_last_byte(jpegs: list[bytes], between: bytes, step: int) -> None:
    splitter, found, sent = JpegSplitter(), list[bytes](), between.join([b"", *jpegs])
    for at in range(0, len(sent), step):
        found += splitter.split(sent[at : at + step])
    assert found == jpegs and splitter.bad == 0


@given(st.integers(4, len(JPEGS[0]) - 1), st.integers(1, 3000))
def test_one_that_breaks_off_is_counted_and_the_next_comes(length: int, step: int) -> None:
    splitter, found, sent = JpegSplitter(), list[bytes](), JPEGS[2] + JPEGS[0][:length] + JPEGS[1] + JPEGS[2]
    for at in range(0, len(sent), step):
        found += splitter.split(sent[at : at + step])
    assert found[0] == JPEGS[2] and found[-1] == JPEGS[2] and len(found) <= 4
