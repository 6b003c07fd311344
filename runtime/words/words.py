"""How the changes of one camera are put into words by a model elsewhere: what it is shown, and how often."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from vlj_edge.bundle import BudgetSettings
from vlj_edge.errors import VljEdgeError, without_secrets

from ..gating.budget import Budget
from ..gating.call_limits import DailyTokens, Pause, QuestionCalls
from ..gating.checks import Checks
from ..gating.clip_window import Embedding
from ..video.source import Image
from .chat_call import Closed, NoReply
from .endpoint import Endpoint, Interrupting
from .failures import Failures
from .numbers import check_number, check_whole
from .pictures import choose_pictures
from .prompt import WordsContext
from .reply import Reply, clean

Speak = Callable[[Sequence[Image], WordsContext], "str | Reply"]
FRAMES, FRAME_SIZE = 4, 512
CALLS_PER_HOUR = 30.0  # of an endpoint by a source that may never end
_TOKENS_OF_A_PICTURE, _CHARACTERS_OF_A_TOKEN = 256, 4  # where a server does not count: a guess
_PROMPT_TOKENS = 100
_MOST_REASON = 300  # characters of a function's error that are shown
_LOG = logging.getLogger(__name__)


class LimitKeys(NamedTuple):
    """The names by which a user changes the limits."""

    calls: str = "calls_per_hour"
    tokens: str = "tokens_per_day"


class Refusal(NamedTuple):
    """Why no call was made: which limit, and one line."""

    kind: Literal["calls", "tokens", "pause"]
    why: str


class Words:
    """Asks for the words of one camera, and keeps what its budget allows over all runs.

    Args:
        speak: an Endpoint, or any function (pictures, context) -> text; pictures are uint8 [height, width, 3] BGR, in
            order of time. It is called in a thread of its own, one call at a time. An exception is logged as one line.
        frames: the most pictures of a clip that it is shown.
        frame_size: the most pixels of their longer side.
        calls_per_hour: in the long run, by the times of the stream, for the largest changes; 0: no limit. None: 30 of
            an Endpoint by a source that may never end, such as a camera; no limit of a function, or by a recording.
            Questions have as many of their own. A call without an answer does not count.
        tokens_per_day: in any 24 hours by the clock; 0: no limit. A call that could go beyond it is not made.
        camera: the name of the source.

    Attributes:
        waits_at_end: returns whether the end of a run waits for the answer that is being made.
        has_questions: whether a tenth of the tokens of a day is left for them.
        keys: by which a user changes the limits.
        problem: why the latest call got no answer, one line; None: it did.

    Raises:
        VljEdgeError: an argument cannot be used.

    Example:
        >>> import vlj_edge
        >>> words = vlj_edge.Words(lambda pictures, context: f"{len(pictures)} pictures", calls_per_hour=30)
        >>> words.frames, words.frame_size
        (4, 512)
    """

    def __init__(
        self,
        speak: Speak,
        frames: int = FRAMES,
        frame_size: int = FRAME_SIZE,
        calls_per_hour: float | None = None,
        tokens_per_day: int = 0,
        camera: str = "",
    ) -> None:
        self.camera = camera
        self.waits_at_end: Callable[[], bool] = lambda: True
        self.has_questions, self.keys = False, LimitKeys()
        self.problem: str | None = None
        self.budget = Budget(BudgetSettings())
        self._live, self._told_of = False, set[str]()
        self._tokens, self._questions, self._failures = DailyTokens(), QuestionCalls(), Failures(_LOG)
        self._pause, self._begun_at = Pause(), 0.0
        self._latest = 0.0  # time of the latest window in the run
        self.configure(speak, frames, frame_size, calls_per_hour, tokens_per_day)

    def configure(
        self, speak: Speak, frames: int, frame_size: int, calls_per_hour: float | None, tokens_per_day: int
    ) -> None:
        """Change all but the camera, from the next run on. What the budget has saved up stays."""
        if not callable(speak):
            raise VljEdgeError(f"words are {type(speak).__name__}: give a function (pictures, context) -> text")
        calls = 0.0 if calls_per_hour is None else calls_per_hour
        check_number("calls_per_hour", calls)
        for name, whole in (("frames", frames), ("frame_size", frame_size), ("tokens_per_day", tokens_per_day)):
            check_whole(name, whole)
        if frames < 1 or frame_size < 16 or not 0 <= calls <= 1e6 or tokens_per_day < 0:
            raise VljEdgeError(
                f"words of {frames} pictures of {frame_size} pixels, {calls:g} calls an hour and"
                f" {tokens_per_day} tokens a day cannot be made: give 1, 16, 0 and 0 or more"
            )
        self._speak, self.frames, self.frame_size = speak, frames, frame_size
        self.in_json = isinstance(speak, Endpoint) and speak.in_json
        self._given = CALLS_PER_HOUR if calls_per_hour is None and isinstance(speak, Endpoint) else calls
        self._only_if_endless = calls_per_hour is None
        self._limit, self._tokens.limit = self._given, tokens_per_day
        self._questions.set_limit(self._limit)

    def begin(self, live: bool, endless: bool) -> None:
        """Begin a run; its times begin at 0.

        Args:
            live: they are those of the clock.
            endless: its source may never end.
        """
        self._live, self._limit = live, 0.0 if self._only_if_endless and not endless else self._given
        self._begun_at = time.monotonic() if live else 0.0
        self._questions.set_limit(self._limit)
        self.budget.begin(BudgetSettings(texts_per_hour=self._limit), self._begun_at)
        self._latest = 0.0
        self.end()

    def end(self) -> None:
        """End a run: the pause of a recording ends with its times."""
        if not self._live:
            self._pause.end()

    def advance(self, at: float) -> None:
        """Take the time of the latest window, seconds, in the run."""
        self._latest = at

    def take_call(self, at: float, similarity: float | None, embedding: Embedding) -> Refusal | None:
        """Take a call for a change, if there is one within all limits; return why there was none.

        Args:
            at: seconds, in the run.
            similarity: cosine of `embedding` to that of the last call, -1..1; None before the first.
        """
        if refusal := self._refusal(self.has_questions):
            return refusal
        if self._pause.left(self._begun_at + at):
            return Refusal("pause", "the last calls got no answer")
        if self.budget.allows_text(at, similarity, embedding, Checks()):
            return None
        return Refusal(
            "calls", f"{self._asked} is asked {self._limit:g} times an hour at most; {self.keys.calls} changes that"
        )

    def take_question(self) -> Refusal | None:
        """Take a call for a question, if there is one within the limits; return why there was none. The calls of
        changes are others."""
        if (refusal := self._refusal(False)) or self._questions.take():
            return refusal
        return Refusal("calls", f"{self._limit:g} questions an hour at most; {self.keys.calls} changes that")

    def give_question_back(self) -> None:
        """Give the call of a question back that was not made."""
        self._questions.give_back()

    def leave_out(self, refusal: Refusal) -> None:
        """Record that a change got no call. The first time that a limit is the reason, this is logged, but for a limit
        of calls that was asked for."""
        self.budget.change_is_over()
        if refusal.kind == "tokens" or (refusal.kind == "calls" and self._only_if_endless):
            if refusal.kind not in self._told_of:
                of = f"{self.camera}: " if self.camera else ""
                _LOG.warning("%sa change got no words: %s", of, refusal.why)
            self._told_of.add(refusal.kind)

    def end_call(self, answered: bool, at: float) -> None:
        """Record how a call for a change ended, at that time of the run, seconds: calls without an answer in a row are
        followed by pauses. There is none in a recording without a limit, where each change gets a call."""
        if answered:
            self._pause.end()
        elif self._live or self._limit:
            self._pause.add(self._begun_at + at, self._limit)

    def _refusal(self, keep_for_questions: bool) -> Refusal | None:
        if not self._tokens.allow(keep_for_questions):
            why = f"the {self._tokens.limit} tokens of 24 hours are used up, or nearly; {self.keys.tokens} changes that"
            return Refusal("tokens", why)
        if isinstance(self._speak, Endpoint) and self._speak.is_quiet:
            return Refusal("pause", f"{self._speak.shown} asked to be left alone for a while")
        return None

    def choose(self, pictures: Sequence[Image]) -> list[int]:
        """Return the positions of the pictures that are shown."""
        return choose_pictures(pictures, self.frames)

    def ask(
        self,
        pictures: Sequence[Image],
        context: WordsContext,
        interrupting: Interrupting,
        question: str | None = None,
    ) -> Reply:
        """Return the words for pictures, and count their tokens.

        Args:
            question: in place of an Endpoint's own prompt.

        Raises:
            NoReply: there are none.
        """
        try:
            reply = self._ask(pictures, context, interrupting, question)
        except NoReply as error:
            if error.tokens is not None:
                self._tokens.add(error.tokens)
            if not isinstance(error, Closed):  # which says nothing about the server: it may be answering
                self.problem = str(error)
                self._give_back(question)
            raise
        except Exception as error:
            self.problem = f"no words from {self._asked}: it failed inside vlj-edge ({type(error).__name__})"
            self._give_back(question)
            raise
        self.problem = None
        if not reply.text:
            self.problem = f"no words from {self._asked}: its answer is empty"
            self._give_back(question)
        elif question is not None:  # a server that answers questions is there for changes, too
            self._pause.end()
        guessed = _PROMPT_TOKENS + len(pictures) * _TOKENS_OF_A_PICTURE + len(reply.text) // _CHARACTERS_OF_A_TOKEN
        self._tokens.add(guessed if reply.tokens is None else reply.tokens)
        return reply

    def state(self) -> dict[str, Any]:
        """Return the limits and what is left of them, as plain JSON types; None: no limit. Where no answer came,
        `problem` says why, and `asks_again_in` in how many seconds the next change may get a call: by the clock, or of
        a recording, by its times."""
        return {
            "calls_per_hour": self._limit or None,
            "calls_saved_up": self.budget.texts_saved_up(self._now),
            "questions_saved_up": self._questions.left(),
            "tokens_per_day": self._tokens.limit or None,
            "tokens_left": self._tokens.left(),
            "problem": self.problem,
            "asks_again_in": round(self._pause.left(self._now), 1),
        }

    @property
    def _now(self) -> float:
        """The present time on the clock of the budget, as far as it is known."""
        return time.monotonic() if self._live else self._latest

    @property
    def _asked(self) -> str:
        return self._speak.shown if isinstance(self._speak, Endpoint) else _name(self._speak)

    def _give_back(self, question: str | None) -> None:
        """Give a call back that got no answer."""
        if question is None:
            self.budget.give_text_back()
        else:
            self.give_question_back()

    def _ask(
        self, pictures: Sequence[Image], context: WordsContext, interrupting: Interrupting, question: str | None
    ) -> Reply:
        if isinstance(self._speak, Endpoint):
            endpoint = self._speak if question is None else self._speak.asking(question)
            return endpoint.ask(pictures, context, interrupting)
        with interrupting(lambda: None):
            try:
                found = self._speak([np.array(picture) for picture in pictures], context)  # it may draw on them
            except NoReply:
                raise
            except BaseException as error:  # a caller's own function may raise anything, and the stream goes on
                why = str(error) if isinstance(error, VljEdgeError) else _described(error)
                raise self._failed(why) from None
        if inspect.iscoroutine(found):
            found.close()
            raise self._failed("it is async: give a function that is not")
        if not isinstance(found, str) and not (isinstance(found, Reply) and isinstance(found.text, str)):
            raise self._failed(f"it returned {type(found).__name__}, and a text is needed")
        self._failures.end(_name(self._speak))
        return Reply(clean(found).strip()) if isinstance(found, str) else found

    def _failed(self, why: str) -> NoReply:
        """Return the failure of a function."""
        line = without_secrets(str(VljEdgeError(f"no words from {_name(self._speak)}: {why}")))
        self._failures.add(line, self.camera)
        return NoReply(line)


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_MOST_REASON]
    except Exception:  # its text fails, too
        return type(error).__name__


def _name(function: object) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
