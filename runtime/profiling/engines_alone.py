"""Time each engine of a bundle by itself, with inputs made for it: no source, no gates, no other engine beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlj_edge.bundle import KEPT, EngineSpec

from ..engines.base import Array, Engine, open_engine
from ..model import Model
from .stages import distribution

LEAST_RUNS = 10


@dataclass(frozen=True)
class EngineTimes:
    """The times of one engine, milliseconds a run.

    Attributes:
        tokens: visual tokens that it was given; None for an engine that takes no choice of them.
        milliseconds: min, mean, sd, p50, p90, p95, p99 and max.
        device_p50: median by the device's own clock; None where the backend has none.
    """

    engine: str
    precision: str
    batch: int
    tokens: int | None
    runs: int
    milliseconds: dict[str, float]
    device_p50: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return a flat row in plain JSON types."""
        return {
            "engine": self.engine,
            "precision": self.precision,
            "batch": self.batch,
            "tokens": self.tokens,
            "runs": self.runs,
            "runs_a_second": 1e3 / self.milliseconds["mean"],
            **self.milliseconds,
            "device_p50": self.device_p50,
        }


class EnginesAlone:
    """Measures the engines one after the other; `rows` has what was measured so far, also after Ctrl-C."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._times: dict[tuple[str, int | None], list[float]] = {}  # seconds
        self._on_device: dict[tuple[str, int | None], list[float]] = {}  # milliseconds

    def run(
        self,
        seconds: float = 3.0,
        runs: int | None = None,
        warm_up: int = 3,
        progress: Callable[[str], None] = lambda step: None,
    ) -> None:
        """Measure every engine of the bundle, for every number of tokens that it takes. May be called again.

        Args:
            seconds: for each; at least LEAST_RUNS runs are measured however long they take.
            runs: at most so many for each; None: as many as fit.
            warm_up: runs before them.
            progress: called with a line about each.

        Raises:
            VljEdgeError: an engine cannot be loaded, or the backend failed.
        """
        model = self._model
        for name, spec in model.manifest.engines.items():
            engine = open_engine(model.directory, model.manifest, name, **model.chain.engine_options)
            _fill(engine, spec)
            for tokens in self._token_counts(engine):
                progress(name if tokens is None else f"{name}, {tokens} tokens")
                if tokens is not None:
                    engine.keep_tokens(np.arange(tokens))
                for _ in range(warm_up):
                    engine.run()
                    engine.wait()
                self._measure(engine, (name, tokens), seconds, runs)

    @property
    def rows(self) -> list[EngineTimes]:
        """What was measured so far."""
        return [self._row(key, np.array(times)) for key, times in self._times.items()]

    @property
    def headline(self) -> str:
        """The runs a second of each engine, and the windows a second of those that every window needs."""
        rows = {row.engine: row for row in self.rows}  # the last of each engine has all tokens
        parts = [f"{name} {1e3 / row.milliseconds['mean']:.3g} runs/s" for name, row in rows.items()]
        vision = [rows[name].milliseconds["mean"] for name in self._model.manifest.vision_engines if name in rows]
        if len(vision) == len(self._model.manifest.vision_engines):
            parts.insert(0, f"the engines alone allow {1e3 / sum(vision):.3g} windows/s")
        return "; ".join(parts) or "no engine was measured"

    def _token_counts(self, engine: Engine) -> Iterator[int | None]:
        tokens = self._model.manifest.tokens
        if tokens is None or not engine.takes_parts:
            yield None
        else:
            yield from tokens.counts

    def _measure(self, engine: Engine, key: tuple[str, int | None], seconds: float, runs: int | None) -> None:
        begun, clock = time.perf_counter(), getattr(engine, "milliseconds", None)
        number = 0
        while number != runs and (number < LEAST_RUNS or time.perf_counter() - begun < seconds):
            started = time.perf_counter()
            engine.run()
            engine.wait()
            self._times.setdefault(key, []).append(time.perf_counter() - started)
            if clock is not None:
                self._on_device.setdefault(key, []).append(clock())
            number += 1

    def _row(self, key: tuple[str, int | None], seconds: Array) -> EngineTimes:
        spec = self._model.manifest.engines[key[0]]
        device = self._on_device.get(key)
        batch = int(spec.inputs[0].shape[0])
        times = distribution(1e3 * seconds)
        middle = float(np.median(device)) if device else None
        return EngineTimes(key[0], spec.precision, batch, key[1], len(seconds), times, middle)


def _fill(engine: Engine, spec: EngineSpec) -> None:
    """Write inputs that any engine takes: drawn numbers, the first token of a vocabulary, and masks that hide nothing.
    Caches stay empty, and "kept" holds all tokens."""
    rng = np.random.default_rng(0)
    for tensor in spec.inputs:
        array = engine.inputs.get(tensor.name)
        if array is None or tensor.name == KEPT or tensor.name in spec.in_place.values():
            continue
        if np.issubdtype(array.dtype, np.floating):
            drawn = rng.standard_normal(array.shape)
            array[...] = drawn / np.linalg.norm(drawn) if tensor.name == "embedding" else drawn
        else:
            array[...] = "mask" in tensor.name
