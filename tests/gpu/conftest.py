"""Everything here needs an NVIDIA card, and skips itself with the reason where there is none."""

from __future__ import annotations

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt.device import Device, driver_found, open_device


@pytest.fixture(scope="session")
def card() -> Device:
    if not driver_found():
        pytest.skip("there is no NVIDIA driver here")
    try:
        return open_device()
    except VljEdgeError as error:
        pytest.skip(str(error))
