"""The types that a model returns: windows, embeddings, texts, answers, moments and counts. Times are seconds."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .decisions import Decision


@dataclass(frozen=True)
class Window:
    """One clip window of a source.

    Attributes:
        index: its number within the source, from 0.
        start, end: of the clip, from the start of the source.

    Example:
        >>> from vlj_edge import Window
        >>> Window(index=2, start=1.0, end=3.0).centre
        2.0
    """

    index: int
    start: float
    end: float

    @property
    def centre(self) -> float:
        """The middle of the window, which is the time of its embedding."""
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class WindowEmbedding:
    """The embedding of one window.

    Attributes:
        embedding: float32 [embedding], unit length.
        encoded: False if this is the embedding of an earlier window, since the scene gate found the picture unchanged
            or the budget allowed no run of the encoder.
        at_rest: whether the picture is at rest in the middle of the window; None if that is not detected.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model:
        ...     item = next(model.embed("examples/media/demo.mp4"))
        >>> item.embedding.shape, item.window.end, item.encoded
        ((384,), 2.0, True)
    """

    window: Window
    embedding: npt.NDArray[np.float32]
    encoded: bool
    at_rest: bool | None = None


@dataclass(frozen=True)
class WindowAnswers:
    """The embeddings of one window under several queries.

    Attributes:
        embeddings: float32 [queries, embedding], each row of unit length.
        encoded: False if these are those of an earlier window, as for WindowEmbedding.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model:
        ...     item = next(model.ask("examples/media/demo.mp4", ["What is happening?", "Name the task."]))
        >>> item.embeddings.shape
        (2, 384)
    """

    window: Window
    embeddings: npt.NDArray[np.float32]
    encoded: bool


@dataclass(frozen=True)
class WindowReport:
    """What the gates decided about one window.

    Attributes:
        similarity: cosine to the embedding of the last text, -1..1; None if the window was not encoded or no text came
            before it.
        resting: whether the picture is at rest.
        spoke: whether the window led to a text.
        embedding: float32 [embedding], unit length; None if the window was not encoded.
        label: the nearest of the labels that a station watches for; None without such labels or embedding.
        decisions: of the rest detector, the meaning gate, and the scene gate for each window that was asked for.

    Example:
        >>> import vlj_edge
        >>> reports = []
        >>> with vlj_edge.load() as model:
        ...     texts = list(model.narrate("examples/media/demo.mp4", watch=reports.append))
        >>> len(reports), sum(report.spoke for report in reports) >= len(texts)
        (158, True)
    """

    window: Window
    similarity: float | None
    resting: bool
    spoke: bool
    embedding: npt.NDArray[np.float32] | None = None
    label: str | None = None
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Narration:
    """One text about a source.

    Attributes:
        start, end: of the window that it describes, or of the windows whose mean embedding it describes.
        origin: "decoder" if the decoder made it, "memory" if the caption memory had it, "words" if the model that
            narrate(words=...) names made it.
        similarity: cosine to the embedding of the text before, -1..1; None for the first.
        since: when what it tells of began, as far as the gates saw it; None: the middle of the window, which may be a
            little later, since a change has to settle.
        stand_in: with narrate(words=...): the bundle's own text, since the words are not there yet, or did not come.
        data: with a schema of words: the answer as plain JSON types; its text is the same as JSON.

    Example:
        >>> from vlj_edge import Narration
        >>> event = Narration(start=4.0, end=6.0, text="a drawer is opened", origin="decoder", since=4.5)
        >>> f"{event.begins} s: {event.text}"
        '4.5 s: a drawer is opened'
    """

    start: float
    end: float
    text: str
    origin: Literal["decoder", "memory", "words"]
    similarity: float | None = None
    since: float | None = None
    stand_in: bool = False
    data: Any = None

    @property
    def centre(self) -> float:
        """The middle of the window."""
        return (self.start + self.end) / 2

    @property
    def begins(self) -> float:
        """The time from which the text is shown: `since`, or the middle of the window."""
        return self.centre if self.since is None else self.since

    def replaces(self, shown: Narration | None) -> bool:
        """Return whether this text is the present one after another was shown: an answer about an earlier change is
        not, while the text of a later one stands in."""
        return shown is None or self.stand_in or not shown.stand_in or self.begins >= shown.begins

    def later(self, seconds: float) -> Narration:
        """Return the same narration with all its times `seconds` later."""
        since = None if self.since is None else self.since + seconds
        return replace(self, start=self.start + seconds, end=self.end + seconds, since=since)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class Guess:
    """One of several labels or choices.

    Attributes:
        score: probability, 0..1; the scores of all choices, or of all labels and none of them, add up to 1.
        similarity: cosine between its embedding and that of the source, -1..1; of a label of the model's own, its
            probability among all of them.

    Example:
        >>> from vlj_edge import Guess
        >>> Guess("opens the drawer", score=0.9, similarity=0.61).label
        'opens the drawer'
    """

    label: str
    score: float
    similarity: float


@dataclass(frozen=True)
class Classification:
    """Which label fits an interval of a source.

    Attributes:
        label: the nearest label; None if none of them fits.
        guesses: the nearest labels, best first, also if none of them fits.
        none_score: probability that none of the labels fits, 0..1; higher than every label's where `label` is None. Of
            labels of the model's own, 0 where one fits.

    Example:
        >>> from vlj_edge import Classification, Guess
        >>> guesses = (Guess("opens the drawer", score=0.06, similarity=0.36),)
        >>> nothing_fits = Classification(0.0, 2.0, label=None, guesses=guesses, none_score=0.94)
        >>> nothing_fits.label or "none of these", nothing_fits.score
        ('none of these', 0.94)
    """

    start: float
    end: float
    label: str | None
    guesses: tuple[Guess, ...]
    none_score: float = 0.0

    @property
    def score(self) -> float:
        """The probability of the answer: of `label`, or of none of them."""
        return self.none_score if self.label is None else self.guesses[0].score

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """The answer to a question about an interval of a source.

    Attributes:
        choice: the nearest of the choices that were given.
        guesses: all choices, best first.

    Example:
        >>> import vlj_edge
        >>> question, choices = "Is the drawer open or closed?", ["the drawer is open", "the drawer is closed"]
        >>> with vlj_edge.load() as model:
        ...     [answer] = vlj_edge.answer_questions(model, "examples/media/demo.mp4", [question], [choices])
        >>> answer.choice in choices, answer.end
        (True, 80.5)
    """

    question: str
    choice: str
    guesses: tuple[Guess, ...]
    start: float
    end: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class Moment:
    """An interval of a stored video that a search found.

    Attributes:
        file: absolute path of the video; of a camera its name and the time.
        score: cosine of its nearest window to the query, -1..1.
        best_start, best_end: of that window.
        thumbnail: a JPEG of it, at most 8 kB; None if none was stored.

    Example:
        >>> from vlj_edge import Moment
        >>> moment = Moment("/videos/kitchen.mp4", start=9.5, end=13.0, score=0.5612, best_start=10.0, best_end=12.0)
        >>> moment.as_dict()["score"]
        0.5612
    """

    file: str
    start: float
    end: float
    score: float
    best_start: float
    best_end: float
    thumbnail: bytes | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields; the score has four decimals, and the thumbnail is a
        data: URI, which an <img> shows."""
        return asdict(self) | {"score": round(self.score, 4), "thumbnail": _data_uri(self.thumbnail)}


def _data_uri(jpeg: bytes | None) -> str | None:
    """Return a JPEG as a data: URI."""
    return None if jpeg is None else f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


@dataclass
class Totals:
    """Counts of one run over a source; complete once the run has ended.

    Attributes:
        video_seconds: duration of the part of the source that was read.
        video_end: time in the source at which that part ends, seconds.
        wall_seconds: duration of the run.
        windows: clip windows that passed through the gates.
        windows_dropped: windows of a live source that were replaced by newer ones because the run was too slow.
        encoder_runs, predictor_runs: calls of these engines.
        tokens, tokens_kept: visual tokens of the clips that were encoded, and those that the engines were given.
        decoder_runs: texts that the decoder made.
        decoder_tokens: calls of the decoder engine, one a token, over all texts.
        memory_hits: texts that came from the caption memory.
        narrations: number of narrations, from the decoder or the caption memory.
        calls: requests of narrate(words=...) for the words of a change.
        calls_failed: those without an answer that could be used.
        calls_cut_off: those that the end of the run cut off, by Ctrl-C or close(), before there was an answer.
        calls_passed_over: changes of a live source that a newer one replaced while a call was made.
        calls_left_out: changes for which the limits of the words, or those of the server, allowed no call.
        call_tokens: of all calls, as far as the server counted them.
        call_seconds: duration of all calls.
        changes_left_out: changes that got no text because of `texts_per_hour`, and are over.
        looks_left_out: looks at a window that did not take place, or not in time, because of `encodes_per_minute`.

    Example:
        >>> from vlj_edge import Totals
        >>> Totals(windows=100, decoder_runs=20).decodes_saved
        5.0
    """

    video_seconds: float = 0.0
    video_end: float = 0.0
    wall_seconds: float = 0.0
    windows: int = 0
    windows_dropped: int = 0
    encoder_runs: int = 0
    predictor_runs: int = 0
    tokens: int = 0
    tokens_kept: int = 0
    decoder_runs: int = 0
    decoder_tokens: int = 0
    memory_hits: int = 0
    narrations: int = 0
    calls: int = 0
    calls_failed: int = 0
    calls_cut_off: int = 0
    calls_passed_over: int = 0
    calls_left_out: int = 0
    call_tokens: int = 0
    call_seconds: float = 0.0
    changes_left_out: int = 0
    looks_left_out: int = 0

    @property
    def decodes_saved(self) -> float:
        """Windows per decoder run: how many times more decoding every window would cost. inf without a decoder run."""
        return self.windows / self.decoder_runs if self.decoder_runs else float("inf")

    @property
    def calls_saved(self) -> float:
        """Windows per call: how many times more calls every window would cost. inf without a call."""
        return self.windows / self.calls if self.calls else float("inf")

    @property
    def real_time_factor(self) -> float:
        """Seconds of video per second of the run; above 1, it keeps up with a camera. inf if no time has passed."""
        return self.video_seconds / self.wall_seconds if self.wall_seconds else float("inf")

    def as_dict(self) -> dict[str, Any]:
        """Return the counts and the ratios as plain JSON types; an infinite ratio is None."""
        names = ("decodes_saved", "calls_saved", "real_time_factor")
        ratios = {name: getattr(self, name) for name in names}
        rounded = {name: round(value, 3) if value != float("inf") else None for name, value in ratios.items()}
        return asdict(self) | {"call_seconds": round(self.call_seconds, 3)} | rounded
