"""HLS over http, and what a playlist may name."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.cameras.camera import CameraSource
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.uri import open_source

from .http_films import FFMPEG
from .media_server import MediaServer

pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")


def segments(folder: Path, *options: str) -> Path:
    pictures = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=4"]
    cut = ["-c:v", "mpeg2video", "-g", "25", "-hls_time", "1", "-hls_list_size", "0", *options]
    subprocess.run([str(FFMPEG), "-loglevel", "error", *pictures, *cut, folder / "film.m3u8"], check=True)
    return folder


def test_hls(media: MediaServer, tmp_path: Path) -> None:
    segments(tmp_path)
    media.files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    media.files["best.m3u8"] = (
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=16x12\nnowhere.m3u8\n"
        b"#EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=1,BANDWIDTH=90000,RESOLUTION=160x120\nfilm.m3u8\n"
    )
    for name in ("film.m3u8", "best.m3u8"):
        with closing(open_source(f"{media.url}/plain/{name}", keep_trying=True)) as source:
            assert isinstance(source, VideoFile) and len(list(source)) == 100 and source.incomplete is None
    assert media.paths().count("/plain/film0.ts") == 2
    with closing(open_source(f"{media.url}/to//plain/film.m3u8", start=2.0)) as source:
        assert next(iter(source)).time == pytest.approx(2.0, abs=0.05)
    media.files["live.m3u8"] = media.files["film.m3u8"].replace(b"#EXT-X-ENDLIST", b"")
    with closing(open_source(f"{media.url}/plain/live.m3u8")) as source:
        assert isinstance(source, CameraSource)
        times = [frame.time for frame in islice(source, 12)]
    assert np.diff(times).max() < 0.5 and np.diff(times).min() > 0.01, "not in bursts"


@pytest.mark.parametrize(
    "form",
    [
        "file://{0}",
        "{0}",
        "concat:{0}",
        "subfile,,start,0,end,0,,:{0}",
        "crypto:{0}",
        "crypto+file://{0}",
        "data:text/plain,a",
        "pipe:0",
        "tcp://127.0.0.1:9",
        "../../../../../../../..{0}",
    ],
)
@pytest.mark.parametrize("what", ["segment", "variant", "key", "map", "concat", "sdp"])
def test_nothing_remote_reaches_a_file(media: MediaServer, tmp_path: Path, form: str, what: str) -> None:
    """What a playlist names is a FIFO: to open it would wait for ever, and be seen by whoever writes to it."""
    fifo = tmp_path / "secret.ts"
    os.mkfifo(fifo)
    place = form.format(fifo)
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="{place}"\n' if what == "key" else ""
    part = f'#EXT-X-MAP:URI="{place}"\n' if what == "map" else ""
    media.files["a.m3u8"] = {
        "variant": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{place}\n",
        "concat": f"ffconcat version 1.0\nfile '{place}'\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={place}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 26\n",
    }.get(what, f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{key}{part}#EXTINF:1,\n{place}\n#EXT-X-ENDLIST\n").encode()
    opened = []

    def watch() -> None:
        with fifo.open("wb"):
            opened.append(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with pytest.raises(VljEdgeError) as caught:
        open_source(f"{media.url}/plain/a.m3u8")
    assert "\n" not in str(caught.value) and not opened
    os.close(os.open(fifo, os.O_RDONLY))  # lets the watcher go
    watcher.join(60)


@pytest.mark.parametrize("name", ["a.m3u8", "a.ffconcat", "a.sdp", "a.mp4"])
def test_a_local_playlist_does_not_reach_the_network(media: MediaServer, tmp_path: Path, name: str) -> None:
    address = f"{media.url}/plain/film.ts"
    (tmp_path / name).write_text(
        {
            "a.ffconcat": f"ffconcat version 1.0\nfile '{address}'\n",
            "a.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{address}\n"
            "m=video 9 RTP/AVP 26\n",
        }.get(name, f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n")
    )
    with pytest.raises(VljEdgeError, match=name):
        open_source(tmp_path / name)
    assert not media.asked
