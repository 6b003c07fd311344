from __future__ import annotations

import pytest

from vlj_edge.runtime.video.cameras import camera


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras that are lost are tried again soon."""
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(camera, "_LONGEST_PAUSE", 0.2)
