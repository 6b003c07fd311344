"""Sources of plain colours, and gates, for the tests of runs on the tiny bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlj_edge import bundle
from vlj_edge.results import Narration, Totals
from vlj_edge.runtime.video.source import Frame, Source

MakeVideo = Callable[..., Path]

# A clip of the bundle is 4 samples, 0.25 s apart, and a window begins every 0.5 s.
GATES = bundle.GateSettings(
    bundle.SceneGateSettings(),
    bundle.MeaningGateSettings(
        smoothing=1, calm_windows=2, calm_variance=0.02, speak_below=0.8, forget_above=0.9, least_hold=0, longest_wait=3
    ),
    bundle.CaptionMemorySettings(),
    bundle.RestSettings(enabled=False),
)
NO_SCENE = replace(GATES, scene=bundle.SceneGateSettings(enabled=False))
NO_MEMORY = replace(GATES, memory=bundle.CaptionMemorySettings(enabled=False))


class Pictures(Source):
    """Frames of one colour each, `rate` a second. `fail` is raised before frame `fail_at`."""

    def __init__(
        self,
        colours: list[tuple[int, int, int]],
        rate: float = 4.0,
        fail: BaseException | None = None,
        fail_at: int = -1,
        incomplete: str | None = None,
    ) -> None:
        self.colours, self.rate, self.fail, self.fail_at = colours, rate, fail, fail_at
        self.period = 1 / rate
        self.why = incomplete
        self.closed = False

    def frames(self) -> Iterator[Frame]:
        for index, colour in enumerate(self.colours):
            if index == self.fail_at and self.fail is not None:
                raise self.fail
            yield Frame(index / self.rate, np.full((20, 30, 3), colour, np.uint8))
        self.incomplete = self.why

    def close(self) -> None:
        self.closed = True


def scenes(*lengths: tuple[tuple[int, int, int], int]) -> list[tuple[int, int, int]]:
    return [colour for colour, count in lengths for _ in range(count)]


def texts(narrations: list[Narration]) -> list[tuple[float, str]]:
    return [(narration.start, narration.text) for narration in narrations]


def counts(totals: Totals) -> dict[str, int]:
    """The counts, without those of calls for words."""
    found = totals.as_dict().items()
    return {key: value for key, value in found if isinstance(value, int) and not key.startswith("call")}
