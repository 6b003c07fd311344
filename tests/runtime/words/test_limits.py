"""Limits of calls: questions have calls of their own, and calls without an answer cost none."""

from __future__ import annotations

from contextlib import nullcontext, suppress

import numpy as np
import pytest

from tests.runtime.words.test_narrator import Narrated, change
from tests.waiting import free_port, wait_for
from vlj_edge.runtime.gating import call_limits
from vlj_edge.runtime.gating.call_limits import DailyTokens, Pause
from vlj_edge.runtime.words.chat_call import Closed, NoReply
from vlj_edge.runtime.words.endpoint import Endpoint
from vlj_edge.runtime.words.prompt import WordsContext
from vlj_edge.runtime.words.words import Words

CONTEXT = WordsContext(0.0, 2.0, 1.0)
PICTURES = [np.zeros((16, 16, 3), np.uint8)]


def words_of(answer: str | Exception, **limits: float) -> Words:
    """Words with limits, in a run of a camera."""

    def speak(pictures: object, context: object) -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer

    words = Words(speak, **limits)  # type: ignore[arg-type]
    words.begin(live=True, endless=True)
    return words


def meaning(number: int) -> np.ndarray:
    return np.eye(64, dtype=np.float32)[number]


def ask(words: Words, question: str | None = None) -> None:
    with suppress(NoReply):
        words.ask(PICTURES, CONTEXT, lambda interrupt: nullcontext(), question)


def spend(words: Words, at: float = 0.0) -> int:
    """Take calls for changes until there are none; return how many there were."""
    taken = [words.take_call(at, 0.0, meaning(number)) for number in range(40)]
    assert taken[-1] is not None
    return taken.count(None)


@pytest.mark.parametrize("per_hour", [0.5, 1, 30, 600])
def test_changes_take_no_call_of_a_question_and_questions_none_of_a_change(per_hour: float) -> None:
    words = words_of("yes", calls_per_hour=per_hour)
    assert spend(words) == 1
    assert words.state()["questions_saved_up"] >= 3
    asked = [words.take_question() for _ in range(200)]
    assert asked[:3] == [None] * 3 and asked[-1] is not None and "calls_per_hour" in asked[-1].why
    assert asked.count(None) <= max(3, per_hour / 6) + 1
    other = words_of("yes", calls_per_hour=per_hour)
    while other.take_question() is None:
        pass
    assert spend(other) == 1


def test_some_tokens_of_a_day_are_left_for_questions() -> None:
    words = words_of("yes", tokens_per_day=10_000)
    words._tokens.add(9_100)
    words._tokens._largest = 300
    assert words.take_call(0.0, 0.0, meaning(0)) is None
    words.has_questions = True
    refusal = words.take_call(0.0, 0.0, meaning(0))
    assert refusal is not None and refusal.kind == "tokens" and "tokens_per_day" in refusal.why
    assert words.take_question() is None
    words._tokens.add(900)
    assert words.take_question() is not None


def test_a_call_of_nearly_all_tokens_is_made_again_the_next_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(call_limits.time, "monotonic", lambda: now[0])
    for taken in (950, 1200):
        tokens = DailyTokens()
        tokens.limit = 1000
        tokens.add(taken)
        assert not tokens.allow(keep_for_questions=True)
        now[0] += 86_401
        assert tokens.allow(keep_for_questions=True) and tokens.allow()


@pytest.mark.parametrize(("answer", "pauses"), [("yes", False), ("", True), (OSError("down"), True)])
def test_the_answer_to_a_question_ends_the_pause_of_changes(answer: str | Exception, pauses: bool) -> None:
    words = words_of(answer, calls_per_hour=0)
    for _ in range(9):
        words.end_call(answered=False, at=0.0)
    assert words.state()["asks_again_in"] > 0
    ask(words, "Is it open?")
    assert (words.state()["asks_again_in"] > 0) is pauses
    refusal = words.take_call(0.0, 0.0, meaning(0))
    assert (refusal is not None and refusal.kind == "pause") is pauses


def test_there_is_no_limit_of_questions_where_there_is_none_of_calls() -> None:
    words = words_of("yes", calls_per_hour=0)
    assert [words.take_question() for _ in range(100)] == [None] * 100
    assert words.state()["questions_saved_up"] is None


@pytest.mark.parametrize("answer", [OSError("down"), ""])
def test_a_call_without_an_answer_is_given_back(answer: str | Exception) -> None:
    words = words_of(answer, calls_per_hour=1)
    for number in range(5):
        assert words.take_call(0.0, 0.0, meaning(number)) is None
        assert words.state()["calls_saved_up"] < 1
        ask(words)
        assert words.state()["calls_saved_up"] == 1
        assert words.take_question() is None
        ask(words, "Is it open?")
    assert words.state()["questions_saved_up"] == 3
    answered = words_of("a cat", calls_per_hour=1)
    assert answered.take_call(0.0, 0.0, meaning(0)) is None
    ask(answered)
    assert answered.take_call(0.0, 0.0, meaning(1)) is not None and answered.state()["problem"] is None


def test_a_call_that_the_end_of_a_run_interrupts_counts() -> None:
    words = words_of(Closed("closed"), calls_per_hour=1)
    assert words.take_call(0.0, 0.0, meaning(0)) is None
    ask(words)
    assert words.state()["calls_saved_up"] < 1 and words.state()["problem"] is None


def test_the_state_says_why_there_is_no_answer() -> None:
    words = Words(Endpoint(f"http://me:secret@127.0.0.1:{free_port()}/v1", timeout=0.05), calls_per_hour=30)
    words.begin(live=True, endless=True)
    ask(words)
    problem = words.state()["problem"]
    assert "refused" in problem and "secret" not in problem and "\n" not in problem


def test_an_empty_answer_is_a_problem_until_there_is_one() -> None:
    answers = iter(["a cat", " \n", "a dog"])
    words = Words(lambda pictures, context: next(answers))
    words.begin(live=True, endless=True)
    problems = []
    for _ in range(3):
        ask(words)
        problems.append(words.state()["problem"])
    assert problems[0] is problems[2] is None and "empty" in problems[1]


def test_a_fault_of_ours_is_a_problem_and_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of("a cat", calls_per_hour=1)
    monkeypatch.setattr(words, "_ask", lambda *_: 1 / 0)
    assert words.take_call(0.0, 0.0, meaning(0)) is None
    with pytest.raises(ZeroDivisionError):
        ask(words)
    assert "ZeroDivisionError" in words.state()["problem"] and words.state()["calls_saved_up"] == 1


def test_the_state_of_a_recording_is_by_its_times() -> None:
    narrated = Narrated(live=False, calls_per_hour=30)
    for number in range(3):
        narrated.answer(OSError("down"))
        narrated.tell(change(1000.0 + 2 * number, number))
    narrated.tell(1004.5)
    words = narrated.narrator._words
    wait_for(lambda: narrated.run.totals.calls_failed == 3 and words._latest == 1004.5)
    assert words.state()["asks_again_in"] == 1.5  # of the 2 s after the third
    narrated.answer(OSError("down"))
    narrated.tell(1100.0, change(1103.0, 5))
    wait_for(lambda: narrated.run.totals.calls_failed == 4)
    assert words.state()["asks_again_in"] == 4 and words.state()["calls_saved_up"] > 1
    narrated.end()
    assert words.state()["asks_again_in"] == 0  # the next recording begins at once


def test_pauses_grow_while_nothing_is_answered() -> None:
    pause, pauses = Pause(), []
    for number in range(12):
        pause.add(100.0 * number, per_hour=30)
        pauses.append(pause.left(100.0 * number))
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 64, 120, 120, 120, 120]
    pause.end()
    assert pause.left(0.0) == 0
    for _ in range(2000):
        pause.add(0.0, per_hour=0)
    assert pause.left(0.0) == 60


def test_a_camera_is_asked_about_again_after_the_pause() -> None:
    narrated = Narrated(calls_per_hour=3600)
    for number in range(2):
        narrated.tell(change(2 + number, number))
        narrated.answer(OSError("down"))
        wait_for(lambda number=number: narrated.run.totals.calls_failed == number + 1)
    narrated.tell(change(3.5, 3))
    narrated.texts(3)
    narrated.tell(3.75)
    assert len(narrated.asked) == 2
    narrated.answer("a cat")
    narrated.tell(6.0)  # the change of 3.5 s waited for the pause to end
    assert narrated.texts(4)[3] == (3.5, "a cat", False)
    narrated.end()
    assert narrated.run.totals.calls_left_out == 0


def test_a_recording_with_a_limit_tries_a_server_that_is_down_no_more_often_than_the_limit() -> None:
    narrated = Narrated(live=False, calls_per_hour=30)
    for _ in range(1000):
        narrated.answer(OSError("down"))
    narrated.tell(*(change(2.0 * number, number % 8) for number in range(1, 900)))  # half an hour
    narrated.end()
    assert 10 <= len(narrated.asked) <= 30
