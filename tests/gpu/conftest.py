"""The tests in this folder need an NVIDIA GPU and are skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt.device import Device, driver_found, open_device


@pytest.fixture(scope="session")
def card() -> Device:
    if not driver_found():
        pytest.skip("no NVIDIA driver is installed")
    try:
        return open_device()
    except VljEdgeError as error:
        pytest.skip(str(error))
