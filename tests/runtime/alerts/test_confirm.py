"""Alerts that are confirmed by a vision-language model first: yes, no, neither, too late, no budget, and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLUE, GREEN
from tests.runtime.words.endpoints import Answer, completion, endpoint
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.runtime.alerts import watch as watches
from vlj_edge.runtime.alerts.confirm import Questions, verdict
from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.alerts.settings import Alert
from vlj_edge.runtime.alerts.tell import Around
from vlj_edge.runtime.alerts.watch import AlertWatch
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.alert_event import AlertEvent
from vlj_edge.runtime.words.endpoint import Endpoint
from vlj_edge.runtime.words.settings import WordsSettings
from vlj_edge.runtime.words.words import Words

QUESTION = "Is the door open? yes or no"
DOOR = Alert("door", ("green",), ("red", "blue"), rule=Rule(0.6, 0.4, 0.0, 0.0), confirm=QUESTION)
PICTURE = np.zeros((32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(by_hand.build(tmp_path_factory.mktemp("confirm") / "bundle")) as loaded:
        yield loaded


@contextmanager
def watching(
    model: Model, words: Words | None, told: list[AlertEvent], journal: AlertJournal | None = None
) -> Iterator[Callable[[tuple[int, int, int]], None]]:
    """Yield look(colour), which shows the alert a window of a camera that begins anew; a second passes with each."""
    seconds, again = iter(range(10**6)), iter(range(0, -(10**6), -1))
    around = Around(words_of=lambda source: words)
    watch = AlertWatch(model, told.append, journal, around, now=lambda: float(next(seconds)))
    watch.apply([DOOR], {"hall": None})
    watch.restore()

    def look(colour: tuple[int, int, int]) -> None:
        watch.add("hall", None, next(again), by_hand.embedding_of(colour), lambda: PICTURE)

    look.watch = watch  # type: ignore[attr-defined]
    try:
        yield look
    finally:
        watch.close()


def phase(look: Callable[..., None]) -> str:
    [status] = look.watch.statuses()  # type: ignore[attr-defined]
    return "asking" if status.asking else str(status.state.phase)


def test_yes_fires_and_the_end_follows(model: Model) -> None:
    told: list[AlertEvent] = []
    with (
        endpoint(lambda request: Answer(completion("Yes."))) as server,
        watching(model, Words(Endpoint(server.url), camera="hall"), told) as look,
    ):
        look(GREEN)
        wait_for(lambda: told)
        assert phase(look) == "firing"
        look(BLUE)
        assert [event.kind for event in told] == ["start", "end"]
        [asked] = server.got
    start = told[0]
    assert start.confirmed is True and start.as_dict()["confirmed"] is True and start.picture is not None
    assert QUESTION in asked.text and "response_format" not in asked.body and len(asked.parts) == 2


def test_no_fires_nothing_and_is_asked_again_later(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "ASK_AGAIN", 5.0)
    told: list[AlertEvent] = []
    with (
        endpoint(lambda request: Answer(completion("No, it is closed."))) as server,
        watching(model, Words(Endpoint(server.url)), told) as look,
    ):
        look(GREEN)
        wait_for(lambda: phase(look) == "cooling")
        [status] = look.watch.statuses()  # type: ignore[attr-defined]
        assert status.events == 0 and status.event is None
        for _ in range(3):
            look(GREEN)
        assert len(server.got) == 1
        server.then = lambda request: Answer(completion("yes"))
        for _ in range(5):
            look(GREEN)
        wait_for(lambda: told)
        assert len(server.got) == 2 and told[0].confirmed is True
        look(BLUE)
    assert [event.kind for event in told] == ["start", "end"]


@pytest.mark.parametrize(
    "answer", [Answer(completion("maybe")), Answer(b"", 500), Answer(completion("")), Answer(b"{")]
)
def test_without_an_answer_it_fires_and_says_so(model: Model, answer: Answer) -> None:
    told: list[AlertEvent] = []
    with (
        endpoint(lambda request: answer) as server,
        watching(model, Words(Endpoint(server.url, timeout=0.5)), told) as look,
    ):
        look(GREEN)
        wait_for(lambda: told)
        look(BLUE)
    assert [(event.kind, event.confirmed) for event in told] == [("start", False), ("end", None)]
    assert "not confirmed" in told[0].sentence and told[0].as_dict()["confirmed"] is False


def held(gate: threading.Event, text: str) -> Callable[[object], Answer]:
    """An endpoint's answer that comes once the gate is open."""

    def answer(request: object) -> Answer:
        gate.wait(120)
        return Answer(completion(text))

    return answer


def test_it_holds_no_stream_up_and_an_end_waits_for_its_beginning(model: Model) -> None:
    told, gate = list[AlertEvent](), threading.Event()
    with (
        endpoint(held(gate, "yes")) as server,
        watching(model, Words(Endpoint(server.url, timeout=200.0)), told) as look,
    ):
        look(GREEN)
        wait_for(lambda: server.got)
        assert phase(look) == "asking" and not told
        look(BLUE)  # returns although nobody has answered
        assert not told
        gate.set()
        wait_for(lambda: len(told) == 2)
    assert [(event.kind, event.confirmed) for event in told] == [("start", True), ("end", None)]


def test_an_event_that_is_over_and_was_none_is_not_told(model: Model) -> None:
    told, gate = list[AlertEvent](), threading.Event()
    with (
        endpoint(held(gate, "no")) as server,
        watching(model, Words(Endpoint(server.url, timeout=200.0)), told) as look,
    ):
        look(GREEN)
        look(BLUE)
        gate.set()
        wait_for(lambda: phase(look) == "cooling")
    assert told == []


def test_calls_count_in_the_budget_of_the_words(model: Model) -> None:
    told: list[AlertEvent] = []
    answer = Answer(completion("yes", {"total_tokens": 60}))
    with endpoint(lambda request: answer) as server:
        words = Words(Endpoint(server.url), calls_per_hour=60, tokens_per_day=100)
        words.begin(live=True, endless=True)
        with watching(model, words, told) as look:
            for number in range(2):
                look(GREEN)
                wait_for(lambda number=number: len(told) == 2 * number + 1)
                look(BLUE)
        assert len(server.got) == 1 and words.state()["tokens_left"] == 40
    assert [event.confirmed for event in told if event.kind == "start"] == [True, False]
    limited = Words(Endpoint("http://127.0.0.1:9/v1"), calls_per_hour=1)
    limited.begin(live=True, endless=True)
    refused = [limited.take_question() for _ in range(10)]
    assert refused[0] is None and refused[-1] is not None and "calls_per_hour" in refused[-1].why
    assert Words(lambda pictures, context: "").take_question() is None


def test_a_question_that_nobody_was_asked_costs_no_call() -> None:
    words = Words(lambda pictures, context: "yes", calls_per_hour=30)
    words.begin(live=True, endless=True)
    answers: list[bool | None] = []
    questions = Questions(lambda source: words)
    questions.put("hall", QUESTION, lambda: [], answers.append)
    wait_for(lambda: answers == [None])
    questions.close()
    questions.put("hall", QUESTION, lambda: [PICTURE], answers.append)
    assert answers == [None, None]
    assert words.state()["questions_saved_up"] == 5


def test_narrations_leave_an_alert_its_questions(model: Model) -> None:
    told: list[AlertEvent] = []
    with endpoint(lambda request: Answer(completion("yes"))) as server:
        words = Words(Endpoint(server.url), calls_per_hour=1)
        words.begin(live=True, endless=True)
        while words.take_call(0.0, 0.0, by_hand.embedding_of(BLUE)) is None:
            pass
        with watching(model, words, told) as look:
            look(GREEN)
            wait_for(lambda: told)
    assert [event.confirmed for event in told] == [True]


def test_the_end_interrupts_the_call_and_tells_it_unconfirmed(model: Model, tmp_path: Path) -> None:
    told, journal = list[AlertEvent](), AlertJournal(tmp_path)
    with endpoint(lambda request: Answer(completion("late"), wait=200)) as server:
        with watching(model, Words(Endpoint(server.url, timeout=200.0)), told, journal) as look:
            look(GREEN)
            wait_for(lambda: server.got)
            begun = time.monotonic()
        wait_for(lambda: told)
        assert time.monotonic() - begun < 100
    assert [(event.kind, event.confirmed) for event in told] == [("start", False)]
    assert journal.latest(1)[0].confirmed is False
    journal.close()


@pytest.mark.parametrize("kind", ["retried", "hanging"])
def test_a_stop_while_it_is_asked_tells_it_once_as_not_confirmed(model: Model, tmp_path: Path, kind: str) -> None:
    told, journal, gate = list[AlertEvent](), AlertJournal(tmp_path), threading.Event()
    asked = threading.Event()

    def hang(pictures: object, context: object) -> str:
        asked.set()
        gate.wait(120)
        return "yes"

    with endpoint(lambda request: Answer(b"", 503)) as server:
        words = Words(Endpoint(server.url, timeout=200.0) if kind == "retried" else hang)
        with watching(model, words, told, journal) as look:
            look(GREEN)
            wait_for(lambda: len(server.got) > 1 if kind == "retried" else asked.is_set())
            assert not told
        kept = list(told)
        gate.set()
        wait_for(lambda: not [each for each in threading.enumerate() if each.name == "confirm alert"])
    assert [(event.kind, event.confirmed) for event in kept] == [("start", False)] and told == kept
    with watching(model, words, told, journal) as look:  # the next start: the event goes on, and nobody is asked again
        assert phase(look) == "firing"
        look(BLUE)
    assert [event.kind for event in told] == ["start", "end"] and told[0].event == told[1].event
    journal.close()


def test_nobody_to_ask_is_refused(tiny_bundle: Path) -> None:
    hall = SourceSettings("hall", "x.mp4")
    with vlj_edge.load(tiny_bundle) as model:
        with pytest.raises(VljEdgeError, match=r"'door'.*hall.*--words"):
            Station(model, [hall], alerts=[DOOR])
        words = WordsSettings("http://127.0.0.1:9/v1")
        Station(model, [SourceSettings("hall", "x.mp4", words=words)], alerts=[DOOR]).stop()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("NO!", False),
        ("**Yes**, it is.", True),
        ("No. Yes would be wrong.", False),
        ("The door is open: yes", True),
        ("I see no door", False),
        ("yes or no", True),
        ("Is it yes or no?", None),
        ("nothing", None),
        ("yesterday", None),
        ("", None),
        ("?" * 1000, None),
    ],
)
def test_a_verdict_is_the_first_word_or_the_only_one(text: str, expected: bool | None) -> None:
    assert verdict(text) is expected
