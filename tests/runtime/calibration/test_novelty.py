"""Events of novelty over a recording: their number, and how well they stand for what is shown."""

from __future__ import annotations

import numpy as np

from tests.runtime.calibration.streams import SCENES, events, frames
from vlj_edge.results import WindowEmbedding
from vlj_edge.runtime.calibration.figures import cut, total
from vlj_edge.runtime.calibration.novelty import NoveltyTrial, gated
from vlj_edge.runtime.calibration.record import Recording, record
from vlj_edge.runtime.calibration.reference import captions_at
from vlj_edge.runtime.calibration.replay import SceneDecisions
from vlj_edge.runtime.embedding.novelty import NoveltyDetector, observe
from vlj_edge.runtime.model import Model


def recorded(model: Model) -> Recording:
    return record(model.see(frames()), Recording())


def trial(model: Model, annotated: bool) -> NoveltyTrial:
    recording = recorded(model)
    scene = SceneDecisions(recording, model.manifest.gates.scene)
    captions = [captions_at(events(), time) for time in recording.centres.tolist()] if annotated else None
    return NoveltyTrial(*gated(recording, scene), captions, cut(recording.centres, 4, 1.0))


def test_embeddings_are_those_of_embed(model: Model) -> None:
    items: list[WindowEmbedding] = list(model.embed(frames()))
    recording = recorded(model)
    embeddings, encoded = gated(recording, SceneDecisions(recording, model.manifest.gates.scene))
    assert np.allclose(embeddings, [item.embedding for item in items], atol=1e-6)
    assert encoded.tolist() == [item.encoded for item in items]


def test_as_many_events_are_counted_as_embed_reports(model: Model) -> None:
    detector = NoveltyDetector(0.7, model.manifest.embedding)
    reported = [each for each in observe(model.embed(frames()), None, 0.0, detector) if each.event == "novel"]
    assert total(trial(model, annotated=False).measure(0.7)).texts == len(reported) >= 3


def test_more_events_stand_better_for_what_is_shown(model: Model) -> None:
    few, many = (total(trial(model, annotated=False).measure(below)) for below in (0.1, 0.99))
    assert few.texts < many.texts and few.quality < many.quality <= 1


def test_with_annotations_the_nearest_event_must_show_the_same(model: Model) -> None:
    measured = trial(model, annotated=True)
    good, none = (total(measured.measure(below)) for below in (0.7, -0.99))
    assert good.quality > 0.9
    assert none.texts == 1  # the first window is always new, and all others then count as instances of it
    assert total(measured.measure(-1.0)).texts == total(measured.measure(-1.0)).quality == 0
    red = sum(seconds for colour, seconds in SCENES if colour == SCENES[0][0]) / sum(each[1] for each in SCENES)
    assert abs(none.quality - red) < 0.1
