"""When a label head says "none of these", and how long it keeps a label: its two numbers, from annotated events.

Each window's text follows from its probabilities and the text before. It is right if it is a caption of what is
annotated there. Where nothing is annotated between the first event and the last, "none of these" is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import LabelHead

from ..embedding.own_labels import embed_label
from ..model import Model
from ..words.label_head import likeliest, softmax
from .events import AnnotatedEvent
from .figures import Blocks, Figures, figures
from .record import Recording
from .reference import captions_at
from .replay import Replay
from .search import Effort, Found, search
from .target import Target

_MOST_LEAD, _STEP, _TIDY = 0.6, 0.1, 2  # of probabilities; decimals
Probabilities = npt.NDArray[np.float32]  # [windows, labels]


@dataclass(frozen=True)
class HeadCandidates:
    """How candidates are made.

    Attributes:
        knows_nothing: whether there is time in which "none of these" is right. Without any, `none_below` stays.
    """

    own: LabelHead
    knows_nothing: bool

    def draw(self, rng: np.random.Generator) -> LabelHead:
        """Return numbers from anywhere in their ranges."""
        return self._head(rng.uniform(0, 1), rng.uniform(0, _MOST_LEAD))

    def vary(self, rng: np.random.Generator, settings: LabelHead) -> LabelHead:
        """Return numbers near some."""
        below, lead = rng.normal((settings.none_below, settings.lead), _STEP)
        return self._head(np.clip(below, 0, 1), np.clip(lead, 0, _MOST_LEAD))

    def _head(self, none_below: float, lead: float) -> LabelHead:
        below = round(float(none_below), _TIDY) if self.knows_nothing else self.own.none_below
        return replace(self.own, none_below=below, lead=round(float(lead), _TIDY))


class LabelReference:
    """The labels that are right at each window; see Reference.

    Args:
        captions: of each window, spelled as the model does.
    """

    def __init__(self, captions: Sequence[frozenset[str]]) -> None:
        annotated = [index for index, each in enumerate(captions) if each]
        self._captions, self._whole = captions, range(annotated[0], annotated[-1] + 1)

    @property
    def knows_nothing(self) -> bool:
        """Whether "none of these" is right somewhere."""
        return any(not self._captions[index] for index in self._whole)

    def judged(self, window: int) -> bool:
        """See Reference."""
        return window in self._whole

    def agrees(self, window: int, text: str) -> bool:
        """See Reference."""
        return text in self._captions[window] if self._captions[window] else not text


def find_head(
    model: Model,
    recording: Recording,
    events: Sequence[AnnotatedEvent],
    blocks: Blocks,
    seed: int,
    effort: Effort,
    progress: Callable[[str], None],
) -> Found[LabelHead]:
    """Find the two numbers by which the labels of windows are right for the longest time, or keep those in use.

    Raises:
        VljEdgeError: a caption is no label of the model.
    """
    _, labels = model.chain.label_head
    own = model.manifest.label_head
    assert own is not None, "label_head is an error without one"
    spelled = {
        caption: labels[int(embed_label(model, caption).argmax())] for each in events for caption in each.captions
    }
    captions = [
        frozenset(spelled[caption] for caption in captions_at(events, time)) for time in recording.centres.tolist()
    ]
    reference = LabelReference(captions)
    progress("the probabilities of the model's labels")
    seen = np.stack([softmax(model.chain.label_logits(window.embedding)) for window in recording.windows])

    def measure(head: LabelHead) -> tuple[Figures, ...]:
        return figures(label_each(seen, labels, head), reference, blocks)

    candidates = HeadCandidates(own, reference.knows_nothing)
    return search(
        measure, own, candidates, Target(), seed, effort, lambda done: progress(f"numbers of the label head {done}")
    )


def label_each(seen: Probabilities, labels: list[str], head: LabelHead) -> Replay:
    """Return what a label head says of every window in turn, "" for none of its labels."""
    standing, texts, last = [], np.zeros(len(seen), np.int64), ""
    for window, probabilities in enumerate(seen):
        text = likeliest(probabilities, labels, head, last)
        if text not in ("", last):
            texts[window], last = 1, text
        standing.append(text)
    none = np.zeros(len(seen), np.int64)
    return Replay(standing, texts, none, none)
