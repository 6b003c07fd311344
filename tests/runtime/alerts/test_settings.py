"""An [[alert]] as it is written: valid ones are read, errors name the field."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.settings import Alert, Example, QuietHours, read_alerts
from vlj_edge.schema import SchemaError

DOOR: dict[str, Any] = {"name": "door open", "text": "the door is open"}


def test_every_field_is_read() -> None:
    [alert] = read_alerts(
        [
            DOOR
            | {"unless": ["the door is closed"], "for": "5s", "again_after": "10m", "above": 0.8, "below": 0.5}
            | {"cameras": ["hall"], "quiet": "22:00-06:00", "keep": "10s", "confirm": "Is  it?"}
        ]
    )
    rule, quiet = Rule(0.8, 0.5, 5.0, 600.0), QuietHours(22 * 60, 6 * 60)
    texts = ("the door is open",), ("the door is closed",)
    assert alert == Alert("door open", *texts, rule=rule, cameras=("hall",), quiet=quiet, keep=10.0, confirm="Is it?")
    assert alert.watches("hall") and not alert.watches("door")


def test_a_sentence_with_a_file_in_it_is_a_sentence() -> None:
    for text in ("somebody reads cat.txt", "the switch is on/off", "on/off"):
        [alert] = read_alerts([DOOR | {"text": text, "unless": "he writes notes.md"}])
        assert alert.texts == (text,)


def test_examples_and_labels_are_read() -> None:
    label, like = read_alerts([{"name": "a", "label": "jump"}, {"name": "b", "like": "a@b.mp4@1:02"}])
    assert label.label == "jump" and like.like == (Example("a@b.mp4", 62.0),) and label.watches("any")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": 1}, "name"),
        ({"text": []}, None),
        ({"text": ["the door is open", "The  door is open"]}, "text"),
        ({"text": [""]}, "text"),
        ({"text": "doors.txt"}, "text"),
        ({"text": 5}, "text"),
        ({"label": "jump"}, "label"),
        ({"like": ["a.mp4@0:01"]}, "like"),
        ({"text": (), "like": ["a.mp4"]}, "like"),
        ({"text": (), "label": "jump", "unless": "x"}, "unless"),
        ({"unless": "The door is open"}, "unless"),
        ({"for": "five"}, "for"),
        ({"for": -1}, "for"),
        ({"for": float("nan")}, "for"),
        ({"for": 10**400}, "for"),
        ({"for": True}, "for"),
        ({"again_after": "10 x"}, "again_after"),
        ({"above": 1.5}, "above"),
        ({"above": 0.5, "below": 0.6}, "below"),
        ({"quiet": "22-6"}, "quiet"),
        ({"quiet": "22:00-22:00"}, "quiet"),
        ({"quiet": "24:30-06:00"}, "quiet"),
        ({"keep": "10m"}, "keep"),
        ({"keep": "long"}, "keep"),
        ({"keep": -1}, "keep"),
        ({"keep": True}, "keep"),
        ({"confirm": ""}, "confirm"),
        ({"confirm": " \n"}, "confirm"),
        ({"confirm": True}, "confirm"),
        ({"confirm": "x" * 3000}, "confirm"),
        ({"confirm": "Is the {cam} open?"}, "confirm"),
        ({"confirm": "Is it {nearest}?"}, "confirm"),
        ({"hold": "5s"}, "hold"),
        ({"cameras": "hall"}, "cameras"),
    ],
)
def test_errors_name_the_field(changed: dict[str, Any], field: str | None) -> None:
    with pytest.raises(SchemaError) as caught:
        read_alerts([{"name": "first", "text": "x"}, DOOR | changed])
    assert caught.value.path[:3] == (("alert", 1) if field is None else ("alert", 1, field))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("question", ["Is {camera} {{open}}?", "Is a { open?", "Is it {}?"])
def test_braces_in_a_question_that_name_nothing_else_are_taken(question: str) -> None:
    assert read_alerts([DOOR | {"confirm": question}])[0].confirm == question


def test_two_alerts_do_not_share_a_name() -> None:
    with pytest.raises(SchemaError, match="another alert"):
        read_alerts([DOOR, DOOR | {"name": "Door Open"}])
    for wrong in (5, {"name": "x"}, ["x"], [DOOR | {"name": f"{i}"} for i in range(101)]):
        with pytest.raises(SchemaError):
            read_alerts(wrong)


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 1439))
def test_quiet_hours_may_pass_midnight(start: int, end: int, minute: int) -> None:
    day = [(start + i) % 1440 for i in range((end - start) % 1440)]
    inside = QuietHours(start, end).include(datetime(2026, 3, 29, minute // 60, minute % 60, 59))
    assert start == end or inside == (minute in day)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no time zones to set")
@pytest.mark.parametrize(("evening", "hours"), [((2026, 3, 28), 7), ((2026, 10, 24), 9), ((2026, 6, 1), 8)])
def test_quiet_hours_follow_the_clock_on_the_wall(
    evening: tuple[int, int, int], hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        first = datetime(*evening, 20).timestamp()
        minutes = [datetime.fromtimestamp(first + 60 * i) for i in range(14 * 60)]
        assert sum(map(QuietHours(22 * 60, 6 * 60).include, minutes)) == 60 * hours
    finally:
        monkeypatch.undo()
        time.tzset()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "name",
        "text",
        "unless",
        "label",
        "like",
        "for",
        "above",
        "below",
        "again_after",
        "cameras",
        "quiet",
        "keep",
        "confirm",
        "x",
    ]
)


@given(plain | st.lists(st.dictionaries(names, plain, max_size=6).map(lambda d: DOOR | d), max_size=3))
def test_whatever_is_written_is_read_or_refused(raw: Any) -> None:
    try:
        alerts = read_alerts(raw)
    except SchemaError:
        return
    for alert in alerts:
        assert 0 <= alert.rule.below <= alert.rule.above <= 1 and alert.rule.hold >= 0
