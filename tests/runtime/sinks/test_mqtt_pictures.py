"""Which pictures are left out for an MQTT broker: a network that fails is no broker that refuses them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.runtime.sinks.broker import MOSQUITTO, Broker
from tests.runtime.sinks.test_mqtt_alerts import EVENT, PICTURE, Listener
from tests.waiting import wait_for
from vlj_edge.runtime.sinks.mqtt import Mqtt
from vlj_edge.runtime.sinks.mqtt_pictures import PictureLimit

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt install mosquitto")
SIZE = 60_000


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def connection(
    limit: PictureLimit, answers: bool, size: int = 0, arrives: bool = False, by_broker: bool = True
) -> None:
    """One connection from its beginning to its end, over which a picture of so many bytes was published."""
    limit.asked(1, 0)
    if answers:
        assert limit.answered(1)
    if size and not limit.waits and limit.allows(size):
        limit.asked(2, size)
        if arrives:
            assert not limit.answered(2)
    limit.lost(by_broker)


def refusing(limit: PictureLimit) -> None:
    for _ in range(4):
        connection(limit, answers=True, size=SIZE)


Lives = Callable[[PictureLimit], None]


@pytest.mark.parametrize(
    "live",
    [
        lambda limit: [connection(limit, answers=False, size=SIZE) for _ in range(9)],  # it never answers
        lambda limit: [connection(limit, answers=True, size=SIZE, arrives=True) for _ in range(9)],  # lost later
        lambda limit: [connection(limit, answers=True, size=SIZE, by_broker=False) for _ in range(9)],  # it is silent
        lambda limit: [connection(limit, answers=True, size=n % 2 * SIZE) for n in range(9)],  # also without pictures
        lambda limit: [connection(limit, answers=n % 4 < 3, size=SIZE) for n in range(8)],  # and then it fails, too
    ],
)
def test_a_network_that_fails_costs_no_picture(live: Lives) -> None:
    limit = PictureLimit("broker", now=Clock())
    live(limit)
    limit.asked(1, 0)
    limit.answered(1)
    assert limit.allows(SIZE)


def test_what_a_broker_refuses_is_left_out_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limit = PictureLimit("broker", now=clock)
    with caplog.at_level(logging.WARNING):
        refusing(limit)
    assert len(caplog.records) == 1 and str(SIZE) in caplog.text
    assert not limit.allows(SIZE) and limit.allows(SIZE - 1)
    clock.time = 599.0
    assert not limit.allows(SIZE)
    clock.time = 601.0
    assert limit.allows(SIZE)
    refusing(limit)
    clock.time += 1000.0  # the pause has doubled
    assert not limit.allows(SIZE)
    clock.time += 201.0
    connection(limit, answers=True, size=SIZE, arrives=True)  # the limit was raised
    refusing(limit)
    clock.time += 601.0
    assert limit.allows(SIZE)


def test_a_smaller_picture_that_arrives_does_not_clear_a_larger_one() -> None:
    limit = PictureLimit("broker", now=Clock())
    for _ in range(3):
        limit.asked(1, 0), limit.answered(1)
        limit.asked(2, SIZE // 2), limit.answered(2)
        limit.asked(3, SIZE)
        limit.lost(by_broker=True)
    limit.asked(1, 0), limit.answered(1)
    assert limit.allows(SIZE // 2) and not limit.allows(SIZE)


def test_pictures_go_on_after_connections_that_were_lost(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/home")
    sink._client.reconnect_delay_set(0.05, 0.1)
    for number in range(3):
        listener, picture = Listener(broker, f"listener {number}"), bytes([number]) * SIZE
        sink.write(replace(EVENT, event=f"{number}" * 32, picture=picture))
        wait_for(partial(arrived, listener, picture))
        listener.stop()
        if number < 2:
            broker.kill()  # at once after a large picture
            wait_for(lambda: sink.last_error is not None)
            broker.start()
    sink.close()
    broker.kill()


def arrived(listener: Listener, picture: bytes) -> bool:
    return listener.last(PICTURE) == picture
