"""A model whose embeddings lie in a narrow cone, and whose gates nobody calibrated, says each scene, and says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.colours import Pictures
from tests.runtime.gating.test_cone import Cone
from vlj_edge import Model, StreamNoise, WindowReport
from vlj_edge.bundle import DEFAULT_GATES, MANIFEST
from vlj_edge.decision_words import window_line
from vlj_edge.runtime.gating.clip_window import Encoded
from vlj_edge.runtime.gating.stream_noise import thresholds_now

SCENES, SECONDS, RATE = 12, 8, 4.0


def uncalibrated(tiny_bundle: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, cosine: float) -> Model:
    """A model without calibrated gates whose embeddings are those of a cone, a scene for each shade of grey."""
    path = Path(shutil.copytree(tiny_bundle, directory / "bundle")) / MANIFEST
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["receipt"]["gates"] = DEFAULT_GATES
    path.write_text(json.dumps(fields), encoding="utf-8")
    model = Model(path.parent, overlap=False)
    model.manifest = replace(model.manifest, embedding=256)
    cone = Cone(1, 256, cosine, 0.05)
    known: dict[int, np.ndarray] = {}

    def encode(frames: Sequence[Any], *_: Any) -> list[Encoded]:
        shades = [round(float(frame.luminance.mean()) * 100) for frame in frames]
        scenes = [known.setdefault(shade, cone.scene()) for shade in shades]
        mean = np.mean([cone.window(scene) for scene in scenes], axis=0)
        return [Encoded((mean / np.linalg.norm(mean)).astype(np.float32))]

    def decode(embedding: np.ndarray, _: str) -> tuple[str, int]:
        nearest = max(known, key=lambda shade: float(known[shade] @ embedding))
        return f"shade {nearest}", 1

    monkeypatch.setattr(model.chain, "encode", encode)
    monkeypatch.setattr(model.chain, "decode", decode)
    return model


@pytest.mark.parametrize("cosine", [0.0, 0.9, 0.98])
@pytest.mark.parametrize("live", [False, True])
def test_every_scene_is_narrated_before_anything_is_calibrated(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cosine: float, live: bool
) -> None:
    shades = [20 + 17 * number for number in range(SCENES)]
    pictures = Pictures([(shade, shade, shade) for shade in shades for _ in range(int(SECONDS * RATE))], RATE)
    pictures.live = live
    reports: list[WindowReport] = []
    noise = StreamNoise()
    with uncalibrated(tiny_bundle, tmp_path, monkeypatch, cosine) as model:
        narrations = list(model.narrate(pictures, watch=reports.append, noise=noise))
        assert SCENES - 1 <= len({narration.text for narration in narrations}) <= SCENES
        assert len(narrations) <= SCENES + 2
        thresholds = {each.name: each for each in thresholds_now(model.manifest.gates, noise)}
    speak, memory = thresholds["meaning.speak_below"], thresholds["memory.same"]
    assert (speak.now > speak.as_set and speak.why != "") == (cosine > 0)
    assert memory.now >= 1 - (1 - memory.as_set) * 1.2 * (1 - cosine)
    if cosine > 0:
        assert "(set to 0.85, moments 0." in window_line(reports[-1])
