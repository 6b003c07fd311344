"""Request and response schemas that are not already dataclasses of vlj_edge.results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from vlj_edge.results import Narration

Label = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class Problem(BaseModel):
    """One line: what is wrong, with what, and what to do."""

    error: str


class SettingsChange(BaseModel):
    """New settings of a source; those that are left out stay unchanged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    speak_below: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    least_hold: Seconds | None = None
    look_every: Seconds | None = None
    longest_wait: Seconds | None = None
    texts_per_hour: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    encodes_per_minute: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    calls_per_hour: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    labels: Annotated[list[Label], Field(max_length=100)] | None = None


@dataclass(frozen=True, kw_only=True)
class LastNarration(Narration):
    """The newest narration of a source: `number` counts them, `clock` is the unix time at which it was made."""

    number: int
    clock: float


class WordsState(BaseModel):
    """Words from an endpoint: where they come from, the limits, and what is left of them (of calls about changes, of
    questions of alerts, of tokens); null: no limit. `problem` is why the last call got no answer (null: it
    did), `asks_again_in` the seconds until the next change may get a call after that."""

    endpoint: str
    calls_per_hour: float | None
    calls_saved_up: float | None
    questions_saved_up: float | None
    tokens_per_day: int | None
    tokens_left: int | None
    problem: str | None
    asks_again_in: float


class SourceState(BaseModel):
    """One source: its settings, its counters and its newest narration."""

    name: str
    state: str
    error: str | None
    query: str
    labels: list[str]
    label: str | None
    threshold: float
    gates: dict[str, dict[str, Any]]
    counts: dict[str, float | int | None]
    last: LastNarration | None
    words: WordsState | None = None


class PowerReading(BaseModel):
    """Power and temperature; null if the system does not report them."""

    watts: float | None
    celsius: float | None
    source: str


class SinkState(BaseModel):
    """A destination of texts: how many wait for it, were delivered, and were lost. `refused` counts
    those queued that are set aside: alerts until somebody mends its address or key, and what fails while others are
    delivered."""

    name: str
    queued: int
    delivered: int
    missed: int
    last_error: str | None
    refused: int


class AlertState(BaseModel):
    """An alert on a source: whether its condition holds (idle, pending, asking, firing, cooling), the score of the last
    window, and the event that goes on or was the last."""

    alert: str
    source: str
    state: str
    score: float | None
    above: float
    events: int
    event: str | None
    since: float | None


class AlertRecord(BaseModel):
    """An event of an alert: when it was told, began and ended (unix times), its highest score so far, whether a model
    has confirmed it (null: none was asked), and whether there are a picture and a clip of it."""

    event: str
    alert: str
    source: str
    clock: float
    since: float
    ended: float | None
    score: float
    confirmed: bool | None
    picture: bool
    clip: bool


class ModelState(BaseModel):
    """What the model can be asked: whether it takes a query, whether any text can be a label or be searched for, and
    the labels of its own where those are the only ones."""

    takes_query: bool
    takes_labels: bool
    own_labels: list[str]


class State(BaseModel):
    """The state of the server and of all its sources."""

    version: str
    preset: str
    model: ModelState
    backend: str
    uptime: float
    memory_megabytes: float
    power: PowerReading
    clients: int
    store: bool
    saves: bool
    sources: list[SourceState]
    sinks: list[SinkState]


class Saved(BaseModel):
    """Name of the file that settings were saved in, without its folder."""

    saved: str


class FoundMoment(BaseModel):
    """One moment of the library: the name of its video, its interval, and that of its nearest window, in seconds;
    `thumbnail` is a data: URI of a JPEG, where one was stored."""

    file: str
    start: float
    end: float
    score: float
    best_start: float
    best_end: float
    thumbnail: str | None


class Moments(BaseModel):
    """Moments of the library, the nearest first; `nearest` is the score of the nearest one even if nothing was found,
    since none has the least score, and null if the library is empty."""

    moments: list[FoundMoment]
    nearest: float | None


class EmbeddedWindow(BaseModel):
    """One window of a clip and its embedding; `encoded` is false if the picture had not changed."""

    start: float
    end: float
    encoded: bool
    embedding: list[float]


class Embeddings(BaseModel):
    """All windows of a clip."""

    windows: list[EmbeddedWindow]


class Health(BaseModel):
    """Every source works, has been read to its end, or is waited for; with what is waited for, and why, by its name."""

    status: str
    waits: dict[str, str] | None = None
