"""Cameras whose reader processes hang, crash, end, or come late."""

from __future__ import annotations

from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path

import pytest

from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.cameras.camera import CameraState

from .fake_camera import fake_camera

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_a_reader_that_hangs_is_replaced(tmp_path: Path) -> None:
    states: list[CameraState] = []
    source = fake_camera(tmp_path, "frames(3); time.sleep(600)", on_state=states.append)
    with closing(source):
        frames = list(islice(source, 7))
    assert source.restarts >= 1 and states[:3] == ["live", "lost", "live"]
    assert {int(frame.image[0, 0, 0]) // 10 for frame in frames} >= {0, 1}
    assert all(a.time < b.time for a, b in pairwise(frames))
    assert frames[0].image.shape == (4, 6, 3) and source.period == pytest.approx(0.02)


@pytest.mark.parametrize("program", ["frames(4)", "frames(4); os._exit(3)", "frames(4); os.kill(os.getpid(), 11)"])
def test_a_source_that_ends_is_opened_again(tmp_path: Path, program: str) -> None:
    source = fake_camera(tmp_path, program)
    with closing(source):
        seen = {int(frame.image[0, 0, 0]) // 10 for frame in islice(source, 9)}
    assert len(seen) >= 2 and source.incomplete is None


def test_a_source_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    source = fake_camera(tmp_path, "frames(99) if tries > 2 else None", keep_trying=True)
    with closing(source):
        assert int(next(iter(source)).image[0, 0, 0]) >= 30
    with pytest.raises(VljEdgeError, match=r"camera X.*look"):
        fake_camera(tmp_path / "..", "None", opening=0.5)


def test_a_slow_consumer_gets_the_newest_frame(tmp_path: Path) -> None:
    source = fake_camera(tmp_path, "frames(40, 0.005); open(counter + '.done', 'w'); time.sleep(600)", stale=60)
    with closing(source):
        frames = iter(source)
        next(frames)
        wait_for((tmp_path / "tries.done").exists, 120)
        assert int(next(frames).image[0, 0, 0]) == 39
        assert 0 < source.dropped <= 38
