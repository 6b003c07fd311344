"""From a picture to an image as a player shows it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vlj_edge.runtime.video.decoding.picture import _display_matrix, _displayed


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("entry", [2**31 - 1, -(2**31)])
def test_a_display_matrix_may_hold_any_numbers(entry: int) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    step = 1 if entry > 0 else -1
    picture = SimpleNamespace(side_data={"DISPLAYMATRIX": np.full(9, entry, np.int32).tobytes()})
    matrix = _display_matrix(picture)
    assert matrix is not None
    assert (_displayed(image, matrix) == image[::step, ::step]).all()
