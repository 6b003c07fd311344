"""What the runtime hands to its caller."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Window:
    """One clip window of a source. Times in seconds from the start of the source.

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
        """The time that an embedding of this window is stamped with."""
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class WindowEmbedding:
    """The embedding of one window: float32, shape (embedding,), L2-normalised.

    Attributes:
        encoded: False where the scene gate found the picture unchanged and the last embedding stands.
        at_rest: the picture stands still in the middle of the window; None where that was not watched.

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
    """One window under several queries: float32, shape (queries, embedding), each row L2-normalised.

    Attributes:
        encoded: as of WindowEmbedding.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model:
        ...     item = next(model.ask("examples/media/demo.mp4", ["What happens?", "Which object is moved?"]))
        >>> item.embeddings.shape
        (2, 384)
    """

    window: Window
    embeddings: npt.NDArray[np.float32]
    encoded: bool


@dataclass(frozen=True)
class WindowReport:
    """What the gates made of one window.

    Attributes:
        cosine: to what was last said, -1..1; None where the window was not encoded, or nothing was said before.
        resting: the picture stood still.
        spoke: there was something to say.
        embedding: float32 [embedding], unit length; None where the window was not encoded.
        label: the nearest of those that a station watches for; None where none are, or the window was not encoded.

    Example:
        >>> import vlj_edge
        >>> reports = []
        >>> with vlj_edge.load() as model:
        ...     texts = list(model.narrate("examples/media/demo.mp4", watch=reports.append))
        >>> len(reports), sum(report.spoke for report in reports) >= len(texts)
        (158, True)
    """

    window: Window
    cosine: float | None
    resting: bool
    spoke: bool
    embedding: npt.NDArray[np.float32] | None = None
    label: str | None = None


@dataclass(frozen=True)
class Narration:
    """One thing said. `start` and `end` bound the clip window, or the windows averaged, that it describes; seconds.

    Attributes:
        text: what the decoder, or the caption memory, makes of the embedding.
        origin: "decoder" when the decoder engine ran, "memory" when the text was known from before.
        similarity: cosine to the embedding of what was said before; None for the first.

    Example:
        >>> from vlj_edge import Narration
        >>> event = Narration(start=4.0, end=6.0, text="a drawer is opened", origin="decoder")
        >>> f"{event.centre} s: {event.text}"
        '5.0 s: a drawer is opened'
    """

    start: float
    end: float
    text: str
    origin: Literal["decoder", "memory"]
    similarity: float | None = None

    @property
    def centre(self) -> float:
        """The time that the text is stamped with, as Window.centre."""
        return (self.start + self.end) / 2

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, in the order of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class Guess:
    """A label or choice, its score (0..1, all together 1), and the cosine that the score is made of.

    Example:
        >>> from vlj_edge import Guess
        >>> Guess("opens the drawer", score=0.9, cosine=0.61).label
        'opens the drawer'
    """

    label: str
    score: float
    cosine: float


@dataclass(frozen=True)
class Classification:
    """What a stretch of a source shows, seconds.

    Attributes:
        label: the nearest label, or None for none of them.
        guesses: the nearest labels, the nearest first, whether or not one of them is the answer.

    Example:
        >>> from vlj_edge import Classification, Guess
        >>> nothing_fits = Classification(0.0, 2.0, label=None, guesses=(Guess("opens the drawer", 1.0, 0.12),))
        >>> nothing_fits.label or "none of these"
        'none of these'
    """

    start: float
    end: float
    label: str | None
    guesses: tuple[Guess, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """The answer to a question about a stretch of a source, seconds; `guesses` are all choices, the nearest first.

    Example:
        >>> import vlj_edge
        >>> choices = ["the drawer is open", "the drawer is closed"]
        >>> with vlj_edge.load() as model:
        ...     [answer] = vlj_edge.answer_questions(model, "examples/media/demo.mp4", ["Which is it?"], [choices])
        >>> answer.choice in choices, answer.end
        (True, 80.5)
    """

    question: str
    choice: str
    guesses: tuple[Guess, ...]
    start: float
    end: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Moment:
    """A stretch of a video that was found; times in seconds.

    Attributes:
        file: absolute path.
        score: cosine (-1..1) of the nearest window in it.
        best_start, best_end: of that window.

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

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"score": round(self.score, 4)}


@dataclass
class Totals:
    """Counts of one pass over a source; complete once the generator has ended.

    Attributes:
        video_seconds: length of the part of the source that was seen.
        wall_seconds: time that took.
        windows: clip windows seen.
        windows_dropped: windows of a live source that a newer one replaced before there was time for them.
        encoder_runs, predictor_runs, decoder_runs: engine work; one decoder run is one text, not one token.
        decoder_tokens: calls of the decoder engine, over all texts.
        memory_hits: texts that came from the caption memory.
        said: texts that left the pipeline.

    Example:
        >>> from vlj_edge import Totals
        >>> Totals(windows=100, decoder_runs=20).decodes_saved
        5.0
    """

    video_seconds: float = 0.0
    wall_seconds: float = 0.0
    windows: int = 0
    windows_dropped: int = 0
    encoder_runs: int = 0
    predictor_runs: int = 0
    decoder_runs: int = 0
    decoder_tokens: int = 0
    memory_hits: int = 0
    said: int = 0

    @property
    def decodes_saved(self) -> float:
        """Decoder runs of narrating every window, divided by those that were made. inf when none was made."""
        return self.windows / self.decoder_runs if self.decoder_runs else float("inf")

    @property
    def real_time_factor(self) -> float:
        """Seconds of video handled in a second of wall time; above 1 keeps up with a camera."""
        return self.video_seconds / self.wall_seconds if self.wall_seconds else float("inf")

    def as_dict(self) -> dict[str, Any]:
        """The counts and the two ratios; a ratio that is not finite is None, which JSON can carry."""
        ratios = {"decodes_saved": self.decodes_saved, "real_time_factor": self.real_time_factor}
        return asdict(self) | {k: round(v, 3) if v != float("inf") else None for k, v in ratios.items()}
