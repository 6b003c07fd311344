"""The engines from pixels to the embedding, one or two."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import PREDICTOR

from .engines.base import Engine
from .video.preprocess import Preprocessor

Query: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]  # token ids and mask, each [1, length]


class Vision(NamedTuple):
    """From frames to embeddings.

    Attributes:
        predictor: its input is the encoder's visual tokens: the same memory. None: the encoder's output is the
            embedding itself, and the model takes no query.
    """

    encoder: Engine
    preprocessor: Preprocessor
    predictor: Engine | None

    @property
    def engines(self) -> dict[str, Engine]:
        """By name, in the order in which they run."""
        engines = {"vision_encoder": self.encoder}
        return engines if self.predictor is None else engines | {PREDICTOR: self.predictor}

    @property
    def last(self) -> Engine:
        """The engine whose output is the embedding."""
        return self.encoder if self.predictor is None else self.predictor

    def set_query(self, query: Query | None) -> None:
        """Write the query's tokens, if the model takes one, into the predictor's inputs."""
        if self.predictor is not None and query is not None:
            self.predictor.inputs["query_ids"][...], self.predictor.inputs["query_mask"][...] = query

    def keep_tokens(self, kept: npt.NDArray[np.int64]) -> None:
        """Give the engines a part of the clip's tokens from now on (Engine.keep_tokens)."""
        for engine in self.engines.values():
            engine.keep_tokens(kept)

    def run(self) -> None:
        """Run the engines on what their inputs hold."""
        for engine in self.engines.values():
            engine.run()
