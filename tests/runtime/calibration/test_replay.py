"""A replay says and costs what narrate() did; the record holds what was seen, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.calibration.streams import frames
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge.bundle import GateSettings, MeaningGateSettings, RestSettings, SceneGateSettings
from vlj_edge.runtime.calibration.record import Recording, record
from vlj_edge.runtime.calibration.replay import SceneDecisions, Words, replay
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.uri import open_source

DEMO = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"

GATES = {
    "default": GateSettings(),
    "slow": GateSettings(meaning=MeaningGateSettings(look_every=1.5, look_at_rest=3.0, settle_moving=0.5)),
    "means": GateSettings(meaning=MeaningGateSettings(smoothing=3, calm_windows=3, same_above=0.99)),
    "no scene gate": GateSettings(scene=SceneGateSettings(enabled=False)),
    "no memory, no rest": GateSettings(
        memory=replace(GateSettings().memory, enabled=False), rest=RestSettings(enabled=False)
    ),
}


def compare(model: Model, opened: Callable[[], Any], gates: GateSettings) -> None:
    run = model.narrate(opened(), gates=gates)
    said = list(run)
    recording = record(model.see(opened(), rest=gates.rest), Recording())
    words = Words(lambda embedding: model.chain.decode(embedding)[0])
    found = replay(recording, gates, SceneDecisions(recording, gates.scene), words)
    assert (found.encoder_runs.sum(), found.decoder_runs.sum()) == (run.totals.encoder_runs, run.totals.decoder_runs)
    assert found.texts.sum() == run.totals.narrations == len(said)
    ends = [*(narration.begins for narration in said[1:]), float("inf")]
    for window, standing in zip(recording.windows, found.standing, strict=True):
        time = window.times.centre
        shown = [n.text for n, end in zip(said, ends, strict=True) if n.begins <= time < end]
        assert [standing] == (shown or [""])


@pytest.mark.parametrize("name", GATES)
def test_a_replay_says_what_narrating_says(name: str, model: Model) -> None:
    compare(model, frames, GATES[name])


def test_a_replay_of_nano_says_what_narrating_says(nano: Model) -> None:
    compare(nano, lambda: open_source(str(DEMO), start=10.0, end=30.0), nano.manifest.gates)


def test_the_text_that_stands_is_that_of_what_is_shown(model: Model) -> None:
    recording = record(model.see(frames([(RED, 10.0), (BLUE, 10.0)])), Recording())
    gates = model.manifest.gates
    words = Words(lambda embedding: model.chain.decode(embedding)[0])
    found = replay(recording, gates, SceneDecisions(recording, gates.scene), words)
    centres = recording.centres
    assert {found.standing[n] for n in np.flatnonzero((centres > 3) & (centres < 9))} == {"a red screen"}
    assert {found.standing[n] for n in np.flatnonzero(centres > 13)} == {"blue"}


def test_a_recording_stops_where_its_memory_ends(model: Model) -> None:
    whole = record(model.see(frames()), Recording())
    assert not whole.full
    window = whole.windows[0]
    each = window.embedding.nbytes + window.noise.median.nbytes + 2 * window.frames[0].luminance.nbytes
    part = record(model.see(frames()), Recording(), most_bytes=20 * each)
    assert part.full and 15 <= len(part.windows) <= 21
    assert [seen.times for seen in part.windows] == [seen.times for seen in whole.windows[: len(part.windows)]]


def test_neighbouring_windows_share_their_thumbnails_and_hold_no_pictures(model: Model) -> None:
    first, second = record(model.see(frames()), Recording()).windows[:2]
    assert first.frames[2] is second.frames[0] and not hasattr(first.frames[0], "rgb")


def test_noise_is_that_of_its_window_and_not_of_the_end(model: Model) -> None:
    windows = record(model.see(frames(noise=8.0)), Recording()).windows
    assert len({float(window.noise.median.sum()) for window in windows}) > len(windows) / 2


def test_an_interrupted_recording_holds_what_was_seen(model: Model) -> None:
    def interrupted() -> object:
        for number, window in enumerate(model.see(frames())):
            if number == 7:
                raise KeyboardInterrupt
            yield window

    recording = Recording()
    with pytest.raises(KeyboardInterrupt):
        record(interrupted(), recording)  # type: ignore[arg-type]
    assert len(recording.windows) == 7


def test_every_text_is_decoded_once(model: Model) -> None:
    asked: list[bytes] = []

    def decode(embedding: np.ndarray) -> str:
        asked.append(embedding.tobytes())
        return "text"

    recording = record(model.see(frames()), Recording())
    words = Words(decode)
    scene = SceneDecisions(recording, GateSettings().scene)
    for gates in GATES.values():
        replay(recording, replace(gates, scene=GateSettings().scene), scene, words)
    assert len(asked) == len({*asked}) > 0
