"""Shared frames: a reader gets complete frames only, also if the writer is killed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from vlj_edge.runtime.video.cameras.shared_frames import MOST_PIXELS, SharedFrames, create_shared_memory


def test_the_newest_frame_is_read() -> None:
    descriptor = create_shared_memory()
    writer, reader = SharedFrames(descriptor), SharedFrames(descriptor)
    os.close(descriptor)
    assert reader.read_newest(0) is None
    for number in range(1, 9):
        shape = (4 + number, 3, 3)  # the size may change at any time
        writer.write(number / 10, np.full(shape, number, np.uint8))
        found = reader.read_newest(number - 1)
        assert found is not None and (found.number, found.time, found.image.shape) == (number, number / 10, shape)
        assert (found.image == number).all()
        assert reader.read_newest(number) is None
    writer.count_bad()
    assert reader.bad == 1
    writer.close()
    reader.close()


@pytest.mark.parametrize("number", range(2, 8))
def test_an_incomplete_frame_is_not_read(number: int) -> None:
    """A writer that is killed in the middle of a frame leaves the one before it as the newest."""
    descriptor = create_shared_memory()
    writer, reader = SharedFrames(descriptor), SharedFrames(descriptor)
    os.close(descriptor)
    for before in range(1, number):
        writer.write(before / 10, np.full((4, 4, 3), before, np.uint8))
    state = bytes(writer._memory[:64])
    writer.write(number / 10, np.full((4, 4, 3), 255, np.uint8))
    writer._memory[:64] = state  # not updated: that comes last
    at = 64 + number % 3 * (64 + MOST_PIXELS * 3)
    writer._memory[at + 24 : at + 32] = bytes(8)  # nor is the number after the pixels
    found = reader.read_newest(0)
    assert found is not None and found.number == number - 1 and (found.image == number - 1).all()
    writer.close()
    reader.close()


def test_no_frame_is_torn_while_another_process_writes() -> None:
    descriptor = create_shared_memory()
    program = (
        "import sys, numpy as np; from vlj_edge.runtime.video.cameras.shared_frames import SharedFrames;"
        "frames = SharedFrames(int(sys.argv[1]));"
        "[frames.write(0.0, np.full((240, 320, 3), n % 251, np.uint8)) for n in range(20000)]"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(descriptor)], pass_fds=[descriptor]) as writer:
        reader, count, last = SharedFrames(descriptor), 0, 0
        while writer.poll() is None:
            found = reader.read_newest(last)
            if found is not None:
                assert (found.image == found.image[0, 0, 0]).all() and found.number > last
                last, count = found.number, count + 1
    assert count > 20
    reader.close()
    os.close(descriptor)
