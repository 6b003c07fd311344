"""Response schemas of what the gates decided."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GatesQuery(BaseModel):
    """Which windows are asked for: those after the `number` of an earlier response."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, le=2**53)


class CheckState(BaseModel):
    """One comparison of a gate, as vlj_edge.Check; a value of null is infinite."""

    name: str
    value: float | None
    operator: str
    bound: float
    as_set: float
    holds: bool


class DecisionState(BaseModel):
    """What one gate decided, as vlj_edge.Decision."""

    gate: str
    verdict: str
    checks: list[CheckState]
    cause: str | None
    window: int | None
    noise: float | None
    unrelated: float | None


class WindowDecisions(BaseModel):
    """What the gates decided about one window: as data, and in words. `time` is its middle, in seconds."""

    time: float
    similarity: float | None
    resting: bool
    spoke: bool
    decisions: list[DecisionState]
    rest: str
    rest_why: str
    encoder: str
    meaning: str
    why: str


class TextDecision(BaseModel):
    """Where one text came from; `told` is false of one that is the same as the one before."""

    time: float
    text: str
    origin: str
    told: bool
    decision: DecisionState
    why: str


class ThresholdState(BaseModel):
    """A limit of the gates that follows noise: the setting, the limit now, and why it differs."""

    name: str
    as_set: float
    now: float
    why: str


class NoiseState(BaseModel):
    """What the gates have learned of a source.

    `typical` and `highest` are luminance differences (0..1) of a cell between two pictures, `always_moving` the share
    of the picture that always moves, `cosine` that of one look at the resting picture to the next. `moments` is that of
    two moments of the last half minute and `scenes` that of scenes near to each other, where the gates follow them;
    null: not known, or all moments are alike.
    """

    pictures: int
    typical: float
    highest: float
    always_moving: float
    shakes: bool
    looks: int
    cosine: float
    moments: float | None
    scenes: float | None


class GatesState(BaseModel):
    """What the gates of a source decided in the last minute, and what they go by now; `number` counts the windows."""

    name: str
    number: int
    noise: NoiseState
    thresholds: list[ThresholdState]
    windows: list[WindowDecisions]
    texts: list[TextDecision]
