"""Files that a user names as text are read only if they are files, and no large ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlj_edge.bundle import GateSettings
from vlj_edge.bundle.gate_profile import read_gate_profile
from vlj_edge.errors import VljEdgeError
from vlj_edge.regular_file import MOST_TEXT
from vlj_edge.runtime.calibration.events import read_events
from vlj_edge.runtime.service.config import read_config
from vlj_edge.text_list import read_texts

READERS: dict[str, Callable[[Path], Any]] = {
    "gates": lambda path: read_gate_profile(path, GateSettings()),
    "events": read_events,
    "labels": lambda path: read_texts(str(path), "label"),
    "configuration": read_config,
}


@pytest.mark.parametrize("name", READERS)
def test_a_huge_file_is_refused_without_reading_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(30 * MOST_TEXT)  # sparse: no disk is used
    with pytest.raises(VljEdgeError, match=r"huge has 3000 MB, and at most 100 MB are read"):
        READERS[name](path)


def test_a_text_has_a_bounded_length(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a door\n" + "x" * 10_001 + "\n")
    with pytest.raises(VljEdgeError, match=r"labels\.txt, line 2, has 10001 letters"):
        read_texts(str(tmp_path / "labels.txt"), "label")
