"""From an embedding to the tokens of a text, greedily."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .engine import Engine


def decode(engine: Engine, embedding: npt.NDArray[np.float32], end: int | None) -> tuple[list[int], int]:
    """Token ids of the text that the decoder engine makes of an embedding, and how often the engine ran for it.

    Position 0 of the decoder's sequence is the prefix that it makes of the embedding; the choice made there is the
    first token. The caches are not cleared between texts: the engine masks whatever lies beyond the position.

    Args:
        embedding: float32 [embedding], unit length.
        end: the id that ends a text and is not part of it; without it, or if it does not come, the text is as long as
            the key-value cache.
    """
    token, position = engine.inputs["token"], engine.inputs["position"]
    chosen = engine.outputs["next_token"]
    capacity = engine.inputs["key_cache_0"].shape[2]
    engine.inputs["embedding"][0] = embedding
    token[0, 0] = 0  # ignored at position 0
    ids: list[int] = []
    for step in range(capacity):
        position[0] = step
        engine.run()
        if chosen[0, 0] == end:
            return ids, step + 1
        ids.append(int(chosen[0, 0]))
        token[0, 0] = chosen[0, 0]
    return ids, capacity
