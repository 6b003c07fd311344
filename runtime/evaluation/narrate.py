"""Narrate a video with the bundle's gates, and decode it at fixed intervals without them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from vlj_edge.decisions import TextReport

from ..calibration.events import AnnotatedEvent
from ..model import Model
from ..video.source import Source
from ..video.uri import open_source
from .embed import check_recording
from .narration import INTERVALS, Said, Text, evenly

LEAD = 10.0  # s before the first event: the gates learn the camera's noise


def narrate_video(model: Model, video: Path, events: Sequence[AnnotatedEvent]) -> dict[int | None, Said]:
    """Narrate the part of a video that is annotated, and a lead before it.

    Returns:
        What was said by the seconds between two texts; None: with the bundle's gates.

    Raises:
        VljEdgeError: the video cannot be read to the end of the last event.
    """
    start, end = max(0.0, events[0].start - LEAD), max(event.end for event in events)
    rate = model.manifest.clip.frames_per_second
    check_recording(video)
    found: dict[int | None, Said] = {}
    with closing(open_source(video, start=start, end=end, sampled_at=rate)) as source:
        found[None] = _gated(model, source)
    with closing(open_source(video, start=start, end=end, sampled_at=rate)) as source:
        windows = list(model.embed(source, every_window=True))
    centres = np.array([item.window.centre for item in windows])
    seconds = found[None].seconds
    known: dict[int, str] = {}
    for every in INTERVALS:
        chosen = evenly(centres, start, start + seconds, max(1, round(seconds / every)))
        for index in chosen:
            if index not in known:
                known[index] = model.chain.decode(windows[index].embedding)[0]
        texts = tuple((float(centres[index]), known[index]) for index in chosen)
        found[every] = Said(texts, len(chosen), seconds)
    return found


def _gated(model: Model, source: Source) -> Said:
    texts: list[Text] = []

    def watch(text: TextReport) -> None:
        if not text.told and text.text:  # the same again: it is no event, but it is the text of this time, too
            texts.append(((text.start + text.end) / 2, text.text))

    with model.narrate(source, watch_texts=watch) as run:
        texts += [(narration.begins, narration.text) for narration in run]
    return Said(tuple(sorted(texts, key=lambda text: text[0])), run.totals.decoder_runs, run.totals.video_seconds)
