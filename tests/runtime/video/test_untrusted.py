"""Videos that are made to take memory or time: none of them takes either, in this process or in a reader's."""

from __future__ import annotations

import resource
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.films import ffmpeg, needs_ffmpeg
from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.recordings.untrusted import UntrustedFile
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.video.uri import open_source

pytestmark = needs_ffmpeg


def untrusted(path: Path, seconds: float = 60.0, closing: threading.Event | None = None) -> UntrustedFile:
    return UntrustedFile(path, "the clip", time.monotonic() + seconds, closing or threading.Event())


def box(kind: bytes, *content: bytes) -> bytes:
    inner = b"".join(content)
    return struct.pack(">I4s", 8 + len(inner), kind) + inner


def replace_box(raw: bytes, kind: bytes, content: bytes) -> bytes:
    """An MP4 with another content in its first box of this kind; the boxes that hold it grow with it."""
    at = raw.index(kind) - 4
    size = int.from_bytes(raw[at : at + 4], "big")
    new = bytearray(raw[:at] + box(kind, content) + raw[at + size :])
    for holder in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        begin = raw.index(holder) - 4
        struct.pack_into(">I", new, begin, int.from_bytes(raw[begin : begin + 4], "big") + 8 + len(content) - size)
    return bytes(new)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "small.mp4"
    return ffmpeg(path, "-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=2", "-pix_fmt", "yuv420p", "-threads", "1")


MANY = 160_000_000


def many_samples(raw: bytes) -> bytes:
    raw = replace_box(raw, b"stts", struct.pack(">IIII", 0, 1, MANY, 512))
    return replace_box(raw, b"stsz", struct.pack(">III", 0, 1, MANY))


def many_in_a_fragment(raw: bytes) -> bytes:
    header = box(b"tfhd", struct.pack(">IIIII", 0x18, 1, 512, 1, 0))
    return raw + box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", header, box(b"trun", struct.pack(">II", 0, MANY))))


@pytest.mark.parametrize("make", [many_samples, many_in_a_fragment])
def test_samples_that_a_file_only_states_take_no_memory(
    film: Path, tmp_path: Path, make: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "many.mp4"
    path.write_bytes(make(film.read_bytes()))
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before = [resource.getrusage(who).ru_maxrss for who in kinds]
    with pytest.raises(VljEdgeError, match=r"many\.mp4.*1600000"):
        open_source(path)
    try:
        with untrusted(path) as source:
            assert sum(1 for _ in source) <= 20
    except VljEdgeError as error:
        assert "the clip" in str(error)
    for who, earlier in zip(kinds, before, strict=True):
        assert resource.getrusage(who).ru_maxrss < max(earlier + 300_000, 1_500_000), "kB"


def test_an_ordinary_file_is_read_alike_by_both(film: Path) -> None:
    with open_source(film) as expected, untrusted(film) as source:
        assert source.period == pytest.approx(expected.period)
        for found, wanted in zip(source, expected, strict=True):
            assert found.time == pytest.approx(wanted.time) and (found.image == wanted.image).all()
        assert source.incomplete is None and source.seconds == pytest.approx(expected.seconds)


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 whose pictures become 8192x4608 after two seconds."""
    folder = tmp_path_factory.mktemp("growing")
    encode = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-f", "mpegts")
    small = ffmpeg(folder / "small.ts", "-f", "lavfi", "-i", "testsrc=s=320x240:r=10:d=2", *encode)
    large = ffmpeg(folder / "large.ts", "-f", "lavfi", "-i", "color=red:s=8192x4608:r=10:d=0.1", *encode)
    (folder / "grows.ts").write_bytes(small.read_bytes() + large.read_bytes())
    return folder / "grows.ts"


@pytest.mark.parametrize("opened", [open_source, untrusted])
def test_pictures_that_grow_are_not_decoded(growing: Path, opened: Callable[[Path], Source]) -> None:
    with opened(growing) as source:
        sizes = {frame.image.shape for frame in source}
    assert sizes == {(240, 320, 3)}


@pytest.mark.parametrize("opened", [open_source, untrusted])
def test_pictures_that_are_too_large_are_refused(growing: Path, opened: Callable[[Path], Source]) -> None:
    with pytest.raises(VljEdgeError, match="8192x4608"):
        opened(growing.with_name("large.ts"))


def test_a_playlist_opens_nothing(film: Path, tmp_path: Path) -> None:
    entry = f"#EXTINF:2,\nfile://{film}\n#EXT-X-ENDLIST\n"
    for name, text in (
        ("a.avi", f"#EXTM3U\nAVI \n#EXT-X-TARGETDURATION:2\n{entry}"),
        ("b.mp4", f"ffconcat version 1.0\nfile '{film}'\n"),
        ("c.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{entry}"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(VljEdgeError, match="the clip"):
            untrusted(tmp_path / name)


def test_reading_ends_at_the_deadline(film: Path) -> None:
    with pytest.raises(TimeoutError), untrusted(film, seconds=2) as source:
        for _ in source:
            time.sleep(0.3)


def test_reading_ends_when_the_server_does(film: Path) -> None:
    closing = threading.Event()
    with untrusted(film, closing=closing) as source, pytest.raises(TimeoutError):
        for _ in source:
            closing.set()


@pytest.mark.parametrize(
    "code",
    ["bytearray(3 << 30)", "while True: pass"],
)
def test_a_reader_that_takes_too_much_ends_with_one_line(film: Path, code: str) -> None:
    program = "import sys; from vlj_edge.child import limit_this_process; limit_this_process(1 << 29, 1)\n" + code
    reader = [sys.executable, "-c", program]
    with pytest.raises(VljEdgeError, match="the clip takes more memory or time"):
        UntrustedFile(film, "the clip", time.monotonic() + 60, threading.Event(), reader)


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="not Linux")
def test_readers_are_the_first_to_go_and_their_memory_is_limited(film: Path) -> None:
    with untrusted(film) as source:
        process = Path(f"/proc/{source._reader._process.pid}")
        assert int((process / "oom_score_adj").read_text()) >= 500
        limits = (process / "limits").read_text()
    assert f"Max data size             {1 << 30}" in limits
