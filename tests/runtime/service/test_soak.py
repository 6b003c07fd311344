"""Soak tests: cameras at eight times real speed and sinks, with every kind of failure.

Memory, threads and files must not grow, and every text must be in the log exactly once. VLJ_EDGE_SOAK sets the seconds
of the long test. tests/soak does the same, in real time, to the real service and all that surrounds it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service import channel as channels
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.files import JsonLinesFile
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.webhook import Webhook
from vlj_edge.runtime.video.cameras import camera
from vlj_edge.runtime.video.cameras.camera import CameraSource, CameraState
from vlj_edge.runtime.video.cameras.camera_address import CameraAddress

SHORT, LONG = 10.0, float(os.environ.get("VLJ_EDGE_SOAK", "60"))

READER = """
import json, os, random, sys, time
import numpy as np
from vlj_edge.runtime.video.cameras.shared_frames import SharedFrames
frames, news, _ = SharedFrames(int(sys.argv[1])), int(sys.argv[2]), json.load(sys.stdin)
chance, began = random.Random(os.getpid()), time.monotonic()
os.write(news, b"open 8 0\\n")
colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0)]
while True:
    fault = chance.random()
    colour, size = colours[chance.randrange(3)], (chance.choice([24, 48, 64]), 64)
    for _ in range(chance.randrange(16, 80)):
        now = began + (time.monotonic() - began) * 8
        now -= 0.5 if fault > 0.97 and chance.random() < 0.2 else 0  # back in time
        frames.write(now, np.full((*size, 3), colour, np.uint8))
        os.write(news, b"f\\n")
        time.sleep(1 / 64)
    fault /= float(os.environ["FAULTS"])
    if fault < 0.04:
        time.sleep(600)  # it hangs
    elif fault < 0.08:
        os._exit(1)
    elif fault < 0.10:
        os.kill(os.getpid(), 11)
    elif fault < 0.14:
        frames.count_bad()
    elif fault < 0.16:
        os.write(news, b"end\\n")
        break
"""


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("seconds", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"])
def test_nothing_grows_and_nothing_is_lost(
    seconds: float, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(camera, "_LONGEST_PAUSE", 0.4)
    script = tmp_path / "reader.sh"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$READER" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("READER", READER)
    monkeypatch.setenv("FAULTS", "3" if seconds == SHORT else "1")  # so that each kind comes in a short time, too

    def open_source(uri: str, on_state: Callable[[CameraState], None], **_: object) -> CameraSource:
        address = CameraAddress(uri, uri)
        return CameraSource(address, stale=0.6, keep_trying=True, on_state=on_state, reader=[str(script)])

    monkeypatch.setattr(channels, "open_source", open_source)
    at_rest, answers = handles(), Answers()
    log = SinkQueue("log", JsonLinesFile(tmp_path / "log.jsonl", most_bytes=200_000, keep=10_000), retry=True)
    web = SinkQueue("web", Webhook(answers.address), capacity=64, retry=True, pauses=(0.05, 0.2))
    station = Station(Model(tiny_bundle), [SourceSettings(n, n) for n in "abc"], [log, web], keep_trying=True)
    station.start()
    seen: list[tuple[float, int, int]] = []
    begun = time.monotonic()
    counts = {name: channel.counts() for name, channel in station.channels.items()}
    while (now := time.monotonic() - begun) < seconds or (not all_had_faults(counts) and now < 10 * seconds):
        time.sleep(0.5)
        answers.failing = int(now) % 10 < 4  # gone for four seconds in ten
        counts = {name: channel.counts() for name, channel in station.channels.items()}
        if now > seconds / 3:
            gc.collect()
            seen.append((resident(), handles(), threading.active_count()))
    station.stop()
    answers.close()

    memory, files, threads = zip(*seen, strict=True)
    third, spare = len(seen) // 3, 1 if seconds == LONG else 10  # MB; caches still fill in the first seconds
    # What leaks stays, and moves the median; readers that happen to start together move only the largest value.
    assert median(memory[-third:]) < 1.03 * median(memory[:third]) + spare, "memory"
    assert median(files[-third:]) <= median(files[:third]) + 6, "handles"
    assert median(threads[-third:]) <= median(threads[:third]) + 3, "threads"
    gc.collect()
    assert handles() <= at_rest, "handles once all is stopped"
    assert all_had_faults(counts)
    lines = [json.loads(line) for path in tmp_path.glob("log.jsonl*") for line in path.read_text().splitlines()]
    for name, channel in station.channels.items():
        numbers = sorted(line["number"] for line in lines if line["source"] == name)
        last = channel.last_event
        assert last is not None and numbers == list(range(1, last.number + 1)), "each exactly once"
        assert channel.error is None
    state = web.state()
    assert state["delivered"] + state["missed"] == len(lines) and state["delivered"] > 0
    assert max(Counter(answers.got).values()) == 1


def all_had_faults(counts: dict[str, Any]) -> bool:
    """Whether every camera has failed, come back and been narrated."""
    return all(each["restarts"] > 1 and each["events"] > 3 for each in counts.values())


class Answers:
    """A server that takes what it is sent, or fails."""

    def __init__(self) -> None:
        self.failing, self.got = False, list[tuple[str, int]]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not outer.failing:
                    outer.got.append((event["source"], event["number"]))
                self.send_response(500 if outer.failing else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
