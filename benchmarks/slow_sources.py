"""What a source slower than the clips costs: embeddings and texts of the demo at 3, 2, 1 and 0.5 frames a second.

python benchmarks/slow_sources.py      needs ffmpeg

Every window is encoded and decoded, once with the frames between blended (as vlj_edge does) and once with each frame
repeated, and compared with the same window of the demo as it is (8 frames a second).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, write

import vlj_edge
from vlj_edge import Frame, Model, Source

DEMO = ROOT / "examples" / "media" / "demo.mp4"
RATES = (3.0, 2.0, 1.0, 0.5)


class Repeated(Source):
    """The frames of a video, each repeated at four a second until the next."""

    period = 0.25

    def __init__(self, path: Path) -> None:
        self._source = vlj_edge.open_source(path)

    def frames(self) -> Iterator[Frame]:
        latest: Frame | None = None
        count = 0
        for frame in self._source:
            while latest is not None and count * self.period < frame.time - 1e-6:
                yield Frame(count * self.period, latest.image)
                count += 1
            latest = frame


def main() -> None:
    found: dict[str, Any] = {}
    with vlj_edge.load() as model, tempfile.TemporaryDirectory() as scratch:
        whole = every_window(model, lambda: vlj_edge.open_source(DEMO))
        for rate in RATES:
            slow = Path(scratch) / f"{rate:g}.mp4"
            command = ("ffmpeg", "-v", "error", "-i", DEMO, "-vf", f"fps={rate:g}", "-crf", "15", slow)
            subprocess.run(command, check=True)
            found[f"{rate:g} frames a second"] = {
                "blended": compare(whole, every_window(model, partial(vlj_edge.open_source, slow))),
                "repeated": compare(whole, every_window(model, partial(Repeated, slow))),
            }
    write("slow_sources.json", found, "python benchmarks/slow_sources.py")


def every_window(model: Model, opened: Callable[[], Source]) -> tuple[Any, list[str]]:
    """Return the embedding, float32 [windows, embedding], and the text of every window."""
    embeddings = np.stack([item.embedding for item in model.embed(opened(), every_window=True)])
    return embeddings, [event.text for event in model.narrate(opened(), every_window=True)]


def compare(whole: tuple[Any, list[str]], slow: tuple[Any, list[str]]) -> dict[str, float]:
    count = min(len(whole[1]), len(slow[1]))
    similarities = (whole[0][:count] * slow[0][:count]).sum(1)
    same = np.mean([text == other for text, other in zip(whole[1], slow[1], strict=False)])
    return {"windows": count, "cosine": round(float(similarities.mean()), 3), "same text": round(float(same), 3)}


if __name__ == "__main__":
    main()
