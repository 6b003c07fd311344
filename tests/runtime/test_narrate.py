"""Narration: its texts, their times, and the work that the gates save."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vlj_edge.runtime.chain as chain_module
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.colours import GATES, NO_MEMORY, NO_SCENE, MakeVideo, Pictures, counts, scenes, texts
from tests.runtime.tiny_bundle import BLACK, BLUE, GREEN, RED
from vlj_edge import bundle
from vlj_edge.bundle import NO_GATES
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.cameras.opencv import import_opencv
from vlj_edge.runtime.video.source import Frame


def test_video_is_narrated_when_it_changes(model: Model, make_video: MakeVideo) -> None:
    path = make_video([(RED, 4), (BLUE, 4), (GREEN, 4)])
    narrator = model.narrate(path, gates=GATES)
    found = list(narrator)
    # the first window needs a second one to be calm; later ones the two that lie within the new scene
    assert texts(found) == [(0.5, "a red screen"), (4.5, "blue"), (8.5, "green light glows")]
    assert [narration.end - narration.start for narration in found] == [1, 1, 1]
    assert [narration.origin for narration in found] == ["decoder"] * 3
    assert found[0].similarity is None
    assert found[1].similarity == pytest.approx(by_hand.embedding_of(RED) @ by_hand.embedding_of(BLUE), abs=0.1)
    totals = narrator.totals
    assert totals.windows == 23
    assert totals.narrations == totals.decoder_runs == 3
    assert totals.decoder_tokens == 4 + 2 + 4
    assert totals.video_seconds == pytest.approx(12)
    assert totals.wall_seconds > 0


def test_gates_skip_exactly_the_work_behind_them(model: Model) -> None:
    colours = scenes((RED, 16), (BLUE, 16), (RED, 16))
    narrator = model.narrate(Pictures(colours), gates=GATES)
    assert texts(list(narrator)) == [(0.5, "a red screen"), (4.5, "blue"), (8.5, "a red screen")]
    # 23 windows; encoded: the first, and at each change the one that is half new and the one that is all new
    assert counts(narrator.totals) == {
        "windows": 23,
        "windows_dropped": 0,
        "encoder_runs": 5,
        "predictor_runs": 5,
        "tokens": 0,
        "tokens_kept": 0,
        "decoder_runs": 2,
        "decoder_tokens": 6,
        "memory_hits": 1,
        "narrations": 3,
        "changes_left_out": 0,
        "looks_left_out": 0,
    }


def test_without_the_scene_gate_every_window_is_encoded(model: Model) -> None:
    colours = scenes((RED, 16), (BLUE, 16))
    narrator = model.narrate(Pictures(colours), gates=NO_SCENE)
    found = list(narrator)
    assert narrator.totals.encoder_runs == narrator.totals.predictor_runs == narrator.totals.windows == 15
    gated = model.narrate(Pictures(colours), gates=GATES)
    assert texts(list(gated)) == texts(found)


def test_without_memory_every_text_is_decoded(model: Model) -> None:
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLUE, 16), (RED, 16))), gates=NO_MEMORY)
    assert [narration.origin for narration in narrator] == ["decoder"] * 3
    assert narrator.totals.decoder_runs == 3
    assert narrator.totals.memory_hits == 0


def test_text_from_memory_says_so(model: Model) -> None:
    found = list(model.narrate(Pictures(scenes((RED, 16), (BLUE, 16), (RED, 16))), gates=GATES))
    assert [narration.origin for narration in found] == ["decoder", "decoder", "memory"]


def test_embed_tells_which_windows_were_encoded(model: Model) -> None:
    found = list(model.embed(Pictures(scenes((RED, 12), (BLUE, 12))), gates=GATES))
    #  windows:          RRRR  RRRR  RRRR   RRRR   RRRR   RRBB  BBBB   BBBB ...
    assert [item.encoded for item in found] == [True, False, False, False, False, True, True, *[False] * 4]
    np.testing.assert_array_equal(found[4].embedding, found[0].embedding)


def test_slow_drift_is_narrated(model: Model) -> None:
    # red to green in 20 s, so slowly that no two neighbouring windows differ by the scene gate's threshold
    steps = [(0, round(255 * i / 79), round(255 * (1 - i / 79))) for i in range(80)]
    drift = [*scenes((RED, 8)), *steps, *scenes((GREEN, 8))]
    narrator = model.narrate(Pictures(drift), gates=GATES)
    assert {"a red screen", "green light glows"} <= {narration.text for narration in narrator}
    assert narrator.totals.encoder_runs < narrator.totals.windows  # the gate did skip


def test_every_window_decodes_each(model: Model) -> None:
    colours = scenes((RED, 8), (BLUE, 8), (BLACK, 8))
    narrator = model.narrate(Pictures(colours), every_window=True)
    found = list(narrator)
    embeddings = list(model.embed(Pictures(colours), every_window=True))
    decoder, tokens = model.chain.decoder
    assert [(n.start, n.end) for n in found] == [(e.window.start, e.window.end) for e in embeddings]
    for narration, item in zip(found, embeddings, strict=True):
        ids, _ = chain_module.decode(decoder, item.embedding, by_hand.END, by_hand.CAPACITY)
        assert narration.text == tokens.decode(ids)
    assert found[0].similarity is None
    totals = narrator.totals
    assert totals.windows == totals.encoder_runs == totals.decoder_runs == totals.narrations == 11
    assert totals.decodes_saved == 1


def test_a_picture_that_comes_to_rest_is_said_though_its_meaning_stays(model: Model) -> None:
    flicker = [RED, (0, 0, 200)] * 6  # the same meaning, but it moves
    gates = replace(NO_MEMORY, rest=bundle.RestSettings())
    embedded = model.embed(Pictures([*scenes((RED, 8)), *flicker, *scenes((RED, 8))]), gates=gates)
    resting = [item.at_rest for item in embedded]
    assert resting[0] and resting[-1] and not resting[6]
    for settings, decodes in ((gates, 3), (NO_MEMORY, 1)):
        narrator = model.narrate(Pictures([*scenes((RED, 8)), *flicker, *scenes((RED, 8))]), gates=settings)
        list(narrator)
        assert narrator.totals.decoder_runs == decodes
    assert {item.at_rest for item in model.embed(Pictures(scenes((RED, 8))), gates=NO_MEMORY)} == {None}


def test_a_text_of_averaged_windows_is_stamped_with_all_of_them(model: Model) -> None:
    # Windows last 1 s and begin every 0.5 s: three of them span 2 s, and the first text can have no more than two.
    gates = replace(GATES, meaning=replace(GATES.meaning, smoothing=3, calm_windows=3))
    first, second = model.narrate(Pictures(scenes((RED, 16), (BLUE, 16))), gates=gates)
    assert (first.text, first.start, first.end) == ("a red screen", 0, 2)
    assert second.text == "blue"
    assert second.end - second.start == 2
    assert second.centre == second.start + 1


def test_same_words_for_another_meaning_are_not_said_again(model: Model) -> None:
    # a full red and a pale one: not the same embedding, but the same text
    one, other = (0, 0, 255), (120, 120, 255)
    gates = replace(GATES, meaning=replace(GATES.meaning, speak_below=0.95, forget_above=0.96))
    narrator = model.narrate(Pictures(scenes((one, 16), (other, 16))), gates=gates)
    assert texts(list(narrator)) == [(0.5, "a red screen")]
    assert narrator.totals.decoder_runs > 1
    assert narrator.totals.narrations == 1


def test_empty_text_is_not_said_but_does_not_hide_what_follows(model: Model) -> None:
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLACK, 16), (BLUE, 16))), gates=GATES)
    assert [narration.text for narration in narrator] == ["a red screen", "blue"]
    assert narrator.totals.decoder_runs == 3


def test_change_at_the_very_end_is_said(model: Model) -> None:
    # the last window is blue for the first time: no second one shows that it is calm
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLUE, 4))), gates=GATES)
    assert texts(list(narrator)) == [(0.5, "a red screen"), (4.0, "blue")]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_source_shorter_than_a_clip_is_one_window(model: Model, count: int) -> None:
    narrator = model.narrate(Pictures(scenes((BLUE, count))))
    assert texts(list(narrator)) == [(0.0, "blue")]
    assert narrator.totals.windows == 1


def test_short_video_file_and_folder_and_image(model: Model, make_video: MakeVideo, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(6):
        import_opencv().imwrite(str(folder / f"{index}.png"), np.full((20, 20, 3), GREEN, np.uint8))
    for source in (make_video([(GREEN, 0.3)]), folder, folder / "0.png"):
        assert [narration.text for narration in model.narrate(source)] == ["green light glows"]


def test_folder_runs_at_the_rate_of_the_clip(model: Model, tmp_path: Path) -> None:
    for index in range(8):
        import_opencv().imwrite(str(tmp_path / f"{index}.png"), np.full((20, 20, 3), RED, np.uint8))
    narrator = model.narrate(tmp_path)
    list(narrator)
    assert narrator.totals.video_seconds == 2
    assert narrator.totals.windows == 3


@pytest.mark.parametrize("rate", [4, 10, 25, 50])
def test_camera_rate_does_not_change_what_is_said(model: Model, make_video: MakeVideo, rate: int) -> None:
    narrator = model.narrate(make_video([(RED, 3), (BLUE, 3)], rate=rate), gates=GATES)
    assert texts(list(narrator)) == [(0.5, "a red screen"), (3.5, "blue")]
    assert narrator.totals.windows == 11


def test_file_is_never_dropped_for_a_slow_consumer(model: Model, make_video: MakeVideo) -> None:
    path = make_video([(RED, 2), (BLUE, 2)])
    slow, fast = (model.narrate(path, every_window=True) for _ in range(2))
    found = []
    for narration in slow:
        time.sleep(0.02)  # slower than the pipeline
        found.append(narration)
    assert found == list(fast)


def test_same_video_same_result(model: Model, make_video: MakeVideo) -> None:
    path = make_video([(RED, 2), (BLUE, 2), (RED, 2)])
    first, second, fresh = (
        model.narrate(path, gates=GATES),
        model.narrate(path, gates=GATES),
        Model(model.directory, threads=1).narrate(path, gates=GATES),
    )
    assert list(first) == list(second) == list(fresh)
    assert counts(first.totals) == counts(second.totals) == counts(fresh.totals)


def test_gates_come_from_the_bundle(tmp_path: Path) -> None:
    model = Model(by_hand.build(tmp_path / "b", gates=NO_GATES))
    narrator = model.narrate(Pictures(scenes((RED, 16))))
    list(narrator)
    assert narrator.totals.decoder_runs == narrator.totals.windows == 7


def test_texts_come_in_order_and_as_soon_as_they_are_decided(step_by_step: Model) -> None:
    class Counting(Pictures):
        given = 0

        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                self.given += 1
                yield frame

    source = Counting(scenes((RED, 16), (BLUE, 16), (GREEN, 16)))
    narrator = step_by_step.narrate(source, gates=GATES)
    seen = [(next(narrator).text, source.given, narrator.totals.windows) for _ in range(3)]
    # a window is whole with its 4th sample, which is chosen when the next frame has come
    assert seen == [("a red screen", 7, 2), ("blue", 23, 10), ("green light glows", 39, 18)]
    assert narrator.totals.narrations == 3


def test_narrations_and_totals_are_json(model: Model) -> None:
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLUE, 16))), gates=GATES)
    found = [json.loads(json.dumps(narration.as_dict(), allow_nan=False)) for narration in narrator]
    assert [item["text"] for item in found] == ["a red screen", "blue"]
    assert json.loads(json.dumps(narrator.totals.as_dict(), allow_nan=False))["windows"] == 15
