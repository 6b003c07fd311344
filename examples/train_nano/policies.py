"""Decoding policies: uniform, Ward's segments, an oracle that knows the events, and the runtime's own live gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from recordings import Decode, Recording, TextDecoder, middle
from scipy.sparse import diags_array
from sklearn.cluster import AgglomerativeClustering

from vlj_edge import Window, bundle
from vlj_edge.bundle import GateSettings
from vlj_edge.runtime.gating.caption_memory import CaptionMemory
from vlj_edge.runtime.gating.clip_window import ClipWindow, Encoded
from vlj_edge.runtime.gating.meaning import MeaningGate


def uniform(recording: Recording, decoder: TextDecoder, rate: float, average: bool) -> list[Decode]:
    """Decode `rate` times a second: the middle window of each interval, or the mean of its windows."""
    return _by_segment(recording, decoder, _intervals(recording, rate), average)


def ward(recording: Recording, decoder: TextDecoder, rate: float, average: bool) -> list[Decode]:
    """Decode once a segment, offline, as the paper does: Ward clusters of neighbouring windows, `rate` a second."""
    windows = len(recording.embeddings)
    count = min(max(1, round(rate * recording.seconds)), windows)
    neighbours = diags_array([np.ones(windows - 1), np.ones(windows - 1)], offsets=[-1, 1], shape=(windows, windows))
    clusters = AgglomerativeClustering(count, linkage="ward", connectivity=neighbours.tocsr())
    return _by_segment(recording, decoder, clusters.fit_predict(recording.embeddings), average)


def oracle(recording: Recording, decoder: TextDecoder, average: bool) -> list[Decode]:
    """Decode once an event, with knowledge of where events begin and end."""
    starts = [event.start for event in recording.events]
    segment = np.searchsorted(starts, recording.centres, "right") - 1
    decodes = _by_segment(recording, decoder, segment, average)
    missing = sorted(set(range(len(starts))) - set(segment.tolist()))  # events shorter than the windows' spacing
    nearest = [int(np.abs(recording.centres - middle(recording.events[number])).argmin()) for number in missing]
    return decodes + _decode(recording, decoder, nearest)


def live(recording: Recording, decoder: TextDecoder, gates: GateSettings) -> tuple[list[Decode], list[float], int]:
    """Return the runtime's texts, the time at which each is known, and how many came from the caption memory."""
    changes, _ = live_changes(recording, gates.meaning)
    texts, remembered = remembered_texts(changes, decoder, gates.memory)
    decodes = [(change.time, text) for change, text in zip(changes, texts, strict=True)]
    return decodes, [change.available_at for change in changes], remembered


def uniform_remembered(
    recording: Recording, decoder: TextDecoder, rate: float, settings: bundle.CaptionMemorySettings
) -> tuple[list[Decode], int]:
    """Decode uniformly through the caption memory; return the texts, and how many came from the memory."""
    windows = _middles(_groups(_intervals(recording, rate)))
    changes = [
        LiveChange(float(recording.centres[n]), float(recording.ends[n]), recording.live[n], recording.at_rest[n])
        for n in windows
    ]
    texts, remembered = remembered_texts(changes, decoder, settings)
    return [(change.time, text) for change, text in zip(changes, texts, strict=True)], remembered


@dataclass(frozen=True)
class LiveChange:
    """A change that passes the meaning gate: when it began, the end of the latest window, its embedding, whether it
    rests, and how far unrelated moments are apart (Change.apart)."""

    time: float
    available_at: float
    embedding: np.ndarray
    resting: bool | None
    apart: float = 1.0


def live_changes(recording: Recording, settings: bundle.MeaningGateSettings) -> tuple[list[LiveChange], int]:
    """Return the changes that pass the meaning gate, and how many windows it had to encode."""
    gate, found, encoded = MeaningGate(settings), [], []

    def encode(number: int) -> Encoded:
        encoded.append(number)
        return Encoded(recording.live[number])

    def window(number: int, centre: float, at_rest: bool) -> ClipWindow:
        return ClipWindow(Window(number, centre, centre), [], at_rest, lambda _: encode(number))

    centres = zip(recording.centres.tolist(), recording.at_rest.tolist(), strict=True)
    changes = [(n, gate.offer(window(n, centre, at_rest))) for n, (centre, at_rest) in enumerate(centres)]
    for number, change in [*changes, (len(recording.live) - 1, gate.flush())]:
        if change is not None:
            ends = float(recording.ends[number])
            found.append(LiveChange(change.since, ends, change.embedding, change.resting, change.apart))
    return found, len(encoded)


def remembered_texts(
    changes: list[LiveChange], decoder: TextDecoder, settings: bundle.CaptionMemorySettings
) -> tuple[list[str], int]:
    """Return the text of each change, and how many came from the caption memory."""
    if not changes:
        return [], 0
    memory, texts, remembered = CaptionMemory(settings, len(changes[0].embedding)), [], 0
    decoded = decoder.texts(np.stack([change.embedding for change in changes]))
    for change, text in zip(changes, decoded, strict=True):
        recalled = memory.recall(change.embedding, change.resting, change.apart)
        remembered += recalled is not None
        if recalled is None:
            memory.put(change.embedding, text, change.resting)
        texts.append(recalled or text)
    return texts, remembered


def _intervals(recording: Recording, rate: float) -> np.ndarray:
    """Return the index of each window's interval, (n,), with `rate` intervals of equal length a second."""
    count = max(1, round(rate * recording.seconds))
    edges = np.linspace(0, recording.seconds, count + 1)
    return np.searchsorted(edges[1:-1], recording.centres, "right")


def _groups(segment: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(segment == number) for number in np.unique(segment)]


def _middles(groups: list[np.ndarray]) -> list[int]:
    return [int(group[len(group) // 2]) for group in groups]


def _by_segment(recording: Recording, decoder: TextDecoder, segment: np.ndarray, average: bool) -> list[Decode]:
    """Decode once a segment: windows (n,) with the same number."""
    groups = _groups(segment)
    if not average:
        return _decode(recording, decoder, _middles(groups))
    means = np.stack([recording.embeddings[group].mean(0) for group in groups])
    texts = decoder.texts(means / np.linalg.norm(means, axis=1, keepdims=True))
    return [(float(recording.centres[group].mean()), text) for group, text in zip(groups, texts, strict=True)]


def _decode(recording: Recording, decoder: TextDecoder, windows: list[int]) -> list[Decode]:
    if not windows:
        return []
    texts = decoder.texts(recording.embeddings[windows])
    return [(float(recording.centres[number]), text) for number, text in zip(windows, texts, strict=True)]
