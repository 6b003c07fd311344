"""The tiny preset, exported once for all export tests of a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def exported(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """exported("fp32" or "fp16") -> the Exported of the preset TINY; its bundle is for reading only."""
    from tests.export.tiny_weights import TINY
    from vlj_edge.export.bundle import Exported, export_bundle
    from vlj_edge.export.request import ExportRequest
    from vlj_edge.export.weights.locations import WeightSources

    @cache
    def export(precision: str) -> Exported:
        out = tmp_path_factory.mktemp("exported") / precision
        chosen = None if precision == "fp32" else precision  # None: the default, with text encoder weights of int8
        return export_bundle(ExportRequest(WeightSources(tiny_weights), TINY, out, precision=chosen, command="test"))

    return export
