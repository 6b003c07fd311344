"""Marks for tests that need a package which the test file itself does not import: a command that they run does."""

from __future__ import annotations

import importlib.util

import pytest


def needs(package: str) -> pytest.MarkDecorator:
    """Skip the test if that package is not installed. It is looked for, not imported."""
    found = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")
