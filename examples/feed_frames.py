"""Narrate frames that a program already has, such as those of a robot, a simulator or a camera's own library."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

import vlj_edge


def frames(path: str) -> Iterator[tuple[float, np.ndarray]]:
    """Your own loop, for which a video stands here: (seconds, uint8 [height, width, 3], BGR)."""
    with vlj_edge.open_source(path) as source:
        for frame in source:
            yield frame.time, frame.image


if len(sys.argv) != 2:
    print("usage: feed_frames.py VIDEO (whose frames stand for your own)", file=sys.stderr)
    sys.exit(2)

try:
    with vlj_edge.load() as model:
        for event in model.narrate(frames(sys.argv[1])):
            print(f"{event.begins:6.1f} s  {event.text}", flush=True)
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
