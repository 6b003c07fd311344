"""Asking a vision-language model before an alert fires: a question, some pictures, and a yes or a no."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from ..words.chat_call import NoReply
from ..words.pictures import smaller
from ..words.prompt import WordsContext
from ..words.words import Words

_LOG = logging.getLogger(__name__)
_GRACE = 0.5  # seconds for calls that are interrupted at the end
_FORM = "Answer with yes or no alone."
_Image = npt.NDArray[np.uint8]
OnAnswer = Callable[["bool | None"], None]


class Questions:
    """Questions that wait for an answer, each in a thread of its own. Callable from any thread.

    Args:
        words_of: returns what is asked about a source, with its budget; None: nothing.
    """

    def __init__(self, words_of: Callable[[str], Words | None]) -> None:
        self._words_of = words_of
        self._lock, self._closed = threading.Lock(), False
        self._interrupts: list[Callable[[], None]] = []
        self._open: list[tuple[threading.Thread, OnAnswer]] = []

    def put(self, source: str, question: str, pictures: Callable[[], Sequence[_Image]], on_answer: OnAnswer) -> None:
        """Ask, and call on_answer(), once, with True for yes, False for no, and None where there is no answer: it came
        too late or said neither, the budget of the words is used up, or the end came.

        Args:
            pictures: returns what is shown, uint8 [height, width, 3] BGR, in order of time; called in the thread.
        """
        words, on_answer = self._words_of(source), _once(on_answer)
        refusal = None if words is None else words.take_question()
        if words is None or refusal is not None:
            why = "no words yet" if refusal is None else refusal.why
            _LOG.warning("alert of %s: nobody was asked (%s)", source, why)
            on_answer(None)
            return

        def work() -> None:
            answer = None
            try:
                answer = self._ask(words, question, pictures())
            except NoReply:
                pass  # the endpoint has logged it
            except VljEdgeError as error:
                _LOG.warning("alert of %s: no answer (%s)", source, error)
            except Exception as error:  # the alert fires all the same
                _LOG.warning("alert of %s: no answer (%r)", source, error)
            on_answer(answer)

        thread = threading.Thread(target=work, name="confirm alert", daemon=True)
        with self._lock:
            self._open = [each for each in self._open if each[0].is_alive()]
            try:
                if not self._closed:
                    thread.start()
                    self._open.append((thread, on_answer))
                    return
            except RuntimeError as error:  # the system has no thread left
                _LOG.warning("alert of %s: nobody was asked (%s)", source, error)
        words.give_question_back()
        on_answer(None)

    def close(self) -> None:
        """Interrupt all calls: they have no answer, also those that cannot be interrupted."""
        with self._lock:
            self._closed = True
            interrupts, asked = list(self._interrupts), list(self._open)
        for interrupt in interrupts:
            interrupt()
        until = time.monotonic() + _GRACE
        for thread, on_answer in asked:
            thread.join(max(until - time.monotonic(), 0.0))
            on_answer(None)

    def _ask(self, words: Words, question: str, pictures: Sequence[_Image]) -> bool | None:
        if not pictures:
            words.give_question_back()
            raise VljEdgeError("there is no picture to show")
        small = [smaller(each, words.frame_size) for each in pictures]
        shown = [small[place] for place in words.choose(small)]
        context = WordsContext(0.0, 0.0, 0.0, camera=words.camera)
        reply = words.ask(shown, context, self._interrupting, f"{question}\n{_FORM}")
        answer = verdict(reply.text)
        if answer is None:
            _LOG.warning("%s: '%s' is no yes and no no", question, reply.text[:100])
        return answer

    @contextmanager
    def _interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            closed = self._closed
            self._interrupts.append(interrupt)
        if closed:
            interrupt()
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


def _once(on_answer: OnAnswer) -> OnAnswer:
    """Return a function that takes the first answer alone. Each call returns when that has been taken."""
    taking, taken = threading.Lock(), False

    def take(answer: bool | None) -> None:
        nonlocal taken
        with taking:
            if not taken:
                taken = True
                on_answer(answer)

    return take


def verdict(text: str) -> bool | None:
    """Return what an answer means: the yes or no that it begins with, or has alone; None: neither.

    >>> verdict("**No**, the door is closed."), verdict("The answer is yes."), verdict("Yes or no: who knows?")
    (False, True, True)
    >>> verdict("It could be yes or no.") is None
    True
    """
    words: list[str] = re.findall(r"[^\W_]+", text.casefold())
    found = set(words) & {"yes", "no"}
    if words and words[0] in ("yes", "no"):
        return words[0] == "yes"
    return "yes" in found if len(found) == 1 else None
