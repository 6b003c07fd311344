"""What is told of alerts: to MQTT with discovery, to a webhook with the picture, as a plain POST."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator
from dataclasses import replace
from email.header import decode_header
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks.alert_event import AlertEvent, event_id
from vlj_edge.runtime.sinks.mqtt_alerts import AlertTopics
from vlj_edge.runtime.sinks.notify import Notify
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.webhook import Webhook

JPEG = b"\xff\xd8\r\n--\x00picture\xff\xd9"
EVENT = AlertEvent("door öffnet", "hall", "start", event_id("door", "hall", 1.0), 5.0, 1.0, 0.91234, JPEG)


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[Any, bytes]]]]:
    got: list[tuple[Any, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", got
        listening.shutdown()
        thread.join()


def test_messages_of_an_event_share_its_name_and_have_names_of_their_own() -> None:
    end = replace(EVENT, kind="end")
    assert EVENT.event == end.event and EVENT.id != end.id and len(EVENT.event) == 32
    assert event_id("a", "b", 1.0) != event_id("a", "b", 2.0) != event_id("ab", "", 2.0)
    assert "picture" not in EVENT.as_dict() and json.loads(json.dumps(EVENT.as_dict()))["score"] == 0.9123


def test_a_webhook_gets_the_event_and_the_picture(server: tuple[str, list[tuple[Any, bytes]]]) -> None:
    url, got = server
    Webhook(url).write(EVENT)
    Webhook(url).write(replace(EVENT, kind="end", picture=None))
    (head, body), (plain_head, plain) = got
    message = email.message_from_bytes(b"Content-Type: " + head["Content-Type"].encode() + b"\r\n\r\n" + body)
    event, picture = message.get_payload()
    assert json.loads(event.get_payload(decode=True)) == EVENT.as_dict() and event.get_param(
        "name", header="Content-Disposition"
    )
    assert picture.get_payload(decode=True) == JPEG and picture.get_content_type() == "image/jpeg"
    assert plain_head["Content-Type"] == "application/json" and json.loads(plain)["kind"] == "end"


def test_a_webhook_gets_the_clip(server: tuple[str, list[tuple[Any, bytes]]]) -> None:
    url, got = server
    clip = replace(EVENT, kind="clip", picture=None, clip=b"\r\n--MP4")
    Webhook(url).write(clip)
    [(head, body)] = got
    message = email.message_from_bytes(b"Content-Type: " + head["Content-Type"].encode() + b"\r\n\r\n" + body)
    event, film = message.get_payload()
    assert json.loads(event.get_payload(decode=True)) == clip.as_dict() and clip.as_dict()["event"] == EVENT.event
    assert film.get_payload(decode=True) == clip.clip and film.get_content_type() == "video/mp4"
    assert len({replace(EVENT, kind=kind).id for kind in ("start", "end", "clip")}) == 3


def test_a_plain_post_has_a_title_a_line_and_the_picture(server: tuple[str, list[tuple[Any, bytes]]]) -> None:
    url, got = server
    notify = Notify(url)
    for event in (
        EVENT,
        replace(EVENT, kind="end"),
        replace(EVENT, kind="clip"),
        replace(EVENT, alert="door\r\nX-Evil: 1", picture=None),
    ):
        notify.write(event)
    (head, body), (plain_head, plain) = got  # ends are not told
    [(title, coding)] = decode_header(head["Title"])
    assert (
        body == JPEG
        and title.decode(coding) == EVENT.alert
        and "91" in str(email.header.make_header(decode_header(head["Message"])))
    )
    assert plain_head["X-Evil"] is None and b"hall" in plain and b"door" in plain


def test_a_server_that_fails_is_tried_again(server: tuple[str, list[tuple[Any, bytes]]]) -> None:
    url, _ = server
    with pytest.raises(VljEdgeError, match="500"):
        Notify(f"{url}/broken").write(EVENT)


def test_home_assistant_finds_a_binary_sensor_and_an_image() -> None:
    published: dict[str, Any] = {}
    topics = AlertTopics("home/edge", "homeassistant", lambda name: name.replace(" ", "-").replace("/", "-"))

    def publish(topic: str, data: bytes | str, retain: bool) -> None:
        assert retain
        published[topic] = data

    topics.announce("hall", "door öffnet", False, publish)
    state = next(topic for topic in published if topic.endswith("/state"))
    assert published[state] == "OFF" and len(published) == 3
    topics.add("hall", EVENT, publish)
    sensor, image = (
        json.loads(published[next(topic for topic in published if topic.startswith(f"homeassistant/{kind}/"))])
        for kind in ("binary_sensor", "image")
    )
    assert sensor["state_topic"] == state and published[state] == "ON" and published[image["image_topic"]] == JPEG
    topics.announce("hall", "door öffnet", False, publish)
    topics.add("hall", replace(EVENT, kind="clip"), publish)
    assert published[state] == "ON"
    topics.add("hall", replace(EVENT, kind="end", picture=None), publish)
    assert published[state] == "OFF" and sensor["unique_id"] != image["unique_id"]
    published.clear()
    topics.publish_all(publish)
    assert published[state] == "OFF" and published[image["image_topic"]] == JPEG


def test_clips_that_wait_in_memory_are_bounded() -> None:
    class Down:
        def write(self, event: AlertEvent) -> None:
            raise OSError("it is down")

        def close(self) -> None:
            pass

    queue = SinkQueue("down", Down(), retry=True, pauses=(60.0, 60.0))
    for number in range(12):
        queue.put(replace(EVENT, event=f"{number}"))
        queue.put(replace(EVENT, event=f"{number}", kind="clip", clip=bytes(4_000_000)))
    waiting = [event for event in queue._queue if event.clip is not None]
    assert 0 < len(waiting) <= 8 and waiting[-1].event == "11" and queue.state()["missed"] >= 3
    assert len([event for event in queue._queue if event.kind == "start"]) >= 11
    queue.close(0.0)
