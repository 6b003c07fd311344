from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge import VljEdgeError, bundle
from vlj_edge.results import Window
from vlj_edge.runtime.gating.caption_memory import CaptionMemory
from vlj_edge.runtime.gating.clip_window import ClipWindow, Encoded
from vlj_edge.runtime.gating.meaning import Change, MeaningGate
from vlj_edge.runtime.gating.motion import at_rest
from vlj_edge.runtime.gating.scene import SceneGate
from vlj_edge.runtime.video.preprocess import THUMBNAIL, CroppedFrame

SIZE = 8
STEP = 0.5  # seconds between windows


def picture(luminance: float | np.ndarray) -> CroppedFrame:
    return CroppedFrame(np.zeros((3, 1, 1), np.uint8), np.full((THUMBNAIL, THUMBNAIL), luminance, np.float32))


def with_dot(column: int) -> CroppedFrame:
    """A still background with something 8 x 8 cells large on it."""
    cells = np.full((THUMBNAIL, THUMBNAIL), 0.5, np.float32)
    cells[8:16, column : column + 8] = 1.0
    return picture(cells)


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def at_angle(degrees: float) -> np.ndarray:
    vector = np.zeros(SIZE, np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def window_at(time: float, embedding: np.ndarray, resting: bool | None = None) -> ClipWindow:
    """A window whose centre is `time`."""
    return ClipWindow(Window(round(time / STEP), time - 0.5, time + 0.5), [], resting, lambda _: Encoded(embedding))


def offer(gate: MeaningGate, time: float, embedding: np.ndarray, resting: bool | None = None) -> Change | None:
    return gate.offer(window_at(time, embedding, resting))


# --- scene gate


def test_first_clip_is_encoded_and_an_equal_one_is_not() -> None:
    gate = SceneGate(bundle.SceneGateSettings(), 4)
    assert gate.changed([picture(0)] * 4)
    assert not gate.changed([picture(0)] * 4)


def test_slow_drift_is_seen() -> None:
    # from clip to clip it stays far below the threshold, so that a gate that compares neighbours sleeps for ever
    settings = bundle.SceneGateSettings(changed=0.06)
    gate = SceneGate(settings, 4)
    encoded = [step for step in range(100) if gate.changed([picture(0.1 + 0.0048 * step)] * 4)]
    # every 13 steps: 0.0624 is the first that is above 0.06
    assert encoded == list(range(0, 100, 13))


def test_still_clip_after_movement_is_not_taken_for_the_moving_one() -> None:
    gate = SceneGate(bundle.SceneGateSettings(), 4)
    moving = [with_dot(column) for column in (0, 4, 8, 12)]
    assert gate.changed(moving)
    assert gate.changed([moving[-1]] * 4)  # same newest frame, but it has stopped
    assert not gate.changed([moving[-1]] * 4)


def test_movement_after_a_still_clip_is_seen_even_if_it_returns() -> None:
    gate = SceneGate(bundle.SceneGateSettings(), 4)
    still = [with_dot(4)] * 4
    assert gate.changed(still)
    assert gate.changed([with_dot(4), with_dot(12), with_dot(12), with_dot(4)])  # same first and last frame


def test_movement_that_goes_on_is_encoded_every_time() -> None:
    gate = SceneGate(bundle.SceneGateSettings(), 4)
    track = [with_dot(column % 24) for column in range(0, 96, 3)]
    assert all(gate.changed(track[start : start + 4]) for start in range(0, len(track) - 4, 2))


@given(st.integers(0, 40))
def test_number_of_changed_cells_decides(count: int) -> None:
    settings = bundle.SceneGateSettings(changed=0.1, cells=20 / THUMBNAIL**2)
    gate = SceneGate(settings, 2)
    gate.changed([picture(0.2)] * 2)
    cells = np.full(THUMBNAIL**2, 0.2, np.float32)
    cells[:count] = 0.4
    one_frame = [picture(0.2), picture(cells.reshape(THUMBNAIL, THUMBNAIL))]
    assert gate.changed(one_frame) == (count >= 20)


def test_disabled_scene_gate_encodes_everything() -> None:
    gate = SceneGate(bundle.SceneGateSettings(enabled=False), 2)
    assert all(gate.changed([picture(0)] * 2) for _ in range(5))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_a_clip_is_skipped_exactly_when_it_equals_the_last_encoded_one(levels: list[float]) -> None:
    settings = bundle.SceneGateSettings(changed=0.06)
    gate = SceneGate(settings, 1)
    encoded: float | None = None
    for level in levels:
        wanted = encoded is None or abs(np.float32(level) - np.float32(encoded)) > 0.06
        assert gate.changed([picture(level)]) == wanted
        encoded = level if wanted else encoded


# --- rest

REST = bundle.RestSettings(changed=0.03, cells=0.004, seconds=1.0)


def clip_of(moves: list[bool]) -> list[CroppedFrame]:
    """A clip whose neighbouring samples differ where this says so."""
    columns = np.cumsum([0, *moves]) % 20
    return [with_dot(int(column)) for column in columns]


@pytest.mark.parametrize(
    ("moves", "resting"),
    [
        ("_______", True),
        ("MMMMMMM", False),
        ("____MMM", True),  # 1 s of stillness, and the middle lies in it
        ("MMM____", True),
        ("MM___MM", False),  # too short
        ("MM____M", True),
        ("M______", True),
        ("MMMM___", False),  # it moves in the middle
        ("___M___", True),  # a cut to another still picture
        ("___MM__", False),
        ("_M_____", True),
    ],
)
def test_a_clip_is_at_rest_when_its_middle_is(moves: str, resting: bool) -> None:
    assert at_rest(clip_of([move == "M" for move in moves]), REST, 4.0) is resting


@given(st.lists(st.booleans(), min_size=1, max_size=15), st.floats(0.1, 3.0))
def test_rest_against_a_plain_account_of_it(moves: list[bool], seconds: float) -> None:
    kept = [
        move and (i in (0, len(moves) - 1) or moves[i - 1] or moves[i + 1])  # alone: a cut
        for i, move in enumerate(moves)
    ]
    first = last = middle = len(moves) // 2
    while first > 0 and not kept[first - 1]:
        first -= 1
    while last + 1 < len(moves) and not kept[last + 1]:
        last += 1
    needed = min(seconds * 4, len(moves))
    wanted = not kept[middle] and last - first + 1 >= needed
    assert at_rest(clip_of(moves), replace(REST, seconds=seconds), 4.0) is wanted


def test_rest_is_not_looked_for_where_it_is_off_or_there_is_one_picture() -> None:
    assert at_rest(clip_of([False] * 7), replace(REST, enabled=False), 4.0) is None
    assert at_rest([picture(0.5)], REST, 4.0) is None


# --- meaning gate

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
    hold_growth=st.floats(0, 1),
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
    settings = replace(settings, smoothing=1, settle=0, hold_growth=0, look_every=0)
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


def test_the_longer_a_movement_the_rarer_its_texts() -> None:
    restless = [at_angle(77 * index) for index in range(24)]
    hasty = replace(PLAIN, longest_wait=0, least_hold=1.0, hold_growth=1.0)
    moving = [False] * 24
    assert spoken_watching(hasty, moving, restless) == [0, 2, 6, 12, 20]  # 1, 2, 3, 4 s
    turning = [False] * 10 + [True] * 14
    assert spoken_watching(hasty, turning, restless) == [0, 2, 6, 10, 12, 16, 22], "a turn begins anew"


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
            hold = settings.least_hold * (1 + settings.hold_growth * len(stream))
            longest = max(settings.settle, settings.settle_moving, settings.settle_resting, hold)
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
    growing = replace(seldom, hold_growth=1.0)  # after the second text twice as long
    assert encoded_by(growing, stream, [False] * 20) == [0, 3, 6, 9, 12, 18]


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
    with pytest.raises(VljEdgeError, match="the meaning gate needs"):
        MeaningGate(replace(PLAIN, **change))


# --- caption memory


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
