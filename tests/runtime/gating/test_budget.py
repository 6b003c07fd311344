"""Whatever a stream shows, it gets no more texts and encoder runs than its budget has, and what lasts is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.gating.test_meaning import settings_of_meaning, spoken, streams
from tests.runtime.gating.test_never_deaf import HOUR, LONGEST_DELAY, SETTINGS, flags, rests
from tests.runtime.gating.windows import SIZE, STEP, offer, unit
from vlj_edge import bundle
from vlj_edge.bundle import BudgetSettings
from vlj_edge.results import Window
from vlj_edge.runtime.gating.budget import Budget, EncodeBudget, TextBudget
from vlj_edge.runtime.gating.checks import Checks
from vlj_edge.runtime.gating.clip_window import ClipWindow, Encoded
from vlj_edge.runtime.gating.meaning import Change, MeaningGate

SLACK = 1e-6


class Gate:
    """A meaning gate on a budget, and an encoder that always runs."""

    def __init__(self, meaning: bundle.MeaningGateSettings, limits: BudgetSettings) -> None:
        self.budget = Budget(limits)
        self.meaning = MeaningGate(meaning, self.budget)
        self.texts: list[float] = []
        self.runs: list[float] = []

    def offer(self, time: float, embedding: np.ndarray, resting: bool | None = None) -> Change | None:
        self.now = time

        def encode(_: object) -> Encoded:  # perhaps later, for a change that waited
            self.runs.append(self.now)
            self.budget.take_encode()
            return Encoded(embedding)

        times = Window(round(time / STEP), time - 0.5, time + 0.5)
        change = self.meaning.offer(ClipWindow(times, [], resting, encode))
        if change is not None:
            self.texts.append(time)
        return change


def most_above(times: list[float], per_second: float) -> float:
    """Return by how many the events of any interval exceed its length times a rate, at most."""
    found, lowest = 0.0, np.inf
    for number, time in enumerate(times):
        lowest = min(lowest, number - time * per_second)
        found = max(found, number + 1 - time * per_second - lowest)
    return found


def events(rng: np.random.Generator, every: float, count: int) -> Iterator[np.ndarray]:
    """Unrelated events in windows that follow one another, each for `every` seconds in the mean."""
    embedding = unit(rng.normal(size=SIZE * 4))
    for _ in range(count):
        if rng.random() < STEP / every:
            embedding = unit(rng.normal(size=SIZE * 4))
        yield embedding


@given(streams(), rests, settings_of_meaning, st.sampled_from([0.5, 60, 2000]), st.sampled_from([2.0, 30]))
@settings(max_examples=40)
def test_no_interval_of_any_stream_exceeds_the_budget(
    stream: list[np.ndarray],
    stretches: list[tuple[bool | None, int]],
    meaning: bundle.MeaningGateSettings,
    texts: float,
    encodes: float,
) -> None:
    stream = stream * 10
    gate = Gate(replace(meaning, smoothing=1, calm_windows=1), BudgetSettings(texts, encodes))
    for index, (embedding, resting) in enumerate(zip(stream, flags(stretches, len(stream)), strict=True)):
        gate.offer(index * STEP, embedding, resting)
    assert most_above(gate.texts, texts / 3600) <= TextBudget(texts).burst + SLACK
    assert most_above(gate.runs, encodes / 60) <= EncodeBudget(encodes).burst + SLACK


@pytest.mark.parametrize(("texts", "encodes"), [(6, 0), (60, 12), (300, 4)])
def test_hours_of_unceasing_events_use_the_budget_and_no_more(texts: float, encodes: float) -> None:
    gate, rng, hours = Gate(SETTINGS, BudgetSettings(texts, encodes)), np.random.default_rng(0), 6
    for index, embedding in enumerate(events(rng, 6.0, hours * HOUR)):
        gate.offer(index * STEP, embedding, False)
    wanted = min(texts, 60 * encodes / 1.5 if encodes else texts)  # a look finds a change, and a run tells it
    assert 0.9 * wanted * hours <= len(gate.texts) <= texts * hours + 1
    assert most_above(gate.texts, texts / 3600) <= TextBudget(texts).burst + SLACK
    assert (gate.budget.changes_left_out > 0) == (wanted == texts)
    if encodes:
        assert len(gate.runs) <= encodes * 60 * hours + EncodeBudget(encodes).burst
        assert gate.budget.looks_left_out > 0


def test_half_a_day_gives_every_hour_its_texts_also_after_quiet_and_busy_ones() -> None:
    gate, rng, said = Gate(SETTINGS, BudgetSettings(texts_per_hour=60)), np.random.default_rng(2), [0] * 12
    for hour in range(12):
        every = (4.0, 600.0, 30.0)[hour % 3]  # busy, quiet, in between
        for index, embedding in enumerate(events(rng, every, HOUR)):
            said[hour] += gate.offer(hour * 3600 + index * STEP, embedding, False) is not None
    burst = TextBudget(60).burst
    assert all(54 <= texts <= 60 + burst for hour, texts in enumerate(said) if hour % 3 != 1), said
    assert all(2 <= texts <= 20 for hour, texts in enumerate(said) if hour % 3 == 1), "there are six changes"


@pytest.mark.parametrize("texts", [60, 300, 900])
def test_a_budget_is_used_from_the_first_minutes_on(texts: float) -> None:
    gate, rng, minutes = Gate(SETTINGS, BudgetSettings(texts)), np.random.default_rng(1), 5
    for index, embedding in enumerate(events(rng, 2.0, round(60 * minutes / STEP))):
        gate.offer(index * STEP, embedding, False)
    assert len(gate.texts) >= 0.8 * texts * minutes / 60


@given(streams(), rests, st.sampled_from([20.0, 200.0]), st.sampled_from([0, 6.0, 60]), st.booleans())
@settings(max_examples=20)
def test_what_lasts_is_said_in_time_whatever_came_before(
    stream: list[np.ndarray], stretches: list[tuple[bool | None, int]], texts: float, encodes: float, moves: bool
) -> None:
    """Also after an hour that was full of events, and where the picture never rests or never moves."""
    gate, rng = Gate(SETTINGS, BudgetSettings(texts, encodes)), np.random.default_rng(len(stream))
    count = 0
    for embedding in [*events(rng, 4.0, HOUR // 4), *(np.pad(each, (0, SIZE * 3)) for each in stream)]:
        gate.offer(count * STEP, embedding, not moves)
        count += 1
    longest = 2 * 3600 / texts + LONGEST_DELAY + (3 * 60 / encodes if encodes else 0)
    resting = flags(stretches, round(longest / STEP) + 2)
    new = rng.normal(size=SIZE * 4)
    said = gate.meaning.last_embedding
    assert said is not None
    new = unit(new - (new @ said) * said)
    for index, rest in enumerate(resting):
        change = gate.offer((count + index) * STEP, new, rest)
        if change is not None and change.embedding @ new > 0.99:
            assert index * STEP <= longest
            return
    raise AssertionError("never said")


@given(streams(), rests, st.sampled_from([2.0, 6.0, 60.0]))
def test_a_budget_never_makes_the_gate_deaf(
    stream: list[np.ndarray], stretches: list[tuple[bool | None, int]], encodes: float
) -> None:
    stream = stream * 8
    gate = Gate(SETTINGS, BudgetSettings(encodes_per_minute=encodes))
    for index, (embedding, resting) in enumerate(zip(stream, flags(stretches, len(stream)), strict=True)):
        gate.offer(index * STEP, embedding, resting)
    times = [0.0, *gate.runs, len(stream) * STEP]
    assert max(later - earlier for earlier, later in pairwise(times)) <= LONGEST_DELAY + 3 * 60 / encodes


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_changes_are_said(seed: int) -> None:
    """Sizes come at random: those that are said are much larger than their mean, as a uniform choice would have it."""
    rng, budget = np.random.default_rng(seed), TextBudget(30)
    sizes = rng.uniform(size=6 * 1200)
    axes = np.eye(len(sizes) % 7 + 500, dtype=np.float32)
    said = [budget.allows(3.0 * n, 1 - float(size), axes[n % len(axes)], Checks()) for n, size in enumerate(sizes)]
    best = np.sort(sizes)[-sum(said) :].mean()
    assert sum(said) >= 0.9 * 6 * 30
    assert (sizes[said].mean() - sizes.mean()) / (best - sizes.mean()) > 0.7


def test_largest_changes_get_the_texts_also_where_most_are_small() -> None:
    rng, gate = np.random.default_rng(1), Gate(SETTINGS, BudgetSettings(texts_per_hour=30))
    home, small, similarities = unit(rng.normal(size=SIZE * 4)), 0, []
    for index in range(4 * HOUR):
        if index % 20 == 0:  # every 10 s
            large = rng.random() < 0.05
            embedding = unit(home + (3.0 if large else 0.06) * rng.normal(size=SIZE * 4))
            small += not large
        change = gate.offer(index * STEP, embedding, False)
        if change is not None and change.similarity is not None:
            similarities.append(change.similarity)
    assert len(similarities) > 100
    assert np.mean(np.array(similarities) < 0.7) > 0.5, "a twentieth of the changes are large"


def test_what_lasts_is_worth_more_than_what_is_brief() -> None:
    axes, said = np.eye(400, dtype=np.float32), {}
    for lasting in (1, 12):
        budget, check = TextBudget(60), Checks()
        for number in range(90):  # every 20 s a large change, three for each text
            budget.allows(20.0 * number, 0.1, axes[number], check)
        times = [1800.0 + 5 * number for number in range(12)]
        small = [budget.allows(t, 0.8, axes[200 + n // lasting], check) for n, t in enumerate(times)]
        said[lasting] = any(small)
    assert said == {1: False, 12: True}


@given(settings_of_meaning, streams())
def test_nothing_changes_while_the_budget_is_large_enough(
    meaning: bundle.MeaningGateSettings, stream: list[np.ndarray]
) -> None:
    gate = Gate(meaning, BudgetSettings(1e6, 1e6))
    said = [index for index, each in enumerate(stream) if gate.offer(index * STEP, each) is not None]
    assert said == spoken(meaning, stream)
    assert gate.budget.changes_left_out == gate.budget.looks_left_out == 0


@given(settings_of_meaning, streams(), st.floats(1.0, 60.0))
def test_changes_that_are_far_apart_are_all_said(
    meaning: bundle.MeaningGateSettings, stream: list[np.ndarray], every: float
) -> None:
    """No text that comes 2 * 3600 / N seconds after the one before is left out."""
    stream, meaning = [each for each in stream for _ in range(10)], replace(meaning, least_hold=every)
    gate = Gate(meaning, BudgetSettings(texts_per_hour=2 * 3600 / every))
    said = [index for index, each in enumerate(stream) if gate.offer(index * STEP, each) is not None]
    assert said == spoken(meaning, stream) and gate.budget.changes_left_out == 0


def test_a_change_that_is_refused_is_not_the_last_text_and_is_counted_once_when_it_is_over() -> None:
    axes = np.eye(SIZE, dtype=np.float32)
    gate = Gate(SETTINGS, BudgetSettings(texts_per_hour=60))
    for index in range(5):
        gate.offer(index * STEP, axes[0], False)
    for index in range(5, 30):
        assert gate.offer(index * STEP, axes[1], False) is None
    assert gate.meaning.last_embedding is not None and gate.meaning.last_embedding[0] == 1, "the gate goes on comparing"
    assert gate.budget.changes_left_out == 0, "it may last"
    looks = len(gate.runs)
    assert looks < 20, "it is not looked at in every window"
    for index in range(30, 60):
        gate.offer(index * STEP, axes[0], False)
    assert gate.budget.changes_left_out == 1
    for index in range(60, 200):
        gate.offer(index * STEP, axes[2], False)
    assert len(gate.texts) == 2 and gate.meaning.last_embedding[2] == 1
    assert gate.budget.changes_left_out == 1, "what was only late is not left out"


def test_a_turn_that_changes_nothing_does_not_wait_for_a_text() -> None:
    axes = np.eye(SIZE, dtype=np.float32)
    gate = Gate(replace(SETTINGS, same_above=1.0), BudgetSettings(texts_per_hour=12))
    for index in range(HOUR):
        gate.offer(index * STEP, axes[0], 200 <= index % 400 < 204)  # a still scene that seems to rest now and then
    assert len(gate.texts) <= 12 and gate.budget.changes_left_out > 0
    gate = Gate(replace(SETTINGS, same_above=1.0), BudgetSettings(texts_per_hour=12))
    for index in range(HOUR):
        gate.offer(index * STEP, axes[0], 200 <= index < 204)
    assert len(gate.texts) == 1


def test_runs_one_after_another_share_a_budget() -> None:
    axes = np.eye(SIZE, dtype=np.float32)
    limits = BudgetSettings(texts_per_hour=60)
    budget, texts, time = Budget(limits), 0, 0.0
    for number in range(400):  # a camera that is lost every few seconds: each run begins with a first text
        budget.begin(limits, time)
        meaning = MeaningGate(SETTINGS, budget)
        for index in range(8):
            texts += offer(meaning, index * STEP, axes[number % SIZE], False) is not None
        time += 8 * STEP + 1
    assert 0.8 * time / 60 <= texts <= time / 60 + 3


def test_other_settings_take_effect_and_keep_what_is_saved_up() -> None:
    axes = np.eye(4, dtype=np.float32)
    budget = Budget(BudgetSettings())
    assert all(budget.allows_text(0.0, 0.0, axes[n % 4], Checks()) for n in range(100)), "no limit"
    budget.begin(BudgetSettings(texts_per_hour=6), 10.0)
    assert [budget.allows_text(t, 0.0, axes[n % 4], Checks()) for n, t in enumerate((0.0, 300.0, 600.0))] == [
        True,
        False,
        True,
    ]
    budget.begin(BudgetSettings(texts_per_hour=60), 610.0)
    assert not budget.allows_text(0.0, 0.0, axes[3], Checks()) and budget.allows_text(61.0, 0.0, axes[3], Checks())
    budget.begin(BudgetSettings(), 700.0)
    assert budget.allows_text(0.0, 0.0, axes[1], Checks()) and budget.changes_left_out == 0
