"""Settings of the gates and of labels, as the manifest stores them. The gates themselves are in runtime/gating."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..schema import Positive, Range
from ..time_text import SECONDS

_Seconds = Annotated[float, SECONDS]


@dataclass(frozen=True)
class SceneGateSettings:
    """When to skip the vision encoder: while the clip shows the same picture as the one that was last encoded.

    Pictures are compared as thumbnails of their luminance, cell by cell, in the same light and place.

    Attributes:
        enabled: False encodes every window.
        changed: luminance difference, 0..1, above which a cell counts as changed, and the light of the whole picture.
        cells: fraction of changed cells, 0..1, from which on the scene counts as changed.
        times_noise: a cell must also differ by more than this many times what it differs by while nothing happens.
        shaking: of a shake of the camera (in cells) times the local contrast, how much is tolerated at edges.

    Example:
        >>> import vlj_edge
        >>> vlj_edge.SceneGateSettings(enabled=False).enabled
        False
    """

    enabled: bool = True
    changed: float = 0.06
    cells: float = 0.004
    times_noise: float = 6.0
    shaking: float = 0.1


@dataclass(frozen=True)
class RestSettings:
    """When the picture counts as being at rest, that is, nothing in it moves.

    Events tend to end where movement stops and to begin where it starts; the meaning gate uses both moments.

    Attributes:
        enabled: False: rest is not detected.
        changed: luminance difference, 0..1, between neighbouring samples above which a thumbnail cell counts as moved.
        cells: fraction of moved cells, 0..1, from which on the picture counts as moving.
        times_noise: a cell must also differ by more than this many times what it differs by while nothing happens,
            which is learned from the stream.
        shaking: of a shake of the camera (in cells) times the local contrast, how much is tolerated at edges.
        seconds: the shortest time without movement that counts as rest.

    Example:
        >>> import vlj_edge
        >>> vlj_edge.RestSettings(seconds=2.0).seconds
        2.0
    """

    enabled: bool = True
    changed: float = 0.006
    cells: float = 0.004
    seconds: _Seconds = 1.0
    times_noise: float = 6.0
    shaking: float = 0.1


@dataclass(frozen=True)
class MeaningGateSettings:
    """When to skip the decoder: while the meaning is that of the last text, or has not settled.

    A change becomes pending when the cosine between a window's embedding and that of the last text falls below a
    threshold. It is dropped if the cosine rises above a higher threshold first (hysteresis). It is ready once the
    embeddings are calm, and is turned into text some time later. Cosines are -1..1, times are seconds.

    Attributes:
        enabled: False makes a text of every window.
        smoothing: number of windows, from 1, whose mean embedding is compared and decoded.
        calm_windows: number of windows, from 1, that must be calm before a text.
        calm_variance: those windows are calm if their mean squared distance to their mean is at most this: 1 - |mean|^2
            of unit vectors, for two windows (1 - cosine) / 2.
        speak_below: cosine below which a change becomes pending. -1 turns the comparison off: no window is encoded for
            it. This and the next three are lowered in a stream whose embeddings always waver by more.
        speak_below_at_rest: the same while the picture is at rest, where little can happen.
        forget_above: cosine above which a pending change is dropped; at least as high as the two above.
        same_above: cosine above which the picture's coming to rest or beginning to move says nothing new; at 1
            they always get a text.
        look_every: time between two windows that are compared with the last text while nothing is pending; the windows
            between them are not encoded. 0 compares every window.
        longest_look: the same at most. Between two turns from movement to rest or back, look_every grows by half with
            every further text, up to this: the longer one state lasts, the less there is to add. Where things in the
            picture often begin or stop moving while others go on, look_every shrinks by a third instead.
        look_at_rest: the same while the picture is at rest. The gate is never blind for longer than the longer of both.
        least_hold: the shortest time between two texts.
        longest_wait: time after which a pending change is ready even if the embeddings are not calm.
        settle: time between the moment a change is ready and the window that is decoded, which then shows nothing of
            the scene before.
        settle_moving: the same if the change is that the picture has begun to move; and the time between the moment
            that something begins or stops moving while something else goes on and the window that is compared.
        settle_resting: the same if the change is that the picture has come to rest.
        relative: the cosines, and those of the caption memory, are for a space in which unrelated scenes have a cosine
            of 0, as if nothing was calibrated for this model. In a stream whose moments are nearer to each other they
            are raised, as far as the stream shows that a scene wavers by less.

    Example:
        >>> import vlj_edge
        >>> vlj_edge.MeaningGateSettings(speak_below=0.8).speak_below
        0.8
    """

    enabled: bool = True
    smoothing: int = 1
    calm_windows: int = 2
    calm_variance: float = 0.02
    speak_below: float = 0.85
    speak_below_at_rest: float = 0.85
    forget_above: float = 0.92
    same_above: float = 1.0
    look_every: _Seconds = 0.0
    longest_look: _Seconds = 0.0
    look_at_rest: _Seconds = 0.0
    least_hold: _Seconds = 0.5
    longest_wait: _Seconds = 3.0
    settle: _Seconds = 0.0
    settle_moving: _Seconds = 0.0
    settle_resting: _Seconds = 0.0
    relative: bool = False


@dataclass(frozen=True)
class CaptionMemorySettings:
    """When to skip the decoder although there is something to say: an earlier text with nearly the same embedding fits.

    Attributes:
        enabled: False decodes every text.
        same: cosine, -1..1, from which on an earlier text is used again.
        same_at_rest: the same while the picture is at rest. Only texts made at rest are considered, and only if at
            least three of them agree: a text that is reused at every similar rest must not depend on one error.
        capacity: number of texts that are kept.

    Example:
        >>> import vlj_edge
        >>> vlj_edge.CaptionMemorySettings(capacity=64).capacity
        64
    """

    enabled: bool = True
    same: float = 0.97
    same_at_rest: float = 0.97
    capacity: int = 256


@dataclass(frozen=True)
class BudgetSettings:
    """How many texts and encoder runs a stream gets at most, in the long run. 0: no limit.

    With a limit, the largest changes get the texts; what lasts is said within 2 / texts_per_hour hours of the last
    text. What was left out is in Totals.

    Attributes:
        texts_per_hour: texts that the decoder makes or the caption memory has, an hour of the stream.
        encodes_per_minute: runs of the vision encoder, a minute of the stream. The gates look less often, first where
            little is to be expected.

    Example:
        >>> import vlj_edge
        >>> vlj_edge.BudgetSettings(texts_per_hour=20).encodes_per_minute
        0.0
    """

    texts_per_hour: float = 0.0
    encodes_per_minute: float = 0.0


@dataclass(frozen=True)
class GateSettings:
    """The settings of all gates. A bundle carries those that were calibrated with its weights.

    Example:
        >>> import vlj_edge
        >>> vlj_edge.GateSettings(scene=vlj_edge.SceneGateSettings(enabled=False)).scene.enabled
        False
    """

    scene: SceneGateSettings = SceneGateSettings()
    meaning: MeaningGateSettings = MeaningGateSettings()
    memory: CaptionMemorySettings = CaptionMemorySettings()
    rest: RestSettings = RestSettings()
    budget: BudgetSettings = BudgetSettings()


NO_GATES = GateSettings(
    SceneGateSettings(enabled=False),
    MeaningGateSettings(enabled=False),
    CaptionMemorySettings(enabled=False),
    RestSettings(enabled=False),
)


@dataclass(frozen=True)
class LabelHead:
    """How the logits of a model that was trained on some labels become texts. Defaults are not calibrated.

    Attributes:
        file: of the labels, one a line, in the order of the logits, relative to the bundle.
        none_below: probability, 0..1, below which even the likeliest label is not told.
        lead: the probability by which another label must exceed the last one.
    """

    file: str
    none_below: Annotated[float, Range(0, 1)] = 0.2
    lead: Annotated[float, Range(0, 1)] = 0.1


@dataclass(frozen=True)
class KnownSettings:
    """What embeddings look like on data that the model knows (runtime/gating/known.py).

    Attributes:
        file: axes that known data lies close to, orthogonal, of any length, int8 or float [embedding, axes], in
            the bundle.
        most: squared length, 0..1, outside of the axes' span, of the mean embedding of several pictures; what has more
            is not known.
        most_of_few: the same for fewer than four pictures.
        says: what is told then: what the model knows, and what to do.
    """

    file: str
    most: Annotated[float, Range(0, 1)]
    most_of_few: Annotated[float, Range(0, 1)]
    says: str


@dataclass(frozen=True)
class LabelSettings:
    """How windows are compared with texts that a user gives: labels, and the choices of a question.

    Attributes:
        query: the query that the predictor gets for labels; empty: the bundle's default query.
        templates: wordings of a label, with "{}" in its place; a label's embedding is their mean.
        temperature: cosines are divided by it before the softmax, so that scores are the probability of being right.
        none_below: if even the nearest label has a lower cosine, -1..1, the answer is none of them.
        bias: of a model whose scores are independent of each other, as SigLIP's: the sigmoid of cosine / temperature
            + bias. None: scores are a softmax over the labels.
        search_floor: cosine, -1..1, below which a search of a library for a text finds nothing; -1: there is no floor.
        caveat: one line about scores that are not made as the model was trained to; empty: they are.
    """

    query: str = ""
    templates: tuple[str, ...] = ("{}",)
    temperature: Positive = 0.07
    none_below: float = -1.0
    bias: float | None = None
    search_floor: Annotated[float, Range(-1, 1)] = -1.0
    caveat: str = ""
