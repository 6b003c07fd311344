"""Whatever came before: a change that lasts is said in time, and where nothing is new, texts stop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.gating.test_meaning import encoded_by, streams
from tests.runtime.gating.windows import SIZE, STEP, at_angle, offer, unit
from vlj_edge import bundle
from vlj_edge.runtime.gating.embedding_noise import EmbeddingNoise
from vlj_edge.runtime.gating.meaning import MeaningGate

HOUR = round(3600 / STEP)  # windows
SETTINGS = bundle.MeaningGateSettings(
    calm_windows=1,
    speak_below=0.95,
    speak_below_at_rest=0.8,
    forget_above=0.97,
    same_above=0.995,
    look_every=1.5,
    longest_look=2.5,
    look_at_rest=8.0,
    least_hold=1.0,
    longest_wait=1.5,
    settle_moving=0.5,
    settle_resting=0.5,
)
LONGEST_LOOK = max(SETTINGS.longest_look, SETTINGS.look_at_rest)
LONGEST_DELAY = LONGEST_LOOK + SETTINGS.least_hold + SETTINGS.longest_wait + SETTINGS.settle_moving + 2 * STEP

rests = st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(1, 40)), min_size=1, max_size=20)


def flags(stretches: list[tuple[bool | None, int]], count: int) -> list[bool | None]:
    found = [rest for rest, length in stretches for _ in range(length)]
    return (found * (count // len(found) + 1))[:count]


@given(streams(), rests)
def test_the_gate_is_never_blind_for_longer_than_its_settings_say(
    stream: list[np.ndarray], stretches: list[tuple[bool | None, int]]
) -> None:
    stream = stream * 3
    asked = encoded_by(SETTINGS, stream, flags(stretches, len(stream)))
    times = [0.0, *(index * STEP for index in sorted(set(asked))), len(stream) * STEP]
    assert max(later - earlier for earlier, later in pairwise(times)) <= LONGEST_DELAY


@given(streams(), rests)
def test_a_change_that_lasts_is_said_in_time_whatever_came_before(
    stream: list[np.ndarray], stretches: list[tuple[bool | None, int]]
) -> None:
    gate, rng = MeaningGate(SETTINGS), np.random.default_rng(len(stream))
    resting = flags(stretches, len(stream) + 60)
    for index, embedding in enumerate(stream):
        offer(gate, index * STEP, embedding, resting[index])
    said = gate.last_embedding
    new = unit(rng.normal(size=SIZE))
    if said is not None:  # something that is unlike whatever was said
        new = unit(new - (new @ said) * said)
    for index in range(len(stream), len(stream) + 60):
        change = offer(gate, index * STEP, new, resting[index])
        if change is not None and change.embedding @ new > 0.99:
            assert (index - len(stream)) * STEP <= LONGEST_DELAY
            return
    raise AssertionError("never said")


@given(streams(), rests)
def test_a_text_tells_of_a_change_that_began_after_that_of_the_text_before(
    stream: list[np.ndarray], stretches: list[tuple[bool | None, int]]
) -> None:
    gate = MeaningGate(SETTINGS)
    said = [
        offer(gate, n * STEP, each, rest)
        for n, (each, rest) in enumerate(zip(stream, flags(stretches, len(stream)), strict=True))
    ]
    changes = [change for change in [*said, gate.flush()] if change is not None]
    assert all(change.since <= change.last for change in changes)
    assert all(earlier.since < later.since for earlier, later in pairwise(changes))


def texts_by_hour(hours: int, seed: int, resting: bool | None) -> list[int]:
    """Texts in every hour of a stream with another, unrelated event every 4 s."""
    gate, rng, found = MeaningGate(SETTINGS), np.random.default_rng(seed), [0] * hours
    for index in range(hours * HOUR):
        if index % round(4 / STEP) == 0:
            embedding = unit(rng.normal(size=SIZE * 4))
        found[index // HOUR] += offer(gate, index * STEP, embedding, resting) is not None
    return found


def test_in_a_day_of_events_without_rest_the_last_hour_is_as_the_first() -> None:
    found = texts_by_hour(24, 1, False)
    assert found[0] > 700 and 0.95 <= found[-1] / found[0] <= 1.05


def test_embeddings_that_waver_are_not_said_for_a_day() -> None:
    rng, gate = np.random.default_rng(2), MeaningGate(SETTINGS)
    scene, said = unit(rng.normal(size=SIZE * 4)), [0] * 24
    for index in range(24 * HOUR):
        noisy = unit(scene + 0.08 * rng.normal(size=SIZE * 4))  # cosines of 0.8 to one another
        if index % 20 == 0:
            moving = index + int(rng.integers(17))  # a tenth of the time the picture seems to move
        resting = not moving <= index < moving + 2
        said[index // HOUR] += offer(gate, index * STEP, noisy, resting) is not None
    assert max(said[1:]) <= 1, said
    change = [offer(gate, (24 * HOUR + index) * STEP, unit(rng.normal(size=SIZE * 4)), True) for index in range(30)]
    assert any(each is not None for each in change), "not deaf for what is new"


def test_noise_is_the_median_of_what_two_looks_differ_by() -> None:
    rng, noise = np.random.default_rng(0), EmbeddingNoise()
    looks = [at_angle(float(angle)) for angle in rng.normal(0, 10, 26)]
    for number, look in enumerate(looks):
        noise.learn(8.0 * number, look)
        noise.learn(8.0 * number, look)  # the same window again
        assert (noise.level == 1.0) == (number < 5), "a few looks do not tell"
    level = float(np.median([earlier @ later for earlier, later in pairwise(looks)]))
    assert noise.level == pytest.approx(level, abs=1e-6)
    assert noise.lowered(0.9999) == pytest.approx(1 - 3 * (1 - level)) and noise.lowered(0.3) == 0.3
    noise.turn(210.0, False)
    noise.turn(220.0, True)
    noise.learn(221.0, at_angle(90))
    assert noise.level == pytest.approx(level, abs=1e-6), "after a movement it is another picture"
