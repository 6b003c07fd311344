"""A short soak. The long one is run by hand: python -m tests.soak --seconds 900."""

from __future__ import annotations

import sys

import pytest

from tests.needs import needs
from tests.runtime.sinks.broker import MOSQUITTO

pytest.importorskip("httpx", reason="needs httpx")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures the service as Linux counts it")
@pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt install mosquitto")
@needs("lancedb")
@needs("paho")
@needs("fastapi")
def test_a_service_outlives_every_fault() -> None:
    from tests.soak.soak import soak

    assert not soak(30, seed=1)["problems"]
