"""From a recording to proposed gates: the main path of calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from vlj_edge.bundle import GateSettings, LabelHead
from vlj_edge.errors import VljEdgeError, WrongCall

from ..embedding.own_labels import embed_label, has_own_labels
from ..model import Model
from ..words.label_head import choose_label
from .events import AnnotatedEvent
from .figures import QUANTILES, Blocks, Figures, cut, figures, resampled, total
from .knobs import Knobs
from .label_head import find_head
from .novelty import OWN_NOVEL_BELOW, NoveltyCandidates, NoveltyTrial, gated
from .record import Recording
from .reference import AnnotatedReference, EmbedText, OwnTextReference, captions_at
from .replay import SceneDecisions, Words, replay
from .search import EFFORT, ByBlock, Effort, Found, folds, held_out_choice, search
from .target import Target
from .tokens import TokenTrial, compare_tokens

LEAST_SECONDS = 60.0  # of a recording
_BLOCK_SECONDS, _FEWEST_BLOCKS, _MOST_BLOCKS = 12.0, 5, 20
_LEVELS = 10  # points of the curve
_NEAR = 0.02  # share of a limit by which figures may miss it

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Proposal:
    """What calibration found.

    Attributes:
        gates: proposed, or those in use.
        novel_below: the same for events of novelty; None for a bundle that makes texts.
        found: figures by block; see Found.
        target: what was wanted.
        curve: held-out figures at several rates of texts, lowest first.
        seconds: of the recording.
        annotated: whether the reference is annotations, and not the model's own texts.
        head: with annotations, the two numbers of a label head, proposed or in use; None: it has none.
        tokens: whether tokens may be left out; None: that was not compared.
    """

    gates: GateSettings
    novel_below: float | None
    found: Found[Any]
    target: Target
    curve: tuple[ByBlock, ...]
    seconds: float
    annotated: bool
    head: Found[LabelHead] | None = None
    tokens: TokenTrial | None = None

    @property
    def improved(self) -> bool:
        """Whether anything other than what is in use is proposed."""
        others = self.head is not None and self.head.improved, self.tokens is not None and self.tokens.holds
        return self.found.improved or any(others)

    def missed(self) -> dict[str, float]:
        """Return the figures of the proposed gates that miss their limits on time they were not chosen on, by name."""
        found = total(self.found.held_out if self.found.improved else self.found.own).as_dict()
        limits = {name: value for name, value in vars(self.target).items() if value is not None}
        return {
            name: found[name]
            for name, limit in limits.items()
            if (found[name] < limit * (1 - _NEAR) if name == "quality" else found[name] > limit * (1 + _NEAR))
        }

    def as_dict(self) -> dict[str, Any]:
        """Return targets and figures in plain JSON types."""
        rejected, head = self.found.rejected, self.head
        more = {} if head is None else {"label_head": _head_as_dict(head)}
        more |= {} if self.tokens is None else {"tokens": self.tokens.as_dict()}
        return {
            "improved": self.found.improved,
            "reference": "annotations" if self.annotated else "the model's own text of every window",
            "folds": len(folds(len(self.found.own))),
            "target": {name: value for name, value in vars(self.target).items() if value is not None},
            "missed": self.missed(),
            "held_out": summary(self.found.held_out),
            "fitted": total(self.found.fitted).as_dict(),
            "own": summary(self.found.own),
            "rejected": None if rejected is None else summary(rejected),
            "curve": [summary(point) for point in self.curve],
        } | more


def propose(
    model: Model,
    recording: Recording,
    target: Target | None = None,
    events: Sequence[AnnotatedEvent] | None = None,
    seed: int = 0,
    effort: Effort = EFFORT,
    progress: Progress = lambda step: None,
) -> Proposal:
    """Find gates for a camera.

    Args:
        model: that the recording was made with; its gates are those in use.
        target: None: the quality of the gates in use, at the least cost.
        events: annotations, in the recording's times; None: the reference is the model's own text of every window.
        progress: called with what is being done.

    Raises:
        VljEdgeError: the recording is too short, or the annotations are of another one.
    """
    _check(model, recording, target, events)
    makes_texts = model.chain.makes_texts
    count = int(min(max(recording.seconds // _BLOCK_SECONDS, _FEWEST_BLOCKS), _MOST_BLOCKS))
    clip = model.manifest.clip
    blocks = cut(recording.centres, count, clip.frames / clip.frames_per_second)
    scene = SceneDecisions(recording, model.manifest.gates.scene)
    head = None
    if events is not None and has_own_labels(model):
        head = find_head(model, recording, events, blocks, seed, effort, progress)
    own: Any
    candidates: Any
    measure_of: Callable[[Recording], Any]
    if makes_texts:
        measure_of = _measure_texts(
            model, recording, events, blocks, scene, progress, None if head is None else head.settings
        )
        own, candidates = model.manifest.gates, _knobs(model.manifest.gates, target)
    else:
        captions = None if events is None else [captions_at(events, time) for time in recording.centres.tolist()]
        measure_of = partial(_measure_novelty, captions, blocks, scene)
        own, candidates = OWN_NOVEL_BELOW, NoveltyCandidates()
    measure = measure_of(recording)
    wanted = target or Target(quality=total(measure(own)).quality)
    trials = effort.trials(count)
    found = search(
        measure, own, candidates, wanted, seed, effort, lambda done: progress(f"settings {done} of {trials} tried")
    )
    gates = found.settings if makes_texts else model.manifest.gates
    novel_below = None if makes_texts else found.settings
    tokens = compare_tokens(recording, lambda of: measure_of(of)(found.settings))
    return Proposal(
        gates, novel_below, found, wanted, curve(found), recording.seconds, events is not None, head, tokens
    )


def _check(model: Model, recording: Recording, target: Target | None, events: Sequence[AnnotatedEvent] | None) -> None:
    """Raise VljEdgeError if nothing can be found for this target on this recording."""
    if recording.seconds < LEAST_SECONDS:
        raise VljEdgeError(
            f"the recording has {recording.seconds:.0f} s: calibration needs {LEAST_SECONDS:.0f} s or more, and an hour"
            " with all that usually happens is better"
        )
    if events is not None and not any(captions_at(events, time) for time in recording.centres.tolist()):
        raise VljEdgeError("none of the events lies in the recording: give times from the start of the source")
    check_wanted(model, target, events)


def check_wanted(model: Model, target: Target | None, events: Sequence[AnnotatedEvent] | None) -> None:
    """Check what can be known before a recording is made, which may take an hour.

    Raises:
        VljEdgeError: the model makes no texts that the target is about, or has no such labels as the annotations.
    """
    if not model.chain.makes_texts and target is not None and target.encodes_per_minute is not None:
        raise WrongCall(
            f"{model.directory} makes no texts, so that only the picture decides what is encoded: give"
            " --texts-per-hour (of events) or --quality"
        )
    if events is not None and has_own_labels(model):
        for caption in {caption: None for event in events for caption in event.captions}:
            embed_label(model, caption)


def _head_as_dict(head: Found[LabelHead]) -> dict[str, Any]:
    return {
        "improved": head.improved,
        "none_below": head.settings.none_below,
        "lead": head.settings.lead,
        "held_out": summary(head.held_out),
        "own": summary(head.own),
    }


def curve(found: Found[Any]) -> tuple[ByBlock, ...]:
    """Return held-out figures for limits of texts an hour, from a sixteenth of those in use to twice as many."""
    in_use = max(total(found.own).texts_per_hour, 1.0)
    limits = in_use * np.geomspace(1 / 16, 2, _LEVELS)
    points = dict.fromkeys(held_out_choice(found, Target(texts_per_hour=float(limit))) for limit in limits)
    return tuple(sorted(points, key=lambda point: total(point).texts_per_hour))


def summary(found: ByBlock) -> dict[str, Any]:
    """Return the figures of all blocks, with bootstrap intervals of 95 % over blocks, in plain JSON types."""
    seconds, judged, agreed, texts, encodes, _ = resampled(found).T
    drawn = {
        "quality": agreed / judged,
        "texts_per_hour": 3600 * texts / seconds,
        "encodes_per_minute": 60 * encodes / seconds,
    }
    intervals = {
        f"{name}_interval": [round(float(value), 4) for value in np.quantile(values, QUANTILES)]
        for name, values in drawn.items()
    }
    return total(found).as_dict() | intervals


def _measure_novelty(
    captions: list[frozenset[str]] | None, blocks: Blocks, scene: SceneDecisions, recording: Recording
) -> Callable[[float], tuple[Figures, ...]]:
    """Return a function from novel_below to figures by block."""
    return NoveltyTrial(*gated(recording, scene), captions, blocks).measure


def _measure_texts(
    model: Model,
    recording: Recording,
    events: Sequence[AnnotatedEvent] | None,
    blocks: Blocks,
    scene: SceneDecisions,
    progress: Progress,
    head: LabelHead | None,
) -> Callable[[Recording], Callable[[GateSettings], tuple[Figures, ...]]]:
    """Return a function from a recording, of the same windows, to one from settings to figures by block."""
    words = Words(lambda embedding: model.chain.decode(embedding)[0])
    if head is not None:
        labels = model.chain.label_head[1]
        words = Words(lambda embedding: choose_label(model.chain.label_logits(embedding), labels, head))
    embed_text: EmbedText = partial(embed_label, model) if has_own_labels(model) else model.embed_text
    reference: Any
    if events is not None:
        reference = AnnotatedReference(events, recording.centres, embed_text)
    else:
        texts = []
        for number, window in enumerate(recording.windows, 1):
            progress(f"the model's text of window {number} of {len(recording.windows)}")
            texts.append(words.of(window.embedding))
        reference = OwnTextReference(texts, embed_text)
    return lambda of: lambda gates: figures(replay(of, gates, scene, words), reference, blocks)


def _knobs(own: GateSettings, target: Target | None) -> Knobs:
    wanted = None if target is None else target.encodes_per_minute
    return Knobs(own) if wanted is None else Knobs(own, min(600.0, max(20.0, 120 / wanted)))
