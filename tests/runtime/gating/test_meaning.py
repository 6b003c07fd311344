"""The meaning gate: which windows are put into words, and which are encoded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.gating.windows import SIZE, STEP, at_angle, offer, unit, window_at
from vlj_edge import VljEdgeError, bundle
from vlj_edge.results import Window
from vlj_edge.runtime.gating.clip_window import ClipWindow, Encoded
from vlj_edge.runtime.gating.meaning import MeaningGate, _Candidate, _ReadyCandidates

settings_of_meaning = st.builds(
    bundle.MeaningGateSettings,
    smoothing=st.integers(1, 4),
    calm_windows=st.integers(1, 4),
    calm_variance=st.floats(0, 0.2),
    speak_below=st.floats(0.3, 0.9),
    speak_below_at_rest=st.floats(0.3, 0.9),
    forget_above=st.floats(0.9, 0.99),
    look_every=st.sampled_from([0.0, 0.0, 1.0, 2.5]),
    least_hold=st.floats(0, 4),
    same_above=st.sampled_from([0.99, 1.0]),
    longest_look=st.sampled_from([0.0, 2.0, 4.0]),
    look_at_rest=st.sampled_from([0.0, 2.0, 8.0]),
    longest_wait=st.floats(0, 8),
    settle=st.floats(0, 3),
    settle_moving=st.floats(0, 3),
    settle_resting=st.floats(0, 3),
)


@st.composite
def streams(draw: st.DrawFn) -> list[np.ndarray]:
    """Scenes that hold for a while, with noise that may be larger than the change between them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = draw(st.sampled_from([0.0, 0.05, 0.2, 1.0]))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=8))
    centres = [rng.normal(size=SIZE) for _ in lengths]
    return [unit(c + noise * rng.normal(size=SIZE)) for c, n in zip(centres, lengths, strict=True) for _ in range(n)]


def spoken(settings: bundle.MeaningGateSettings, stream: list[np.ndarray]) -> list[int]:
    gate = MeaningGate(settings)
    return [index for index, embedding in enumerate(stream) if offer(gate, index * STEP, embedding) is not None]


@given(settings_of_meaning, streams())
def test_texts_are_never_closer_than_the_least_hold(
    settings: bundle.MeaningGateSettings, stream: list[np.ndarray]
) -> None:
    gate = MeaningGate(settings)
    times = [index * STEP for index, e in enumerate(stream) if offer(gate, index * STEP, e) is not None]
    if gate.flush() is not None:
        times.append((len(stream) - 1) * STEP)
    assert all(b - a >= settings.least_hold for a, b in pairwise(times))


@given(settings_of_meaning, streams())
def test_pending_change_is_said_within_the_longest_wait(
    settings: bundle.MeaningGateSettings, stream: list[np.ndarray]
) -> None:
    # a reference that keeps its own account of what is pending; without smoothing, so that it can be written plainly
    settings = replace(settings, smoothing=1, settle=0, look_every=0)
    gate = MeaningGate(settings)
    said: np.ndarray | None = None
    said_at, pending_since = -np.inf, None
    for index, embedding in enumerate(stream):
        time = index * STEP
        similarity = None if said is None else float(embedding @ said)
        if pending_since is None and (similarity is None or similarity < settings.speak_below):
            pending_since = time
        elif pending_since is not None and similarity is not None and similarity > settings.forget_above:
            pending_since = None
        change = offer(gate, time, embedding)
        if change is not None:
            assert pending_since is not None  # nothing is said that was not a change
            assert change.similarity == (None if similarity is None else pytest.approx(similarity, abs=1e-5))
            np.testing.assert_allclose(change.embedding, embedding, atol=1e-6)
            said, said_at, pending_since = change.embedding, time, None
        elif pending_since is not None:
            waited, held = time - pending_since, time - said_at
            assert waited < settings.longest_wait or held < settings.least_hold
    assert (gate.flush() is not None) == (pending_since is not None and time - said_at >= settings.least_hold)


@given(settings_of_meaning, st.integers(1, 60))
def test_constant_stream_speaks_once(settings: bundle.MeaningGateSettings, length: int) -> None:
    gate = MeaningGate(replace(settings, calm_variance=max(settings.calm_variance, 1e-6)))
    embedding = unit(np.arange(1, SIZE + 1))
    changes = [offer(gate, index * STEP, embedding) for index in range(length)]
    changes.append(gate.flush())
    assert sum(change is not None for change in changes) == 1


@given(settings_of_meaning, streams())
def test_disabled_meaning_gate_speaks_always(settings: bundle.MeaningGateSettings, stream: list[np.ndarray]) -> None:
    gate = MeaningGate(replace(settings, enabled=False, smoothing=1))
    before = None
    for index, embedding in enumerate(stream):
        change = offer(gate, index * STEP, embedding)
        assert change is not None
        np.testing.assert_allclose(change.embedding, embedding, atol=1e-6)
        cosine = None if before is None else pytest.approx(float(change.embedding @ before), abs=1e-5)
        assert change.similarity == cosine
        assert change.similarity is None or -1 <= change.similarity <= 1
        before = change.embedding
    assert gate.flush() is None


@given(settings_of_meaning, streams())
def test_gate_is_deterministic(settings: bundle.MeaningGateSettings, stream: list[np.ndarray]) -> None:
    assert spoken(settings, stream) == spoken(settings, stream)


PLAIN = bundle.MeaningGateSettings(
    smoothing=1, calm_windows=2, calm_variance=0.02, speak_below=0.8, forget_above=0.9, least_hold=0, longest_wait=3
)


def test_first_text_waits_until_the_stream_is_calm() -> None:
    assert spoken(PLAIN, [at_angle(0), at_angle(60), at_angle(61), at_angle(61)]) == [2]


def test_first_text_does_not_wait_for_ever() -> None:
    restless = [at_angle(90 * index) for index in range(12)]
    assert spoken(PLAIN, restless)[0] == 6  # 3 s


def test_change_is_said_once_it_is_calm() -> None:
    stream = [at_angle(0)] * 4 + [at_angle(30), at_angle(60)] + [at_angle(90)] * 4
    assert spoken(PLAIN, stream) == [1, 7]


def test_variance_at_the_threshold() -> None:
    # two unit vectors an angle apart: 1 - |mean|^2 = (1 - cos) / 2; 0.02 is reached at 16.26 degrees
    settings = replace(PLAIN, speak_below=2.0, forget_above=2.0)  # always pending: calm alone decides
    assert spoken(settings, [at_angle(0), at_angle(16.2)]) == [1]
    assert spoken(settings, [at_angle(0), at_angle(16.4)]) == []


def test_hysteresis_drops_a_change_that_goes_back() -> None:
    there, away, near = at_angle(0), at_angle(40), at_angle(20)  # cosines to what was said: 1, 0.77, 0.94
    settings = replace(PLAIN, calm_variance=0.001)
    assert spoken(settings, [there, there, away, near, near, near]) == [1]
    between = at_angle(30)  # 0.87: above speak_below, not above forget_above: still pending
    assert spoken(settings, [there, there, away, between, between, between]) == [1, 4]
    assert spoken(settings, [there, there, between, between, between]) == [1]  # never became pending


def test_passing_flicker_is_not_said() -> None:
    stream = [at_angle(0)] * 4 + [at_angle(90)] + [at_angle(0)] * 4
    assert spoken(PLAIN, stream) == [1]


def test_what_is_said_has_settled() -> None:
    stream = [at_angle(0)] * 4 + [at_angle(90)] * 6
    settling = replace(PLAIN, settle=1.0)  # two windows after it is calm
    assert spoken(settling, stream) == [3, 7]
    assert spoken(settling, [*stream[:6], at_angle(0), at_angle(0)]) == [3], "it went back while it settled"


def spoken_watching(settings: bundle.MeaningGateSettings, resting: list[bool], stream: list[np.ndarray]) -> list[int]:
    gate, windows = MeaningGate(settings), enumerate(zip(stream, resting, strict=True))
    return [index for index, (embedding, rest) in windows if offer(gate, index * STEP, embedding, rest) is not None]


def test_coming_to_rest_and_beginning_to_move_are_said_whatever_the_embedding() -> None:
    resting = [False] * 4 + [True] * 5 + [False] * 4
    stream = [at_angle(0)] * 13
    settling = replace(PLAIN, settle_moving=1.0, settle_resting=0.5)
    assert spoken_watching(settling, resting, stream) == [2, 5, 11]
    assert spoken_watching(PLAIN, resting, stream) == [0, 4, 9], "at once, where nothing has to settle"
    assert spoken_watching(replace(PLAIN, least_hold=3.0), resting, stream) == [0, 6, 12]


def test_a_change_of_meaning_at_rest_is_said_too() -> None:
    stream = [at_angle(0)] * 4 + [at_angle(90)] * 4  # a cut between still pictures
    assert spoken_watching(PLAIN, [True] * 8, stream) == [0, 5]
    assert spoken_watching(replace(PLAIN, settle=1.0), [True] * 8, stream) == [0, 7], "no turn: it settles as any other"


def test_a_turn_to_what_was_said_before_is_not_said_again() -> None:
    resting = ([False] * 4 + [True] * 4) * 3
    stream = [at_angle(0)] * 12 + [at_angle(90)] * 12
    picky = replace(PLAIN, calm_windows=1, same_above=0.99)
    assert spoken_watching(picky, resting, stream) == [0, 12]
    assert spoken_watching(replace(picky, same_above=1.0), resting, stream) == [0, 4, 8, 12, 16, 20]


def test_a_still_picture_has_a_threshold_of_its_own() -> None:
    stream = [at_angle(0)] * 4 + [at_angle(60)] * 4  # cosine 0.5
    steady = replace(PLAIN, speak_below_at_rest=0.4)
    assert spoken_watching(steady, [True] * 8, stream) == [0]
    assert spoken_watching(steady, [False] * 8, stream) == [0, 5]
    assert spoken(steady, stream) == [1, 5], "where nobody watches the picture, it may move"


def test_rest_that_is_over_before_it_settled_is_said_by_its_middle() -> None:
    settings = replace(PLAIN, settle_moving=1.5, settle_resting=1.5)  # three windows
    resting = [False] * 5 + [True] * 3 + [False] * 5
    gate = MeaningGate(settings)
    changes = [offer(gate, index * STEP, at_angle(10 * index), rest) for index, rest in enumerate(resting)]
    said = {index: change for index, change in enumerate(changes) if change is not None}
    assert list(said) == [3, 8, 11]
    assert (said[8].first, said[8].last) == (6 * STEP, 6 * STEP)
    np.testing.assert_allclose(said[8].embedding, at_angle(60), atol=1e-6)
    assert said[8].similarity == pytest.approx(np.cos(np.radians(30)), abs=1e-5)
    assert said[11].similarity == pytest.approx(np.cos(np.radians(50)), abs=1e-5)


@given(settings_of_meaning, streams(), st.integers(0, 2**32 - 1))
def test_a_change_is_about_a_window_that_was_offered_of_late(
    settings: bundle.MeaningGateSettings, stream: list[np.ndarray], seed: int
) -> None:
    settings = replace(settings, smoothing=1)
    gate = MeaningGate(settings)
    resting = np.repeat(np.random.default_rng(seed).random(len(stream)) < 0.5, 3)[: len(stream)].tolist()
    for index, (embedding, rest) in enumerate(zip(stream, resting, strict=True)):
        change = offer(gate, index * STEP, embedding, rest)
        if change is not None:
            assert change.first == change.last <= index * STEP
            longest = max(settings.settle, settings.settle_moving, settings.settle_resting, settings.least_hold)
            assert index * STEP - change.last <= longest + STEP
            np.testing.assert_allclose(change.embedding, stream[round(change.last / STEP)], atol=1e-6)


@given(settings_of_meaning, streams(), st.integers(0, 2**32 - 1))
def test_watching_never_breaks_the_least_hold(
    settings: bundle.MeaningGateSettings, stream: list[np.ndarray], seed: int
) -> None:
    resting = (np.random.default_rng(seed).random(len(stream)) < 0.5).tolist()
    times = [index * STEP for index in spoken_watching(settings, resting, stream)]
    assert all(b - a >= settings.least_hold for a, b in pairwise(times))


def encoded_by(
    settings: bundle.MeaningGateSettings, stream: list[np.ndarray], resting: list[bool] | None = None
) -> list[int]:
    """The windows that the gate has encoded, in the order in which it does."""
    asked: list[int] = []

    def encode(index: int) -> Encoded:
        asked.append(index)
        return Encoded(stream[index])

    gate = MeaningGate(settings)
    for index in range(len(stream)):
        rest = resting[index] if resting else None
        times = Window(index, index * STEP - 0.5, index * STEP + 0.5)
        gate.offer(ClipWindow(times, [], rest, lambda _, index=index: encode(index)))
    return asked


def test_what_is_said_whatever_it_means_is_all_that_is_encoded() -> None:
    never = replace(PLAIN, speak_below=-1.0, speak_below_at_rest=-1.0, settle_moving=1.0, settle_resting=0.5)
    resting = [False] * 4 + [True] * 5 + [False] * 2 + [True] * 2
    stream = [at_angle(40 * index) for index in range(13)]
    # two windows after it moves, one after it rests; the rest's beginning in the middle of a movement, at the turn
    assert encoded_by(never, stream, resting) == [2, 5, 9, 12]
    assert spoken_watching(never, resting, stream) == [2, 5, 11, 12]


def test_a_picture_that_moves_is_looked_at_now_and_then() -> None:
    stream = [at_angle(0)] * 12 + [at_angle(90)] * 8
    seldom = replace(PLAIN, calm_windows=1, look_every=1.5)
    assert spoken_watching(seldom, [False] * 20, stream) == [0, 12]
    assert encoded_by(seldom, stream, [False] * 20) == [0, 3, 6, 9, 12, 15, 18]
    assert encoded_by(replace(seldom, look_every=0), stream, [False] * 20) == list(range(20))
    growing = replace(seldom, longest_look=3.0)  # after the second text by half
    assert encoded_by(growing, stream, [False] * 20) == [0, 3, 6, 9, 12, 17]


def test_a_picture_that_rests_is_looked_at_too() -> None:
    stream = [at_angle(0)] * 12 + [at_angle(90)] * 8
    seldom = replace(PLAIN, calm_windows=1, look_every=1.0, look_at_rest=4.0)
    assert encoded_by(seldom, stream, [True] * 20) == [0, 8, 16]
    assert spoken_watching(seldom, [True] * 20, stream) == [0, 16]


@given(settings_of_meaning, streams(), st.integers(0, 2**32 - 1))
def test_a_window_is_encoded_at_most_once(
    settings: bundle.MeaningGateSettings, stream: list[np.ndarray], seed: int
) -> None:
    resting = np.repeat(np.random.default_rng(seed).random(len(stream)) < 0.5, 3)[: len(stream)].tolist()
    asked = encoded_by(settings, stream, resting)
    assert len(asked) == len(set(asked)) >= len(spoken_watching(settings, resting, stream))


def test_smoothing_is_a_mean_of_unit_length() -> None:
    gate = MeaningGate(replace(PLAIN, smoothing=2))
    offer(gate, 0.0, at_angle(0))
    change = offer(gate, 0.5, at_angle(10))
    assert change is not None
    np.testing.assert_allclose(change.embedding, at_angle(5), atol=1e-6)


def test_opposite_embeddings_do_not_make_nonsense_of_the_mean() -> None:
    gate = MeaningGate(replace(PLAIN, smoothing=2, longest_wait=0))
    offer(gate, 0.0, at_angle(0))
    change = offer(gate, 0.5, -at_angle(0))
    assert change is not None
    assert np.isfinite(change.embedding).all()


def test_end_of_stream_says_what_is_pending() -> None:
    gate = MeaningGate(PLAIN)
    said = [offer(gate, index * STEP, e) for index, e in enumerate([at_angle(0), at_angle(0), at_angle(90)])]
    assert said[2] is None  # not calm yet
    change = gate.flush()
    assert change is not None
    assert change.similarity == pytest.approx(0, abs=1e-6)
    assert gate.flush() is None


def test_no_windows_nothing_to_flush() -> None:
    assert MeaningGate(PLAIN).flush() is None


@pytest.mark.parametrize(
    "change", [{"smoothing": 0}, {"calm_windows": 0}, {"forget_above": 0.5}, {"speak_below_at_rest": 0.95}]
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(VljEdgeError, match="calibrate"):
        MeaningGate(replace(PLAIN, **change))


@given(st.integers(1, 400))
def test_of_ready_candidates_the_middle_is_known_though_two_are_held(count: int) -> None:
    windows = [window_at(index * STEP, at_angle(0)) for index in range(count)]
    ready = _ReadyCandidates(_Candidate((windows[0],)))
    for window in windows[1:]:
        ready.add(_Candidate((window,)))
    index = windows.index(ready.middle.windows[-1])
    exact = (count - 1) // 2
    assert index == exact if count <= 6 else count / 4 - 1 <= index <= exact
    assert ready.since == 0
