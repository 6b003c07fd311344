"""The caption memory: bounded, and it returns only texts of embeddings that it holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.gating.windows import SIZE, at_angle, unit
from vlj_edge import bundle
from vlj_edge.runtime.gating.caption_memory import CaptionMemory


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80), st.integers(1, 8))
def test_memory_is_a_bounded_lru(steps: list[tuple[bool, int]], capacity: int) -> None:
    basis = np.eye(31, dtype=np.float32)
    memory = CaptionMemory(bundle.CaptionMemorySettings(same=0.97, capacity=capacity), 31)
    model: dict[int, str] = {}  # in order of use
    for number, (put, key) in enumerate(steps):
        known = memory.recall(basis[key])
        assert known == model.get(key)
        if known is not None:
            model[key] = model.pop(key)
        elif put:
            memory.put(basis[key], f"{key} {number}")
            model[key] = f"{key} {number}"
            if len(model) > capacity:
                del model[next(iter(model))]
        assert len(memory) == len(model) <= capacity


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.9, 0.97, 1.0]))
def test_what_was_put_is_recalled_and_nothing_below_the_threshold(seed: int, same: float) -> None:
    rng = np.random.default_rng(seed)
    memory = CaptionMemory(bundle.CaptionMemorySettings(same=same, capacity=64), SIZE)
    stored = [unit(rng.normal(size=SIZE)) for _ in range(20)]
    for index, embedding in enumerate(stored):
        memory.put(embedding, str(index))
    for index, embedding in enumerate(stored):
        assert memory.recall(embedding) == str(index)
    for _ in range(20):
        query = unit(rng.normal(size=SIZE) + stored[0] * rng.uniform(0, 20))
        similarities = np.array([query @ embedding for embedding in stored])
        if abs(similarities.max() - same) > 1e-5:
            wanted = str(similarities.argmax()) if similarities.max() >= same else None
            assert memory.recall(query) == wanted


def test_a_resting_picture_has_memories_of_its_own() -> None:
    memory = CaptionMemory(bundle.CaptionMemorySettings(same=0.99, same_at_rest=0.5), SIZE)
    memory.put(at_angle(0), "it moves", False)
    memory.put(at_angle(90), "nothing moves", True)
    assert memory.recall(at_angle(90), True) is None, "said once, it may be an error"
    memory.put(at_angle(89), "it moves", True)
    memory.put(at_angle(91), "nothing moves", True)
    memory.put(at_angle(88), "it moves", True)
    assert memory.recall(at_angle(90), True) is None, "two say this and two say that"
    memory.put(at_angle(92), "nothing moves", True)
    assert memory.recall(at_angle(40), True) == "nothing moves"  # cosine 0.64, though "it moves" is nearer
    assert memory.recall(at_angle(20), True) is None
    assert memory.recall(at_angle(85), False) is None
    assert memory.recall(at_angle(1), False) == memory.recall(at_angle(1)) == "it moves", "unwatched: it may move"


@pytest.mark.parametrize(
    "settings", [bundle.CaptionMemorySettings(enabled=False), bundle.CaptionMemorySettings(capacity=0)]
)
def test_memory_that_is_off_remembers_nothing(settings: bundle.CaptionMemorySettings) -> None:
    memory = CaptionMemory(settings, SIZE)
    memory.put(at_angle(0), "text")
    assert memory.recall(at_angle(0)) is None
    assert len(memory) == 0
