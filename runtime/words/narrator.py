"""Narrates a run in the words of a model elsewhere, which may take seconds for each of them, or never answer.

One call is made at a time. Of a live source nothing waits for it: the bundle's own text, if it has one, stands in until
the answer comes, and of the changes that come meanwhile the newest is asked about next. A recording waits for every
answer. Either way answers come in the order of the changes, with their times.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal, TypeAlias

from vlj_edge.decisions import Decision, TextReport
from vlj_edge.presets import Clip
from vlj_edge.results import Narration

from ..gating.answer_memory import AnswerMemory
from ..gating.clip_window import Embedding
from ..gating.embedding_noise import cosine
from ..gating.meaning import Change
from ..run_state import RunState
from ..stream.cancellation import WAKE, Cancelled
from ..stream.prefetch import Aside, prefetch
from ..video.source import Image
from .chat_call import NoReply
from .prompt import WordsContext, is_nothing_new
from .reply import Reply
from .words import Refusal, Words

Watch: TypeAlias = Callable[[TextReport], None]
_LOG = logging.getLogger(__name__)
_ROOM = 64  # changes and windows without one that may wait


@dataclass(eq=False)
class _Task:
    """A change, and what is known about it: its own narration has the text that stands in, which may be empty, and
    `stands_in` says whether that was told."""

    change: Change
    narration: Narration
    pictures: list[Image]
    times: tuple[float, ...]
    stands_in: bool = False


@dataclass(frozen=True)
class _Done(Aside):
    """A call that has ended: with a reply, or without one, after so many seconds."""

    task: _Task
    reply: Reply | None
    tokens: int
    seconds: float


class Narrator:
    """The words of one run.

    Args:
        words: what is asked, and how often.
        memory: of answers.
        run: its source, counts and cancellation; it makes the texts that stand in.
        clip: how long a window is.
        every_window: say also what was said before.
        watch: called with a report of each text.
    """

    def __init__(
        self,
        words: Words,
        memory: AnswerMemory,
        run: RunState,
        clip: Clip,
        every_window: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self._words, self._memory, self._run, self._live = words, memory, run, run.source.live
        self._totals, self._cancellation = run.totals, run.cancellation
        self._half = clip.frames / clip.frames_per_second / 2  # seconds between a window's centre and its end
        self._every_window, self._watch = every_window, watch
        self._tasks: SimpleQueue[Any] = SimpleQueue()
        self._inbox: SimpleQueue[Any] = SimpleQueue()  # answers; of a live source changes, too
        self._worker: Thread | None = None
        self._waiting: _Task | None = None  # for the call in progress to end, or for the budget
        self._asked: _Task | None = None  # in the call in progress
        self._asked_at = 0.0  # time.monotonic()
        self._refused: Refusal | None = None  # why there was no call for what waits
        self._now = 0.0  # seconds, of the latest window
        self._said = self._stood_in = ""  # last texts: answers, those that stand in
        self._shown: Narration | None = None  # the text that counts now, of either kind
        self._said_about: Embedding | None = None  # what the last call was about
        self._decision = Decision("memory", "decoded")

    def narrations(self, changes: Iterable[Change | float], overlap: bool) -> Generator[Narration, None, None]:
        """Yield the texts of a run.

        Args:
            changes: as they come, and the time of each window without one, seconds.
            overlap: whether they are made in a thread of their own; those of a live source always are.
        """
        source = self._run.source
        self._words.begin(self._live, not source.rereadable and (self._live or source.duration is None))
        made: Generator[Any, None, None] = (each for each in changes)
        if self._live:
            made = prefetch(changes, _ROOM, self._cancellation, also=self._inbox)
        elif overlap:
            made = prefetch(changes, _ROOM, self._cancellation)
        try:
            with closing(made):
                for item in made:
                    yield from self._take(item)
                    while self._asked is not None and not self._live:
                        yield from self._finished(self._next_answer())
            while self._asked is not None and self._words.waits_at_end():
                yield from self._finished(self._next_answer())
            yield from self._give_up_waiting()
        finally:
            self._count_cut_off()
            self._words.end()

    def _take(self, item: Change | float | _Done) -> Iterator[Narration]:
        if isinstance(item, _Done):
            yield from self._finished(item)
        elif isinstance(item, Change):
            yield from self._offer(item)
        else:
            self._now = item
            self._words.advance(self._now)
            yield from self._advance()

    def _offer(self, change: Change) -> Iterator[Narration]:
        """Take a change: it is answered, is asked about, or waits in place of the one that waited."""
        yield from self._give_up_waiting()
        self._now = max(self._now, change.last)
        self._words.advance(self._now)
        self._waiting = task = self._task(change)
        yield from self._advance()
        if self._live and task in (self._waiting, self._asked):
            yield from self._show(task, task.narration.text, "decoder", stand_in=True)

    def _advance(self) -> Iterator[Narration]:
        """Answer what waits from the memory, or ask about it, if nothing else is being asked and the budget allows."""
        task = self._waiting
        if task is None or self._asked is not None:
            return
        change = task.change
        recalled = self._memory.recall_unless(change.embedding, change.resting, self._said, change.apart)
        self._decision = self._memory.decision
        if recalled is not None:
            self._totals.memory_hits += 1
            self._waiting, self._refused, self._said_about = None, None, task.change.embedding
            yield from self._show(task, recalled, "memory")
            return
        self._refused = self._take_call(task)
        if self._refused is None:
            self._waiting, self._said_about = None, task.change.embedding
            self._start(task)
            self._asked = task

    def _take_call(self, task: _Task) -> Refusal | None:
        embedding = task.change.embedding
        similarity = None if self._said_about is None else cosine(embedding, self._said_about)
        return self._words.take_call(self._now, similarity, embedding)

    def _give_up_waiting(self) -> Iterator[Narration]:
        """Leave out the change that waits: a newer one has come, or the end."""
        task, self._waiting = self._waiting, None
        if task is None:
            return
        if self._refused is not None:
            self._totals.calls_left_out += 1
            self._words.leave_out(self._refused)
            self._refused = None
        else:
            self._totals.calls_passed_over += 1
        if not self._live:
            yield from self._show(task, task.narration.text, "decoder", stand_in=True)

    def _count_cut_off(self) -> None:
        """Count the call that the end of the run cuts off, if there is one."""
        if self._asked is not None:
            self._asked = None
            self._totals.calls += 1
            self._totals.calls_cut_off += 1
            self._totals.call_seconds += time.monotonic() - self._asked_at

    def _finished(self, done: _Done) -> Iterator[Narration]:
        """Take the end of a call, and go on to what waits."""
        self._asked = None
        task, reply, change = done.task, done.reply, done.task.change
        self._totals.calls += 1
        self._totals.call_seconds += done.seconds
        self._totals.call_tokens += done.tokens
        self._words.end_call(reply is not None and reply.text != "", self._now)
        if reply is None or not reply.text:
            self._totals.calls_failed += 1
            if not self._live:
                yield from self._show(task, task.narration.text, "decoder", stand_in=True)
        elif is_nothing_new(reply.text) and not self._words.in_json:
            if self._said:  # which holds for this meaning, too, and takes the place of what stood in
                self._memory.put(change.embedding, self._said, change.resting)
            if self._said or self._live:
                yield from self._show(task, self._said, "words")
            else:  # new compared with what? nothing was said yet
                yield from self._show(task, task.narration.text, "decoder", stand_in=True)
        else:
            self._memory.put(change.embedding, reply.text, change.resting)
            yield from self._show(task, reply.text, "words")
        yield from self._advance()

    def _show(
        self, task: _Task, text: str, origin: Literal["decoder", "memory", "words"], stand_in: bool = False
    ) -> Iterator[Narration]:
        """Yield the text of a change, unless it is the one that is shown already."""
        data = self._data_of(text, origin)
        narration = replace(task.narration, text=text, origin=origin, stand_in=stand_in, data=data)
        told = text != "" and self._is_news(narration, task)
        self._said = self._said if stand_in or not text else text
        self._report(narration, text, origin, told)
        if told:
            task.stands_in = stand_in
            if narration.replaces(self._shown):
                self._shown = narration
            self._totals.narrations += 1
            yield narration

    def _is_news(self, narration: Narration, task: _Task) -> bool:
        """Return whether a text is told: also the same text again, where another one has stood in meanwhile."""
        shown, is_answer = self._shown, not narration.stand_in
        if self._every_window or shown is None or (is_answer and task.stands_in):
            return True
        if narration.replaces(shown):
            return narration.text != shown.text or (is_answer and shown.stand_in)
        return narration.text != self._said

    def _data_of(self, text: str, origin: str) -> Any:
        """Return what an answer in JSON holds; the memory keeps its text."""
        return json.loads(text) if origin != "decoder" and self._words.in_json else None

    def _report(
        self, narration: Narration, text: str, origin: Literal["decoder", "memory", "words"], told: bool
    ) -> None:
        if self._watch is not None:
            self._watch(TextReport(narration.start, narration.end, text, origin, told, self._decision))

    def _task(self, change: Change) -> _Task:
        start, end = change.first - self._half, change.last + self._half
        stand_in = self._run.decode(change, self._stood_in)
        self._stood_in = stand_in or self._stood_in
        narration = Narration(start, end, stand_in, "decoder", change.similarity, change.since)
        chosen = self._words.choose(change.pictures)
        step = 2 * self._half / len(change.pictures)  # the pictures are those of the last window
        times = tuple(change.last - self._half + step * number for number in chosen)
        return _Task(change, narration, [change.pictures[number] for number in chosen], times)

    def _start(self, task: _Task) -> None:
        if self._worker is None:
            self._worker = Thread(target=self._work, name="vlj-edge words", daemon=True)
            self._cancellation.start(self._worker, self._tasks, self._inbox)
        self._asked_at = time.monotonic()
        about = task.narration
        like = "" if self._memory.like == self._said else self._memory.like
        texts = (self._words.camera, self._said, about.text)
        context = WordsContext(about.start, about.end, about.begins, task.times, *texts, about.similarity, like)
        self._tasks.put((task, context))

    def _next_answer(self) -> _Done:
        done: Any = self._inbox.get()
        self._cancellation.check()
        assert isinstance(done, _Done)
        return done

    def _work(self) -> None:
        """Make one call after the other, in a thread of its own."""
        while (entry := self._tasks.get()) is not WAKE and not self._cancellation.requested:
            task, context = entry
            begun, reply, tokens = time.monotonic(), None, None
            try:
                reply = self._words.ask(task.pictures, context, self._cancellation.interrupting)
                tokens = reply.tokens
            except NoReply as error:
                tokens = error.tokens
            except Cancelled:
                return
            except Exception as error:  # whoever waits for the answer must hear that there is none
                of, kind = f"{self._words.camera}: " if self._words.camera else "", type(error).__name__
                _LOG.warning("%sno words: it failed inside vlj-edge (%s): please report it", of, kind)
            self._inbox.put(_Done(task, reply, tokens or 0, time.monotonic() - begun))
