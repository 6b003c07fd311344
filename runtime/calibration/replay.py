"""The gates run over a recording: what they would have said with other settings, and what it would have cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import GateSettings, SceneGateSettings

from ..gating.budget import Budget
from ..gating.caption_memory import CaptionMemory
from ..gating.clip_window import ClipWindow, Embedding, Encoded
from ..gating.meaning import Change, MeaningGate
from ..gating.scene import SceneGate
from ..video.preprocess import SampledFrame
from .record import Recording

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Replay:
    """What happens at each window of a recording; all of length [windows].

    Attributes:
        standing: the latest text that begins by the window's centre; "" before the first.
        texts: texts that are reported.
        encoder_runs, decoder_runs: calls of these.
    """

    standing: list[str]
    texts: Counts
    encoder_runs: Counts
    decoder_runs: Counts


class SceneDecisions:
    """What the scene gate decides about two windows of a recording; every pair is compared once."""

    def __init__(self, recording: Recording, settings: SceneGateSettings) -> None:
        self._windows, self._settings = recording.windows, settings
        self._known: dict[tuple[int, int, int], bool] = {}

    def changed(self, window: int, encoded: int | None, now: int) -> bool:
        """Return whether a window must be encoded after the one that was encoded last, as the window `now` comes.

        Args:
            window, encoded, now: indexes; the noise is that of `now`.
        """
        if encoded is None or not self._settings.enabled:
            return True
        key = (window, encoded, now)
        if key not in self._known:
            gate = SceneGate(self._settings, self._windows[now].noise)
            gate.changed(self._windows[encoded].frames)
            self._known[key] = gate.changed(self._windows[window].frames)
        return self._known[key]


class Words:
    """The model's text of an embedding, decoded when it is first asked for."""

    def __init__(self, decode: Callable[[Embedding], str]) -> None:
        self._decode = decode
        self._known: dict[bytes, str] = {}

    def of(self, embedding: Embedding) -> str:
        """Return the text of an embedding, float32 [embedding]."""
        key = embedding.tobytes()
        if key not in self._known:
            self._known[key] = self._decode(embedding)
        return self._known[key]


def replay(recording: Recording, gates: GateSettings, scene: SceneDecisions, words: Words) -> Replay:
    """Run the meaning gate, the scene gate and the caption memory over a recording.

    Args:
        scene: of the same recording and of `gates.scene`.

    Raises:
        VljEdgeError: settings that contradict each other, or the decoder failed.
    """
    windows = recording.windows
    encoder_runs, decoder_runs, texts = (np.zeros(len(windows), np.int64) for _ in range(3))
    memory = CaptionMemory(gates.memory, len(windows[0].embedding) if windows else 0)
    budget = Budget(gates.budget)
    meaning = MeaningGate(gates.meaning, budget)
    latest: int | None = None  # the window that was encoded last
    now, last = 0, ""
    begins, said = [-np.inf], [""]

    def encode(window: int, _: Sequence[SampledFrame]) -> Encoded:
        nonlocal latest
        if latest is None or scene.changed(window, latest, now):
            latest = window
            budget.take_encode()
            encoder_runs[now] += 1
        return Encoded(windows[latest].embedding)

    def say(change: Change | None) -> None:
        nonlocal last
        if change is None:
            return
        text = memory.recall(change.embedding, change.resting, change.apart)
        if text is None:
            text = words.of(change.embedding)
            memory.put(change.embedding, text, change.resting)
            decoder_runs[now] += 1
        if text not in ("", last):
            last = text
            texts[now] += 1
            begins.append(change.since)
            said.append(text)

    for now, seen in enumerate(windows):
        turns = (seen.cut, seen.turned_in_part)
        say(meaning.offer(ClipWindow(seen.times, [], seen.at_rest, partial(encode, now), *turns)))
    say(meaning.flush())
    latest_text = np.searchsorted(begins, recording.centres, "right") - 1
    standing = [said[index] for index in latest_text.tolist()]
    return Replay(standing, texts, encoder_runs, decoder_runs)
