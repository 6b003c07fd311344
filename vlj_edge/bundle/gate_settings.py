"""The bundle: the only thing that passes between export and runtime.

A directory with `manifest.json`, one ONNX file an engine and the tokenizers. The manifest signs every file with size
and sha256; `engines/` (built on this device) is outside what it signs. Reading is strict: what does not match is
refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..schema import Positive


@dataclass(frozen=True)
class SceneGateSettings:
    """Skip the encoder while the picture stays that of the frame last encoded.

    Attributes:
        changed: luminance difference (0..1) above which a thumbnail cell has changed.
        cells: fraction (0..1) of cells that must have changed for the scene to have.
    """

    enabled: bool = True
    changed: float = 0.06
    cells: float = 0.004


@dataclass(frozen=True)
class RestSettings:
    """When does the picture stand still? What happens usually ends where it comes to rest, and begins where it moves.

    Attributes:
        changed: luminance difference (0..1) between neighbouring samples above which a thumbnail cell has moved.
        cells: fraction (0..1) of cells that must move for the picture to.
        seconds: a picture that stands still for less is not at rest.
    """

    enabled: bool = True
    changed: float = 0.03
    cells: float = 0.004
    seconds: float = 1.0


@dataclass(frozen=True)
class MeaningGateSettings:
    """Skip the decoder while the meaning stays what was last said, or has not settled. All cosines in -1..1.

    Attributes:
        smoothing: windows averaged into the embedding that is compared and decoded (1: none).
        calm_windows, calm_variance: the last `calm_windows` embeddings are calm when their mean squared distance to
            their mean is at most this (1 - |mean|^2 for unit vectors; for 2 windows (1 - cosine) / 2).
        speak_below: a change is pending once the cosine to what was last said falls below this,
        speak_below_at_rest: or, while the picture is at rest, below this: little can happen in a still picture,
        forget_above: and is dropped again if it rises above this before it was said (hysteresis). Nothing falls below a
            threshold of -1, so where one has it no window is encoded to be compared.
        look_every: seconds between two windows that are compared with what was said, as long as they mean the same;
            those between are not encoded. 0: every window. It grows as least_hold does.
        least_hold: seconds that must pass between two texts.
        hold_growth: share of least_hold and of look_every that is added to them with every further text of one
            movement, or of one rest: the longer it goes on, the less there is to add.
        longest_wait: seconds after which a pending change is said even if the stream has not calmed.
        settle: seconds between the moment at which a change is ready and the window that is said: by then it shows
            nothing of what was before.
        settle_moving, settle_resting: the same after the picture has begun to move, or has come to rest.
    """

    enabled: bool = True
    smoothing: int = 1
    calm_windows: int = 2
    calm_variance: float = 0.02
    speak_below: float = 0.85
    speak_below_at_rest: float = 0.85
    forget_above: float = 0.92
    look_every: float = 0.0
    least_hold: float = 0.5
    hold_growth: float = 0.0
    longest_wait: float = 3.0
    settle: float = 0.0
    settle_moving: float = 0.0
    settle_resting: float = 0.0


@dataclass(frozen=True)
class CaptionMemorySettings:
    """Say from memory what was said before, where the nearest stored embedding is near enough (cosine).

    Attributes:
        same: at or above this, the stored text stands for the embedding,
        same_at_rest: or at or above this, where the picture is at rest and was when the text was made, which has to
            have been made twice: what stands for every rest that looks alike must not rest on one error.
        capacity: texts.
    """

    enabled: bool = True
    same: float = 0.97
    same_at_rest: float = 0.97
    capacity: int = 256


@dataclass(frozen=True)
class GateSettings:
    """The gates' settings; the bundle carries the defaults that were calibrated with its weights."""

    scene: SceneGateSettings = SceneGateSettings()
    meaning: MeaningGateSettings = MeaningGateSettings()
    memory: CaptionMemorySettings = CaptionMemorySettings()
    rest: RestSettings = RestSettings()


@dataclass(frozen=True)
class LabelSettings:
    """How windows are compared with the texts that a person gives: labels, and choices of an answer.

    Attributes:
        query: what the predictor is asked about labels; empty: the default query.
        templates: a label's embedding is the mean of these wordings', in which "{}" stands for the label.
        temperature: cosines divided by it go through a softmax, and the scores mean how often they are right.
        none_below: cosine (-1..1) below which not even the nearest label is shown.
    """

    query: str = ""
    templates: tuple[str, ...] = ("{}",)
    temperature: Positive = 0.07
    none_below: float = -1.0
