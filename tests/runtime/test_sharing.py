"""Several threads may share a Model; windows keep their own embedding and no pictures."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.lifetimes import COLOURS, DEMO, Colours, first, nothing_runs
from vlj_edge.results import Narration, WindowReport
from vlj_edge.runtime.gating.clip_window import ClipWindow
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.stream.run import Run


def test_two_threads_get_what_each_would_get_alone(nano: Model) -> None:
    calls: list[Callable[[], list[Any]]] = [
        lambda: [item.embedding for item in first(40, nano.embed(DEMO, every_window=True))],
        lambda: [(n.start, n.text) for n in first(20, nano.narrate(DEMO, every_window=True))],
        lambda: [nano.embed_text("the robot arm opens the drawer")] * 2,
    ]
    alone = [call() for call in calls]
    found: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        found[number] = calls[number % 3]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    for number in range(4):
        assert len(found[number]) == len(alone[number % 3])
        for ours, expected in zip(found[number], alone[number % 3], strict=True):
            np.testing.assert_array_equal(ours, expected)
    nothing_runs()


def test_many_threads_share_a_model(model: Model) -> None:
    def texts(colour: tuple[int, int, int]) -> list[str]:
        narrations: Run[Narration] = model.narrate(Colours(seconds=6, colours=(colour,)), every_window=True)
        return [narration.text for narration in narrations]

    alone = {colour: texts(colour) for colour in COLOURS}
    failures: list[tuple[Any, list[str]]] = []

    def work(colour: tuple[int, int, int]) -> None:
        for _ in range(3):
            if (said := texts(colour)) != alone[colour]:
                failures.append((colour, said))

    threads = [threading.Thread(target=work, args=(colour,)) for colour in COLOURS * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    nothing_runs()


def test_a_change_that_may_not_be_said_for_an_hour_holds_no_pictures(tiny_bundle: Path) -> None:
    model = Model(tiny_bundle)
    gates = model.manifest.gates
    gates = replace(
        gates,
        meaning=replace(gates.meaning, least_hold=3600.0, settle=0.0),
        scene=replace(gates.scene, enabled=False),
    )

    alive: list[int] = []

    def count(report: WindowReport) -> None:
        if report.window.index % 50 == 49:
            alive.append(sum(isinstance(each, ClipWindow) for each in gc.get_objects()))

    run = model.narrate(Colours(seconds=300), gates=gates, watch=count)
    list(run)
    most = gates.meaning.smoothing * 3 + max(gates.meaning.smoothing, gates.meaning.calm_windows) + 1
    assert alive and max(alive) <= most, "the latest, two older ones, and those that they are averaged with"


def test_a_report_carries_its_own_windows_embedding(model: Model) -> None:
    gates = model.manifest.gates
    gates = replace(
        gates,
        meaning=replace(gates.meaning, calm_windows=4, settle=1.0, smoothing=1),
        scene=replace(gates.scene, enabled=False),
        rest=replace(gates.rest, enabled=False),
    )
    exact = {item.window.index: item.embedding for item in model.embed(Colours(seconds=30), every_window=True)}
    reports: list[WindowReport] = []
    list(model.narrate(Colours(seconds=30), gates=gates, watch=reports.append))
    assert sum(report.embedding is not None for report in reports) > 10
    for report in reports:
        if report.embedding is not None:
            np.testing.assert_array_equal(report.embedding, exact[report.window.index])
        assert report.similarity is None or report.embedding is not None
