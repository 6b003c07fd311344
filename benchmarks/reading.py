"""CPU time and memory of reading a recording for samples at 4 a second: OpenCV, and vlj-edge's reader.

python benchmarks/reading.py      needs ffmpeg

Recordings: 1080p30 H.264 (a moving test picture with noise, x264's preset medium), and the demo. Each way of reading
runs in a process of its own, in alternating order. CPU time is compared, which other programs disturb little. All show
the same frames: the benchmark fails if the times of any two differ by more than a millisecond.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from math import ceil
from pathlib import Path
from typing import Any

from common import ROOT, ratio, write

from vlj_edge import Frame
from vlj_edge.runtime.video.cameras.opencv import import_opencv
from vlj_edge.runtime.video.recordings.files import VideoFile

DEMO = ROOT / "examples" / "media" / "demo.mp4"
RATE = 4.0  # samples a second
ROUNDS = 7
SECONDS = 20
MADE = f"testsrc2=s=1920x1080:r=30:d={SECONDS},noise=alls=4:allf=t"


def opencv(path: Path) -> list[float]:
    """Decode every frame and convert those that a sample shows, as vlj-edge did before it read by PyAV."""
    cv2 = import_opencv()
    capture, times = cv2.VideoCapture(str(path)), []
    period = 1 / capture.get(cv2.CAP_PROP_FPS)
    while capture.grab():
        now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if ceil(now * RATE - 1e-3) / RATE < now + period - 1e-3:
            _, image = capture.retrieve()
            assert image.shape
            times.append(now)
    return times


def every_frame(path: Path) -> list[float]:
    """Decode every frame and convert those that a sample shows."""
    with VideoFile(path) as source:
        return sampled(source)


def sampled_only(path: Path) -> list[float]:
    """Decode what the samples need: how every command of vlj-edge reads."""
    with VideoFile(path, sampled_at=RATE) as source:
        return sampled(source)


def sampled(frames: Iterable[Frame]) -> list[float]:
    """Return the times of the frames that samples show, each the latest at its sample's time."""
    times: list[float] = []
    latest, due = None, 0.0
    for frame in frames:
        if latest is not None and frame.time > due + 1e-3:
            assert latest.image.shape
            times.append(latest.time)
            due = ceil(frame.time * RATE - 1e-3) / RATE
        latest = frame
    if latest is not None and latest.time >= due - 1e-3:
        assert latest.image.shape
        times.append(latest.time)
    return times


WAYS: dict[str, Callable[[Path], list[float]]] = {
    "opencv": opencv,
    "vlj-edge, every frame": every_frame,
    "vlj-edge": sampled_only,
}


def main() -> None:
    if len(sys.argv) == 3:
        measure(WAYS[sys.argv[1]], Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "1080p30.mp4"
        encode = ("-c:v", "libx264", "-preset", "medium", "-pix_fmt", "yuv420p")
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", MADE, *encode, made], check=True)
        found = {
            "1080p30 H.264": {"megabits_a_second": round(made.stat().st_size * 8e-6 / SECONDS, 1), **compare(made)},
            "demo": compare(DEMO),
        }
    print(json.dumps(found, indent=1))
    write("reading.json", found, "python benchmarks/reading.py")


def compare(path: Path) -> dict[str, Any]:
    """Read a recording in every way, in turn."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    for number in range(ROUNDS):
        for name in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            command = [sys.executable, __file__, name, str(path)]
            runs[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    shown = [run[0]["times"] for run in runs.values()]
    apart = max(abs(a - b) for other in shown[1:] for a, b in zip(shown[0], other, strict=True))
    assert apart < 1e-3, apart
    minutes = len(shown[0]) / RATE / 60
    found: dict[str, Any] = {"samples": len(shown[0]), "times_apart_ms": round(apart * 1e3, 3)}
    for name, each in runs.items():
        cpu = statistics.median(run["cpu"] for run in each)
        found[name] = {
            "cpu_seconds_a_minute": round(cpu / minutes, 3),
            "peak_megabytes": round(statistics.median(run["megabytes"] for run in each), 1),
        }
    theirs = [run["cpu"] for run in runs["opencv"]]
    for name in list(WAYS)[1:]:
        found[f"opencv over {name}"] = ratio(theirs, [run["cpu"] for run in runs[name]])
    return found


def measure(read: Callable[[Path], list[float]], path: Path) -> None:
    """Print what one reading took, without imports, and the peak of the whole process."""
    import_opencv()
    with VideoFile(DEMO):  # imports PyAV
        started = time.process_time()
        times = read(path)
        cpu = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": cpu, "megabytes": peak, "times": times}))


if __name__ == "__main__":
    main()
