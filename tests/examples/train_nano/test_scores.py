"""The scores of nano: CIDEr against pycocoevalcap, intervals, decoding policies, the judge."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from calibrate_gates import Figures, Measure, climb, penalty
from clips import ACT
from evaluate import Predictions, task_scores
from figures import interval
from hypothesis import given, settings
from hypothesis import strategies as st
from policies import live, live_changes, oracle, uniform, ward
from pycocoevalcap.cider.cider import Cider as ReferenceCider
from recordings import Judge, Recording
from selective import rate_at
from tasks import meanings

from vlj_edge import bundle
from vlj_edge.runtime.calibration.events import AnnotatedEvent
from vlj_edge.runtime.evaluation.cider import Cider

GROUPS = meanings()
sentences = st.one_of(
    st.sampled_from([text for group in GROUPS for text in group]),
    st.lists(st.sampled_from("the robot arm opens closes a drawer door zebra".split()), max_size=14).map(" ".join),  # noqa: SIM905
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(GROUPS), sentences), min_size=2, max_size=12))
def test_cider_is_pycocoevalcaps(pairs: list[tuple[tuple[str, ...], str]]) -> None:
    references = {i: list(group) for i, (group, _) in enumerate(pairs)}
    candidates = {i: [text] for i, (_, text) in enumerate(pairs)}
    mean, each = ReferenceCider().compute_score(references, candidates)
    ours = Cider(list(references.values()))
    predictions = [ours.score(i, text) for i, (_, text) in enumerate(pairs)]
    assert predictions == pytest.approx(list(each), abs=1e-9)
    assert np.mean(predictions) == pytest.approx(mean, abs=1e-9)


def test_an_interval_is_over_groups() -> None:
    values = np.repeat([0.0, 1.0], 500)
    alone, grouped = interval(values), interval(values, np.repeat(np.arange(10), 100))
    assert alone["value"] == grouped["value"] == 0.5
    assert (alone["cases"], alone["groups"], grouped["groups"]) == (1000, 1000, 10)
    assert alone["low"] > 0.45 and grouped["low"] < 0.3, "windows of one episode are not independent"
    assert interval(np.zeros(0)) == {"value": None, "cases": 0, "groups": 0}


class Echo:
    """Says the name of the nearest axis: embedding i becomes text i."""

    def texts(self, embeddings: np.ndarray) -> list[str]:
        return [f"event number {int(row.argmax())}" for row in embeddings]


def recording(lengths: tuple[float, ...] = (3.0, 4.0, 5.0), step: float = 0.5) -> Recording:
    """A perfect model of events that follow one another: each window's embedding is the axis of its event."""
    edges = np.cumsum([0.0, *lengths])
    centres = np.arange(step / 2, edges[-1], step)
    embeddings = np.eye(8, dtype=np.float32)[np.searchsorted(edges[1:-1], centres, "right")]
    events = [
        AnnotatedEvent(float(a), float(b), (f"event number {i}",)) for i, (a, b) in enumerate(itertools.pairwise(edges))
    ]
    unwatched, seconds = np.full(len(centres), None), float(edges[-1])
    return Recording("r", seconds, centres, centres + 1, embeddings, embeddings, unwatched, len(centres), events)


def test_a_perfect_model_scores_as_its_decoding_allows() -> None:
    stream, decoder = recording(), Echo()
    judge = Judge([stream])
    best = judge.scores(stream, oracle(stream, decoder, average=False)).mean()
    assert best > 0
    assert len(oracle(stream, decoder, average=True)) == 3
    for policy in (uniform, ward):
        for average in (False, True):
            assert judge.scores(stream, policy(stream, decoder, 2.0, average)).mean() == pytest.approx(best)
    assert judge.scores(stream, ward(stream, decoder, 0.25, average=True)).mean() == pytest.approx(best), "3 in 12 s"
    assert judge.scores(stream, uniform(stream, decoder, 0.01, average=False)).mean() < best
    assert judge.scores(stream, []).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("rate", "count"), [(2.0, 24), (1.0, 12), (0.25, 3), (0.01, 1)])
def test_policies_decode_as_often_as_they_may(rate: float, count: int) -> None:
    for policy in (uniform, ward):
        decodes = policy(recording(), Echo(), rate, average=False)
        assert len(decodes) == count
        assert [time for time, _ in sorted(decodes)] == sorted(time for time, _ in decodes)


def test_the_live_gate_decodes_once_an_event_and_remembers() -> None:
    stream = recording((3.0, 4.0, 5.0))
    gates = bundle.GateSettings(
        meaning=bundle.MeaningGateSettings(smoothing=1), memory=bundle.CaptionMemorySettings(enabled=False)
    )
    decodes, available_at, remembered = live(stream, Echo(), gates)
    assert [text for _, text in decodes] == ["event number 0", "event number 1", "event number 2"]
    assert remembered == 0
    for (time, _), available, event in zip(decodes, available_at, stream.events, strict=True):
        assert event.start <= time < event.end and available >= time
    back = recording((3.0, 4.0))
    there_and_back = np.concatenate([back.live, back.live])
    times = np.arange(len(there_and_back)) * 0.5
    unwatched = np.full(len(times), None)
    twice = Recording("t", 14.0, times, times + 1, there_and_back, there_and_back, unwatched, 0, back.events)
    remembering = bundle.GateSettings(
        meaning=bundle.MeaningGateSettings(smoothing=1), memory=bundle.CaptionMemorySettings(same=0.99)
    )
    decodes, _, remembered = live(twice, Echo(), remembering)
    assert (len(decodes), remembered) == (4, 2)


def test_a_decode_of_averaged_windows_is_dated_from_the_first_window_that_shows_the_change() -> None:
    stream, gate = recording((6.0,)), bundle.MeaningGateSettings(smoothing=3, calm_windows=3)
    (change,), _ = live_changes(stream, gate)
    assert change.time == stream.centres[0]
    assert change.available_at == stream.ends[2]


def figures(**others: float) -> Figures:
    return replace(Figures(cider=1.02, truth=2.0, missed=0.05, delay=2.5, decodes=5.0, encodes=7.0), **others)


def test_settings_that_reach_every_aim_have_no_penalty_and_each_shortfall_costs() -> None:
    good = {"own": figures(), "jitter": figures()}
    assert penalty(good) == 0
    for shortfall in ({"cider": 0.9}, {"truth": -3}, {"missed": 0.3}, {"delay": 4}, {"decodes": 2}, {"encodes": 2}):
        for world in good:
            assert penalty(good | {world: figures(**shortfall)}) > 0, (world, shortfall)


def test_the_climb_keeps_what_lowers_the_penalty_and_nothing_else() -> None:
    tried: list[bundle.GateSettings] = []

    def measure(gates: bundle.GateSettings) -> dict[str, Figures]:
        tried.append(gates)
        return {"own": figures(decodes=gates.meaning.look_every, encodes=7.0)}

    found = climb(measure, bundle.GateSettings(), 0, lambda: len(tried) < 60)
    assert found.meaning.look_every == max(gates.meaning.look_every for gates in tried) >= 2.5
    assert found == climb(measure, found, 1, lambda: False)
    assert found.meaning.forget_above <= 0.99 and found.meaning.longest_look >= found.meaning.look_every


def test_live_gates_are_measured_against_one_decode_a_second() -> None:
    stream = recording((8.0, 9.0, 7.0, 8.0))
    found = Measure({"own": [stream]}, Echo())(bundle.GateSettings())["own"]
    assert 0.8 < found.cider <= 1.2 and abs(found.truth) < 25
    assert found.missed == 0 and found.decodes > 1 and found.encodes >= 1


def test_labels_with_clips_all_around_them_are_held_back() -> None:
    # Two tasks; every window leans to the first label, as to one that was trained on.
    labels = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=-1)
    seen = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [1.0, 0.9], [1.0, 0.95]]), dim=-1)
    column = np.arange(3)
    task, acting = np.array([0, 1, 1]), np.full(3, ACT)
    predictions = Predictions(column, task, acting, np.full(3, "training"), seen, seen, [])
    scores = task_scores(predictions, labels, bias=np.array([0.9, 0.6]))
    assert scores["task_top1_act_windows"]["value"] == pytest.approx(1 / 3, abs=1e-3)
    assert scores["task_top1_act_windows_corrected"]["value"] == 1
    assert (
        task_scores(predictions, labels, bias=np.zeros(2))["task_top1_act_windows_corrected"]
        == scores["task_top1_act_windows"]
    )


def test_the_rate_of_a_score_is_read_off_the_curve() -> None:
    points = [{"rate": 1.0, "cider": 4.0}, {"rate": 0.5, "cider": 3.0}, {"rate": 0.25, "cider": 1.0}]
    assert rate_at(points, 3.5) == pytest.approx(0.75)
    assert rate_at(points, 0.5) == 0.25
    assert rate_at(points, 5.0) is None
