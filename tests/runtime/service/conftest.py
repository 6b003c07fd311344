"""Fixtures of the station's tests."""

from __future__ import annotations

import pytest

from vlj_edge.runtime.service import channel as channels
from vlj_edge.runtime.video.source import Source


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Sources by URI, in place of those that open_source() makes."""
    made: dict[str, Source] = {}
    real = channels.open_source
    monkeypatch.setattr(channels, "open_source", lambda uri, **how: made.get(uri) or real(uri, **how))
    return made
