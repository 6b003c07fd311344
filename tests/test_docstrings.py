"""The examples in docstrings give the output shown. Those of the public classes are run in test_public_api.py."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["errors", "schema"])
def test_examples_in_docstrings_give_what_they_show(name: str) -> None:
    done = doctest.testmod(importlib.import_module(f"vlj_edge.{name}"))
    assert done.attempted and not done.failed
