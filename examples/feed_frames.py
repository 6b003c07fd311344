"""Narrate frames that a program already has, such as those of a robot, a simulator or a camera's own library.

python examples/feed_frames.py VIDEO      stands for them: any video
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

import vlj_edge


def frames(path: str) -> Iterator[tuple[float, np.ndarray]]:
    """Your own loop: the time of each frame, seconds, and its image, uint8 [height, width, 3], BGR."""
    with vlj_edge.open_source(path) as source:
        for frame in source:
            yield frame.time, frame.image


def main(path: str) -> None:
    with vlj_edge.load() as model:
        for event in model.narrate(frames(path)):
            print(f"{event.centre:5.1f} s  {event.text}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except vlj_edge.VljEdgeError as error:
        sys.exit(f"error: {error}")
