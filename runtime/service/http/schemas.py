"""What comes in and goes out, as the OpenAPI description shows it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Label = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class Problem(BaseModel):
    """What is wrong, with what, and what to do: one line."""

    error: str


class Settings(BaseModel):
    """What to go on with; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    speak_below: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    least_hold: Seconds | None = None
    look_every: Seconds | None = None
    longest_wait: Seconds | None = None
    labels: Annotated[list[Label], Field(max_length=100)] | None = None


class Said(BaseModel):
    """The newest text."""

    number: int
    clock: float
    start: float
    end: float
    text: str


class SourceState(BaseModel):
    """One source."""

    name: str
    state: str
    error: str | None
    query: str
    labels: list[str]
    label: str | None
    threshold: float
    gates: dict[str, dict[str, Any]]
    counts: dict[str, float | int | None]
    last: Said | None


class Watts(BaseModel):
    """Power, where the system says it."""

    watts: float | None
    celsius: float | None
    source: str


class State(BaseModel):
    """Everything at a glance."""

    version: str
    preset: str
    uptime: float
    memory_megabytes: float
    power: Watts
    clients: int
    store: bool
    saves: bool
    sources: list[SourceState]


class Saved(BaseModel):
    """The file's name, without its folder."""

    saved: str


class Found(BaseModel):
    """A moment of the library."""

    file: str
    start: float
    end: float
    score: float
    best_start: float
    best_end: float


class Moments(BaseModel):
    """The nearest first."""

    moments: list[Found]


class Embedded(BaseModel):
    """One window of a clip."""

    start: float
    end: float
    encoded: bool
    embedding: list[float]


class Embeddings(BaseModel):
    """All windows of a clip."""

    windows: list[Embedded]


class Ranked(BaseModel):
    """A label or choice."""

    label: str
    score: float
    cosine: float


class Classified(BaseModel):
    """What a clip shows; null for none of the labels."""

    start: float
    end: float
    label: str | None
    guesses: list[Ranked]


class Answered(BaseModel):
    """What a clip answers."""

    question: str
    choice: str
    guesses: list[Ranked]
    start: float
    end: float


class Health(BaseModel):
    """All is well."""

    status: str
