"""Lines about what fails again and again."""

from __future__ import annotations

import logging

import pytest

from vlj_edge.runtime.words.failures import Failures


@pytest.mark.parametrize(("failures", "counted"), [(1, "a call"), (2, "2 calls"), (12, "12 calls")])
def test_what_works_again_is_told_once_with_the_calls_that_failed(
    failures: int, counted: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = Failures(logging.getLogger("test"))
    with caplog.at_level(logging.INFO):
        for number in range(failures):
            told.add(f"no answer to request {number}")
        told.end("m")
        told.end("m")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and f"after {counted} without" in lines[1]
