"""Helpers that damage a bundle's manifest and return the resulting error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlj_edge import VljEdgeError
from vlj_edge.bundle import MANIFEST


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as somebody with an editor could."""
    raw = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    change(raw)
    (bundle / MANIFEST).write_text(json.dumps(raw), encoding="utf-8")


def refusal(check: Callable[[], object]) -> str:
    """The one line with which something is refused."""
    with pytest.raises(VljEdgeError) as caught:
        check()
    message = str(caught.value)
    assert message.isprintable(), "more than one line, or control characters"
    assert ": " in message, "says nothing of what to do"
    return message
