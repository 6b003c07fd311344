"""Words of a model elsewhere: what comes when, of recordings and of live sources, and what it costs."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime.colours import GATES, NO_MEMORY, Pictures, scenes
from tests.runtime.lifetimes import Colours, nothing_runs, workers
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.runtime.words.endpoints import Answer, completion, endpoint
from tests.waiting import free_port, wait_for
from vlj_edge.bundle import CaptionMemorySettings
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Clip
from vlj_edge.results import Narration, Totals
from vlj_edge.runtime.gating.answer_memory import AnswerMemory
from vlj_edge.runtime.gating.meaning import Change
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.http import text_routes
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.sinks.console import JsonEvents
from vlj_edge.runtime.sinks.subtitles import SrtWriter
from vlj_edge.runtime.stream.cancellation import Cancellation, Cancelled
from vlj_edge.runtime.words.endpoint import Endpoint
from vlj_edge.runtime.words.narrator import Narrator
from vlj_edge.runtime.words.prompt import WordsContext, prompt_for
from vlj_edge.runtime.words.words import Words

SCENES = scenes((RED, 16), (BLUE, 16), (RED, 16), (GREEN, 16))
KNOWN: Any = SimpleNamespace(said=False, manifest=SimpleNamespace(embedding=8))
SHADES = {RED: "red", BLUE: "blue", GREEN: "green"}


def colour_of(pictures: Sequence[np.ndarray], context: WordsContext) -> str:
    """Say the colour of the last picture."""
    pixel = pictures[-1][0, 0].astype(int)
    return f"it is {SHADES[min(SHADES, key=lambda colour: abs(pixel - colour).sum())]}"


def said(narrations: list[Narration]) -> list[tuple[float, str, str, bool]]:
    return [(each.start, each.text, each.origin, each.stand_in) for each in narrations]


# A run whose changes, and whose answers, come when a test says so.


class Run:
    """What a narrator needs of a run; the bundle's own text of a change is its meaning in capitals."""

    def __init__(self, live: bool = True, own_texts: bool = True) -> None:
        self.source, self.totals, self.cancellation = Pictures([]), Totals(), Cancellation()
        self.source.live = live
        self._own_texts = own_texts

    def decode(self, change: Change, last: str) -> str:
        return f"MEANING {int(change.embedding.argmax())}" if self._own_texts else ""


def change(time: float, meaning: int, similarity: float = 0.0) -> Change:
    embedding = np.zeros(8, np.float32)
    embedding[meaning] = 1
    pictures = [np.full((16, 16, 3), 20 * meaning + shade, np.uint8) for shade in range(4)]
    return Change(embedding, similarity, time, time, time, False, None, pictures)


class Narrated:
    """A narrator over changes that tell() adds, and answers that answer() gives."""

    def __init__(self, live: bool = True, own_texts: bool = True, **limits: Any) -> None:
        self.run, self.found = Run(live, own_texts), list[Narration]()
        self.asked: list[WordsContext] = []
        self._answers, self._changes = [], list[Any]()
        self._more = threading.Condition()
        self._ended = False
        words = Words(self._speak, **limits)
        memory = AnswerMemory(CaptionMemorySettings(same=0.9), KNOWN)
        clip = Clip(frames=4, frames_per_second=2, stride=1)
        self.narrator = Narrator(words, memory, self.run, clip)  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self._narrate, daemon=True)
        self._thread.start()

    def tell(self, *changes: Change | float) -> None:
        with self._more:
            self._changes += changes
            self._more.notify_all()

    def answer(self, text: Any) -> None:
        with self._more:
            self._answers.append(text)
            self._more.notify_all()

    def texts(self, count: int) -> list[tuple[float, str, bool]]:
        """The time, text and mark of the first texts, once there are so many."""
        wait_for(lambda: len(self.found) >= count)
        return [(each.centre, each.text, each.stand_in) for each in self.found]

    def end(self) -> list[tuple[float, str, bool]]:
        with self._more:
            self._ended = True
            self._more.notify_all()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.texts(0)

    def _narrate(self) -> None:
        with suppress(Cancelled):
            self.found.extend(self.narrator.narrations(self._made(), overlap=True))
        self.run.cancellation.cancel()
        self.run.cancellation.join(60)

    def _made(self) -> Iterator[Change | float]:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._changes or self._ended, 60)
                if not self._changes:
                    return
                made = self._changes.pop(0)
            yield made

    def _speak(self, pictures: Sequence[np.ndarray], context: WordsContext) -> Any:
        self.asked.append(context)
        with self._more:
            assert self._more.wait_for(lambda: self._answers, 60)
            answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_a_text_of_the_bundle_stands_in_until_the_answer_comes() -> None:
    narrated = Narrated()
    narrated.tell(change(2, 1))
    assert narrated.texts(1) == [(2, "MEANING 1", True)]
    narrated.answer("a cat")
    assert narrated.texts(2)[1:] == [(2, "a cat", False)]
    assert narrated.found[0].origin == "decoder" and narrated.found[1].origin == "words"
    assert narrated.end() and narrated.run.totals.calls == 1


def test_of_the_changes_during_a_call_the_newest_is_asked_about_next() -> None:
    narrated = Narrated()
    narrated.tell(change(2, 1))
    narrated.texts(1)
    narrated.tell(change(3, 2), change(4, 3), change(5, 4))
    assert narrated.texts(4) == [(2 + number, f"MEANING {number + 1}", True) for number in range(4)]
    narrated.answer("one")
    narrated.answer("four")
    narrated.texts(6)
    found = narrated.end()
    assert found[4:] == [(2, "one", False), (5, "four", False)]  # in the order of the changes, with their times
    assert [context.begins for context in narrated.asked] == [2, 5]
    assert narrated.asked[1].last == "one" and narrated.asked[1].nearest == "MEANING 4"
    assert narrated.run.totals.calls_passed_over == 2


def test_a_bundle_without_texts_says_nothing_until_the_answer_comes() -> None:
    narrated = Narrated(own_texts=False)
    narrated.tell(change(2, 1))
    wait_for(lambda: narrated.asked)
    assert not narrated.found
    narrated.answer("a cat")
    assert narrated.texts(1) == [(2, "a cat", False)]
    narrated.end()


def test_the_memory_saves_a_call() -> None:
    narrated = Narrated()
    narrated.tell(change(2, 1))
    narrated.answer("a cat")
    narrated.texts(2)
    narrated.tell(change(3, 2))
    narrated.answer("a dog")
    narrated.texts(4)
    narrated.tell(change(9, 1))
    assert narrated.texts(5)[4:] == [(9, "a cat", False)]  # at once: nothing stands in
    assert narrated.found[4].origin == "memory"
    narrated.end()
    assert (narrated.run.totals.calls, narrated.run.totals.memory_hits) == (2, 1)


def test_an_answer_to_what_looked_much_alike_is_shown_to_the_model() -> None:
    narrated = Narrated()
    for meaning, text in ((1, "a cat"), (2, "a dog")):
        narrated.tell(change(1 + meaning, meaning))
        narrated.answer(text)
        narrated.texts(2 * meaning)
    near = np.zeros(8, np.float32)
    near[[1, 3]] = 0.8, 0.6
    narrated.tell(replace(change(4, 1), embedding=near))
    narrated.answer("a cat")
    narrated.texts(6)
    narrated.tell(change(5, 5))
    narrated.answer("a bird")
    narrated.texts(8)
    narrated.end()
    assert [(context.last, context.like) for context in narrated.asked] == [
        *(("", ""), ("a cat", ""), ("a dog", "a cat"), ("a cat", ""))
    ]
    assert '"a cat"' in prompt_for(None, narrated.asked[2]) and "like" not in prompt_for(None, narrated.asked[3])


def test_what_is_nothing_new_is_not_said() -> None:
    narrated = Narrated(own_texts=False)
    narrated.tell(change(2, 1))
    narrated.answer("a cat")
    narrated.texts(1)
    narrated.tell(change(3, 2))
    narrated.answer("Nothing new.")
    wait_for(lambda: narrated.run.totals.calls == 2)
    narrated.tell(change(4, 3))
    narrated.answer("a dog")
    narrated.texts(2)
    narrated.tell(change(5, 2))  # as of which the cat was said to be there still
    assert narrated.texts(3) == [(2, "a cat", False), (4, "a dog", False), (5, "a cat", False)]
    narrated.end()
    assert narrated.run.totals.calls == 3


def test_a_recording_of_which_nothing_new_is_the_first_answer_is_told_in_the_texts_of_the_bundle() -> None:
    narrated = Narrated(live=False)
    narrated.tell(change(2, 1), change(3, 2), change(4, 3), change(5, 4))
    for number, answer in enumerate(("Nothing new.", "Nothing new.", "a cat", "Nothing new.")):
        wait_for(lambda: len(narrated.asked) == number + 1)  # noqa: B023
        narrated.answer(answer)
    assert narrated.end() == [(2, "MEANING 1", True), (3, "MEANING 2", True), (4, "a cat", False)]
    assert narrated.run.totals.calls == 4 and narrated.run.totals.calls_failed == 0


def test_what_stood_in_for_nothing_new_gives_way_to_what_was_said_last() -> None:
    narrated = Narrated()
    narrated.tell(change(2, 1))
    narrated.answer("Nothing new.")  # than what? nothing was said yet: what stands in stays
    wait_for(lambda: narrated.run.totals.calls == 1)
    narrated.tell(change(3, 2))
    narrated.answer("a cat")
    narrated.texts(3)
    narrated.tell(change(4, 3))
    narrated.texts(4)
    narrated.tell(change(5, 4))
    narrated.texts(5)
    narrated.answer("Nothing new.")
    narrated.answer("a cat")
    narrated.texts(7)
    narrated.tell(change(9, 3))  # of which the model said that it is nothing new
    narrated.end()
    assert narrated.texts(0) == [
        *((2, "MEANING 1", True), (3, "MEANING 2", True), (3, "a cat", False)),
        *((4, "MEANING 3", True), (5, "MEANING 4", True), (4, "a cat", False), (5, "a cat", False)),
    ]
    told = [Event("hall", each, 1e9, number) for number, each in enumerate(narrated.found, 1)]
    subtitles, lines, shown = io.StringIO(), list[str](), None
    writer, as_json = SrtWriter(subtitles), JsonEvents(lines.append)
    for event in told:
        writer.add(event.narration)
        as_json.add(event, live=True)
        shown = event.narration if event.narration.replaces(shown) else shown
    writer.finish(9.0)
    assert shown is not None and shown.text == "a cat"  # what MQTT, a film and the page show
    cues = re.findall(r"(\d\d),000 --> .*\n(.*)", subtitles.getvalue())
    assert cues == [("02", "MEANING 1"), ("03", "a cat"), ("04", "a cat"), ("05", "a cat")]
    assert cues == re.findall(r"(\d\d),000 --> .*\n(.*)", text_routes._srt(told))
    for rows in (map(json.loads, lines), text_routes._dicts("hall", told)):
        last = {row["event_start"]: (row["text"], row.get("stand_in", False)) for row in rows}
        assert last == {2: ("MEANING 1", True), 3: ("a cat", False), 4: ("a cat", False), 5: ("a cat", False)}


def test_an_answer_that_stands_is_told_again_after_something_stood_in_for_no_answer() -> None:
    narrated = Narrated()
    narrated.tell(change(2, 1))
    narrated.texts(1)
    narrated.tell(change(3, 2))
    narrated.texts(2)
    narrated.answer("a cat")
    narrated.answer(OSError("down"))
    wait_for(lambda: narrated.run.totals.calls_failed == 1)
    narrated.tell(change(9, 1))  # recalled: until now the text of the change at 3 s stands
    assert narrated.texts(4)[2:] == [(2, "a cat", False), (9, "a cat", False)]
    narrated.end()


@pytest.mark.parametrize("live", [True, False])
def test_the_call_that_the_end_cuts_off_is_counted(live: bool) -> None:
    narrated = Narrated(live)
    narrated.tell(change(2, 1))
    wait_for(lambda: narrated.asked)
    narrated.run.cancellation.cancel()
    narrated.answer("too late")
    narrated._thread.join(60)
    totals = narrated.run.totals
    assert (totals.calls, totals.calls_cut_off, totals.calls_failed) == (1, 1, 0) and totals.call_seconds > 0


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "answer",
    [ValueError("the model\nburns" * 9999), SystemExit(3), KeyboardInterrupt(), Unprintable(), 7, None, b"a", "", "  "],
)
def test_without_an_answer_the_text_that_stands_in_stays(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    narrated = Narrated()
    narrated.tell(change(2, 1))
    narrated.answer(answer)
    wait_for(lambda: narrated.run.totals.calls_failed == 1)
    narrated.tell(change(3, 2))
    narrated.answer("a dog")
    assert narrated.texts(3) == [(2, "MEANING 1", True), (3, "MEANING 2", True), (3, "a dog", False)]
    narrated.end()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (not isinstance(answer, str)) and not any("\n" in line or len(line) > 400 for line in lines)


@pytest.mark.parametrize("live", [True, False])
def test_a_fault_of_ours_in_a_call_keeps_nobody_waiting(live: bool, caplog: pytest.LogCaptureFixture) -> None:
    narrated = Narrated(live)
    narrated.narrator._words.ask = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    narrated.tell(change(2, 1))
    assert narrated.texts(1) == [(2, "MEANING 1", True)]
    narrated.end()
    assert narrated.run.totals.calls_failed == 1 and "report it" in caplog.records[0].getMessage()


def test_a_recording_waits_for_every_answer() -> None:
    narrated = Narrated(live=False)
    narrated.tell(*(change(2 + number, number) for number in range(5)))
    for number in range(5):
        wait_for(lambda: len(narrated.asked) == number + 1)  # noqa: B023
        narrated.answer(f"text {number}" if number != 3 else RuntimeError("no"))
    found = narrated.end()
    assert found == [(2 + n, f"text {n}" if n != 3 else "MEANING 3", n == 3) for n in range(5)]
    totals = narrated.run.totals
    assert (totals.calls, totals.calls_failed, totals.calls_passed_over) == (5, 1, 0)


@pytest.mark.parametrize("live", [True, False])
def test_the_budget_is_for_the_largest_changes(live: bool) -> None:
    """60 an hour, and three saved up: within ten minutes at most thirteen of the hundred changes are asked about."""
    narrated = Narrated(live, calls_per_hour=60)
    times = np.arange(1, 101) * 6.0
    for number, time in enumerate(times):
        embedding = np.zeros(8, np.float32)
        size = 1.0 if number % 10 == 0 else 0.2  # how much of it is not as in the last one
        embedding[[0, 1 + number % 7]] = (1 - size, size)
        told = replace(change(time, 1), embedding=embedding / np.linalg.norm(embedding))
        narrated.answer(f"text {number}")
        narrated.tell(told, time + 3)
        wait_for(lambda: not narrated._changes and narrated.narrator._asked is None)
    narrated.end()
    totals = narrated.run.totals
    assert 5 <= totals.calls <= 13
    assert totals.calls_left_out > 40
    assert narrated.narrator._words.state()["calls_per_hour"] == 60


def test_a_change_that_lasts_is_asked_about_when_a_call_is_saved_up() -> None:
    narrated = Narrated(live=False, calls_per_hour=6)
    narrated.answer("first")
    narrated.answer("second")
    narrated.tell(change(1, 1), change(2, 2), *map(float, range(3, 1300)))
    found = narrated.end()
    assert found == [(1, "first", False), (2, "second", False)]  # with the time of the change


def test_an_endpoint_may_go_away_and_come_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    port = free_port()
    narrated = Narrated()
    narrated.narrator._words = Words(Endpoint(f"http://127.0.0.1:{port}/v1", timeout=0.5), calls_per_hour=0)
    for number in range(4):
        narrated.tell(change(2 + number, number))
        wait_for(lambda: narrated.run.totals.calls_failed == number + 1)  # noqa: B023
    with endpoint(port=port):
        narrated.tell(change(9, 5))
        assert narrated.texts(6)[4:] == [(9, "MEANING 5", True), (9, "a cat sleeps", False)]
    narrated.tell(change(12, 6))
    wait_for(lambda: narrated.run.totals.calls_failed == 5)
    narrated.end()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and "refused" in lines[0] and "again, after 4" in lines[1] and "refused" in lines[2]


def test_tokens_of_a_day_are_kept() -> None:
    with endpoint(lambda request: Answer(completion("a cat", {"total_tokens": 400}))) as server:
        words = Words(Endpoint(server.url), tokens_per_day=1000)
        with_tokens = Narrated(live=False)
        with_tokens.narrator._words = words
        with_tokens.tell(*(change(2 + number, number) for number in range(5)))
        found = with_tokens.end()
        assert len(server.got) == 2 and with_tokens.run.totals.call_tokens == 800
        assert [stand_in for _, _, stand_in in found] == [False, True, True, True]  # "a cat" again is not said
        assert words.state()["tokens_left"] == 200


class Recording(Pictures):
    duration = 16.0  # of Pictures it is not known


def test_a_model_narrates_a_recording_in_the_words_of_a_function(model: Model) -> None:
    run = model.narrate(Pictures(SCENES), gates=GATES, words=colour_of)
    assert said(list(run)) == [
        (0.5, "it is red", "words", False),
        (4.5, "it is blue", "words", False),
        (8.5, "it is red", "memory", False),
        (12.5, "it is green", "words", False),
    ]
    totals = run.totals
    assert (totals.calls, totals.memory_hits, totals.narrations) == (3, 1, 4)
    assert totals.calls_saved == totals.windows / 3
    nothing_runs()


def test_a_function_gets_pictures_of_the_source_in_order(model: Model) -> None:
    got: list[tuple[list[Any], WordsContext]] = []

    def look(pictures: Sequence[np.ndarray], context: WordsContext) -> str:
        got.append(([picture.shape for picture in pictures], context))
        return f"text {len(got)}"

    list(model.narrate(Pictures(SCENES), gates=NO_MEMORY, words=Words(look, frames=2, frame_size=16, camera="hall")))
    assert len(got) == 4 and got[2][1].last == "text 2" and got[2][1].camera == "hall"
    for shapes, context in got:
        assert shapes[0] == (11, 16, 3) and len(shapes) == len(context.times) <= 2
        assert list(context.times) == sorted(context.times)
        assert all(context.start <= time < context.end for time in context.times)


def test_a_function_that_fails_is_told_once(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    async def later(pictures: Sequence[np.ndarray], context: WordsContext) -> str:
        return "too late"

    run = model.narrate(Pictures(SCENES), gates=NO_MEMORY, words=later)  # type: ignore[arg-type]
    assert all(each.stand_in for each in run)
    assert run.totals.calls_failed == 4 and ["async" in each.getMessage() for each in caplog.records] == [True]


def test_a_function_may_draw_on_its_pictures(model: Model) -> None:
    def look(pictures: Sequence[np.ndarray], context: WordsContext) -> str:
        text = colour_of(pictures, context)
        for picture in pictures:
            picture[:] = 0
        return text

    run = model.narrate(Pictures(SCENES), gates=NO_MEMORY, every_window=True, words=look)
    assert {each.text for each in run} == {"it is red", "it is blue", "it is green"}


def test_a_server_that_asks_for_a_pause_is_not_called(model: Model) -> None:
    with endpoint(lambda request: Answer(b"", 429, {"Retry-After": "3600"})) as server:
        run = model.narrate(Recording(SCENES), gates=NO_MEMORY, words=Endpoint(server.url))
        assert all(each.stand_in for each in run)
        assert len(server.got) == run.totals.calls == 1 and run.totals.calls_left_out == 3


def test_a_live_source_gets_texts_that_stand_in(model: Model) -> None:
    answering = threading.Event()

    def late(pictures: Sequence[np.ndarray], context: WordsContext) -> str:
        answering.wait(60)
        return f"words {context.begins}"

    source = Colours(pause=0.01, live=True, colours=(RED,) * 4 + (BLUE,) * 4 + (GREEN,) * 4)
    with model.narrate(source, gates=NO_MEMORY, words=late) as run:
        found = [next(run) for _ in range(5)]
        assert all(each.stand_in and each.origin == "decoder" for each in found)
        answering.set()
        while (answer := next(run)).origin != "words":
            pass
        assert answer.text == f"words {found[0].begins}" and answer.begins == found[0].begins
    assert run.totals.calls >= 1
    nothing_runs()


@pytest.mark.parametrize("live", [True, False])
def test_closing_interrupts_a_call(model: Model, live: bool) -> None:
    with endpoint(lambda request: Answer(completion("late"), wait=100)) as server:
        words = Endpoint(server.url, timeout=100)
        run = model.narrate(Colours(pause=0.01, live=live), gates=GATES, words=Words(words))
        narrating = threading.Thread(target=lambda: list(run))
        narrating.start()
        wait_for(lambda: server.got)
        run.close()
        narrating.join(60)
        assert not narrating.is_alive()
        assert (run.totals.calls, run.totals.calls_cut_off) == (1, 1)
        wait_for(lambda: not workers())


def test_a_function_that_never_returns_does_not_hold_up_closing(model: Model) -> None:
    begun, release = threading.Event(), threading.Event()

    def hang(pictures: Sequence[np.ndarray], context: WordsContext) -> str:
        begun.set()
        release.wait(120)
        return "too late"

    run = model.narrate(Colours(pause=0.01), gates=GATES, words=hang)
    narrating = threading.Thread(target=lambda: list(run))
    narrating.start()
    try:
        assert begun.wait(60)
        run.close()
        narrating.join(60)
        assert not narrating.is_alive()
    finally:
        release.set()
    wait_for(lambda: not workers())


def test_every_window_is_said_without_gates(model: Model) -> None:
    run = model.narrate(Pictures(SCENES[:12]), every_window=True, words=lambda pictures, context: "the same")
    assert [each.text for each in run] == ["the same"] * run.totals.windows
    assert run.totals.calls == run.totals.windows


def test_an_answer_in_json_is_passed_on(model: Model) -> None:
    schema = {"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]}
    numbers = iter(range(9))
    with endpoint(lambda request: Answer(completion(json.dumps({"people": next(numbers)})))) as server:
        words = Words(Endpoint(server.url, schema=schema))
        found = list(model.narrate(Recording(SCENES), gates=GATES, words=words))
    assert [each.data for each in found] == [{"people": 0}, {"people": 1}, {"people": 0}, {"people": 2}]
    assert [json.loads(each.text) for each in found] == [each.data for each in found]


@pytest.mark.parametrize(
    "limits",
    [
        {"frames": 0},
        {"frame_size": 2},
        {"calls_per_hour": -1},
        {"calls_per_hour": float("nan")},
        {"tokens_per_day": -1},
        {"frames": "4"},
        {"frames": 2.5},
        {"frame_size": 99.5},
        {"calls_per_hour": "30"},
        {"tokens_per_day": None},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(VljEdgeError):
        Words(colour_of, **limits)


def test_what_is_no_function_is_refused(model: Model) -> None:
    with pytest.raises(VljEdgeError, match="function"):
        model.narrate(Pictures(SCENES), words="a cat")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "limit", "calls"), [(Pictures, None, 1), (Pictures, 0, 4), (Recording, None, 4), (Recording, 1, 1)]
)
def test_an_endpoint_is_asked_about_what_may_never_end_so_often_and_not_more(
    model: Model, source: type[Pictures], limit: float | None, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = iter(range(9))
    with endpoint(lambda request: Answer(completion(f"text {next(numbers)}"))) as server:
        words = Words(Endpoint(server.url), calls_per_hour=limit, camera="hall")
        run = model.narrate(source(SCENES), gates=NO_MEMORY, words=words)
        list(run)
    assert run.totals.calls == len(server.got) == calls and run.totals.calls_left_out == 4 - calls
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (limit is None and calls == 1) and all("calls_per_hour" in line for line in lines)
    assert words.state()["calls_per_hour"] == (30 if limit is None and source is Pictures else limit or None)


class Paced(Recording):
    live, rereadable = True, True  # one of several recordings, which are played in real time


def test_a_recording_that_is_played_in_real_time_ends_too(model: Model) -> None:
    with endpoint(lambda request: Answer(completion("a text"))) as server:
        words = Words(Endpoint(server.url))
        list(model.narrate(Paced(SCENES), gates=NO_MEMORY, words=words))
    assert words.state()["calls_per_hour"] is None


def test_a_function_is_asked_about_every_change(model: Model) -> None:
    run = model.narrate(Pictures(SCENES), gates=NO_MEMORY, words=colour_of)
    list(run)
    assert run.totals.calls == 4 and run.totals.calls_left_out == 0
