"""Events to an MQTT broker, with discovery by Home Assistant.

While the broker cannot be reached, a limited number of events wait for it.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import threading
import time
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from vlj_edge.errors import VljEdgeError, WrongCall, require, without_credentials
from vlj_edge.results import Narration
from vlj_edge.variables import with_variables

from ..http_post import split_address
from .alert_event import AlertEvent
from .base import AnyEvent
from .mqtt_alerts import AlertTopics
from .mqtt_pictures import LARGE, PictureLimit

CLOSING_SECONDS = 3.0  # to wait for acknowledgements
CONNECTING_SECONDS = 3.0
_TIMED_OUT = "Keep alive timeout"  # why paho ends a connection over which nothing comes any more
LONGEST_PAUSE = 30  # between two attempts to connect, seconds
_LONGEST_SLUG = 100  # an address that names a source may have thousands of letters
_LOG = logging.getLogger(__name__)
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Mqtt:
    """A sink that publishes these topics. BASE is the path of the address, SOURCE a slug of the source's name.

    BASE/SOURCE/narration: each event, as Event.as_dict() in JSON, with QoS 1: some may arrive twice, with the
        same `id`, none are lost.
    BASE/SOURCE/state: the last text, retained.
    BASE/status: "online" or "offline", retained; the broker publishes "offline" when the connection is lost.
    DISCOVERY/sensor/BASE_SOURCE/config: Home Assistant's discovery message, retained.
    BASE/SOURCE/alert/ALERT/event: each message of an alert, as AlertEvent.as_dict() in JSON, with QoS 1; and what
        AlertTopics publishes.

    It connects in the background, and again whenever the connection is lost. Retained topics are published with each
    connection.

    Args:
        url: mqtt://[USER:PASSWORD@]HOST[:PORT]/BASE, or mqtts:// for TLS; special characters of a password as %40, or
            the password as ${NAME}, see with_variables().
        most_queued: number of events that may wait for the broker or its acknowledgement.
        ca_file: PEM certificates to trust instead of the system's.
        discovery: Home Assistant's discovery prefix.

    Attributes:
        missed: events that were not acknowledged when this was closed.
        last_error: why there is no connection, or no acknowledgement, one line; None if there is.
        on_acknowledged: called with each alert that the broker has acknowledged; alerts that are kept elsewhere until
            then are not missed.

    Raises:
        VljEdgeError: paho-mqtt is not installed, or the address or the certificates cannot be used.
    """

    def __init__(
        self, url: str, most_queued: int = 1000, ca_file: str | None = None, discovery: str = "homeassistant"
    ) -> None:
        paho = require("paho.mqtt.client", "mqtt")
        broker = _parse_address(with_variables(url))
        self.missed = 0
        self.last_error: str | None = f"{broker.shown} does not answer"
        self._broker, self._most, self._discovery = broker, most_queued, discovery.strip("/")
        self._full = int(paho.MQTT_ERR_QUEUE_SIZE)
        # Held while publishing. _on_publish does not take it, since paho calls that with its own lock held.
        self._lock = threading.Lock()
        self._slugs: dict[str, str] = {}  # by source name
        self._shown: dict[str, Narration] = {}  # the last text, by slug
        self._alerts = AlertTopics(broker.base, self._discovery, _slug)
        self._waiting: dict[int, AnyEvent | None] = {}  # events without an acknowledgement, by message id
        self.on_acknowledged: Callable[[AlertEvent], None] = lambda event: None
        self._acknowledged: deque[int] = deque()
        self._closing_seconds = CLOSING_SECONDS
        self._pictures = PictureLimit(broker.shown)
        self._closed, self._logged = False, ""  # what was logged since it was connected: "away" or "refused"
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=f"vlj-edge-{_slug(broker.base)}-{secrets.token_hex(4)}"
        )
        self._configure_client(ca_file)
        self._client.connect_async(broker.host, broker.port, keepalive=30)
        self._client.loop_start()

    def announce_sources(self, names: Iterable[str]) -> None:
        """Take the names of sources in their order, so that of two that are written alike the same one has the plain
        topic each time."""
        with self._lock:
            for name in names:
                self._source_slug(name)

    def announce_alerts(self, watched: Iterable[tuple[str, str, bool]], gone: Iterable[tuple[str, str]] = ()) -> None:
        """Publish alerts, given as (alert, source, whether it is firing), that may tell something later, and remove
        those that no longer do, given as (alert, source)."""
        with self._lock:
            for alert, source in gone:
                self._alerts.remove(self._source_slug(source), alert, self._publish_retained)
            for alert, source, firing in watched:
                self._alerts.announce(self._source_slug(source), alert, firing, self._publish_retained)

    def write(self, event: AnyEvent) -> None:
        """See Sink. Returns before the broker has acknowledged it.

        Raises:
            VljEdgeError: too many events are waiting already.
        """
        data = json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        if self.last_error is not None and not self._logged:  # it accepts connections and answers nothing
            self._fail("away", self.last_error)
        with self._lock:
            slug = self._source_slug(event.source)
            topic = self._publish_latest(event, slug)
            sent = self._client.publish(topic, data, qos=1)
            if sent.rc == self._full:
                why = self.last_error or "the broker does not keep up"
                raise VljEdgeError(f"{self._most} events wait for {self._broker.shown} ({why}): check the broker")
            self._waiting[sent.mid] = event
            self._remove_acknowledged()

    @property
    def pending(self) -> int:
        """Number of events that were written and wait for the broker's acknowledgement."""
        with self._lock:
            self._remove_acknowledged()
            return len(self._waiting)

    def interrupt(self) -> None:
        """Wait for no acknowledgement in close(): the broker has had its time."""
        self._closing_seconds = 0.0

    def close(self) -> None:
        """See Sink. Waits a few seconds at most for acknowledgements."""
        if self._closed:
            return
        self._closed = True
        end = time.monotonic() + self._closing_seconds
        self._await_acknowledgements(end)
        with self._lock:
            self.missed = sum(not (isinstance(event, AlertEvent) and event.kept) for event in self._waiting.values())
            self._waiting.clear()
        if self.missed and self.last_error is None:
            self.last_error = f"{self._broker.shown} has not acknowledged them within {CLOSING_SECONDS:g} s"
        if self._client.is_connected():
            sent = self._client.publish(f"{self._broker.base}/status", "offline", qos=1, retain=True)
            if sent.rc == self._full:  # of events that nobody acknowledges
                self._client.publish(f"{self._broker.base}/status", "offline", qos=0, retain=True)
            with self._lock:
                self._waiting = {} if sent.rc == self._full else {sent.mid: None}
            self._await_acknowledgements(end)
            with self._lock:
                self._waiting.clear()
        self._client.disconnect()
        self._client.loop_stop()

    def _configure_client(self, ca_file: str | None) -> None:
        client, broker = self._client, self._broker
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.secure:
            try:
                client.tls_set(ca_certs=ca_file)
            except (OSError, ValueError) as error:
                raise VljEdgeError(f"{ca_file} cannot be used ({error}): give a file of PEM certificates") from error
        client.max_queued_messages_set(self._most)
        client.reconnect_delay_set(1, LONGEST_PAUSE)
        client.connect_timeout = CONNECTING_SECONDS
        client.will_set(f"{broker.base}/status", "offline", qos=1, retain=True)
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_disconnect, client.on_publish = self._on_disconnect, self._on_publish
        client.on_unsubscribe = self._on_answer

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._fail("refused", f"{self._broker.shown} refuses the connection: {reason}")
            return
        self._logged = ""
        if self.last_error is not None:
            _LOG.info("%s is connected", self._broker.shown, extra={"sink": "mqtt", "state": "works"})
        with self._lock:
            self.last_error = None
            client.publish(f"{self._broker.base}/status", "online", qos=0, retain=True)  # see _publish_state()
            for source, slug in self._slugs.items():
                if slug in self._shown:
                    self._publish_discovery(source, slug)
                    self._publish_state(slug)
            self._alerts.publish_all(self._publish_retained)
            self._ask_for_answer(0)

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error, without passing it
        self._fail("away", f"{self._broker.shown} cannot be reached: {getattr(error, 'strerror', None) or error}")

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._closed:
            return
        with self._lock:
            self._pictures.lost(by_broker=str(reason) != _TIMED_OUT)
        self._fail(self._logged or "away", self.last_error or f"{self._broker.shown} has gone: {reason}")

    def _ask_for_answer(self, size: int) -> None:
        """Ask the broker for an answer, with which a picture of so many bytes before it has arrived, too."""
        _, question = self._client.unsubscribe(f"{self._broker.base}/status")  # it is subscribed to nothing
        if question is not None:
            self._pictures.asked(question, size)

    def _on_answer(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        with self._lock:
            if self._pictures.answered(mid):
                self._alerts.publish_pictures(self._publish_retained)

    def _fail(self, kind: str, line: str) -> None:
        self.last_error = line
        if kind != self._logged:
            about = {"sink": "mqtt", "state": "fails", "reason": line}
            _LOG.warning("%s: events wait for it", line, extra=about)
        self._logged = kind

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        self._acknowledged.append(mid)
        if self._lock.acquire(blocking=False):  # else who holds it, write() or pending, does this soon
            try:
                self._remove_acknowledged()
            finally:
                self._lock.release()

    def _publish_latest(self, event: AnyEvent, slug: str) -> str:
        """Publish the retained topics that an event changes, and return the topic of the event itself."""
        if isinstance(event, AlertEvent):
            self._alerts.add(slug, event, self._publish_retained)
            return f"{self._alerts.topic(slug, event.alert)}/event"
        before = self._shown.get(slug)
        if event.narration.replaces(before):
            self._shown[slug] = event.narration
        if before is None:
            self._publish_discovery(event.source, slug)
        self._publish_state(slug)
        return f"{self._broker.base}/{slug}/narration"

    def _publish_state(self, slug: str) -> None:
        # QoS 0: with QoS 1, paho would queue an old text while there is no connection, and the broker would retain it
        # over the newer one that is published on reconnection. Nor would paho take it while its queue is full.
        data = self._shown[slug].text.encode("utf-8", "replace")
        self._client.publish(f"{self._broker.base}/{slug}/state", data, qos=0, retain=True)

    def _publish_retained(self, topic: str, data: bytes | str, retain: bool) -> None:
        if len(data) >= LARGE and self._pictures.waits:
            return
        if not self._pictures.allows(len(data)):
            data = b""  # an older picture there would be of another event
        sent = self._client.publish(topic, data, qos=0, retain=retain)  # QoS 0: see _publish_state()
        if len(data) >= LARGE and sent.rc == 0:
            self._ask_for_answer(len(data))

    def _publish_discovery(self, source: str, slug: str) -> None:
        base = self._broker.base
        name = f"{_slug(base)}_{slug}"
        sensor = {
            "name": source,
            "unique_id": name,
            "state_topic": f"{base}/{slug}/state",
            "value_template": "{{ value[:255] }}",  # the longest state that Home Assistant accepts
            "json_attributes_topic": f"{base}/{slug}/narration",
            "availability_topic": f"{base}/status",
            "device": {"identifiers": [_slug(base)], "name": base, "manufacturer": "vlj-edge"},
            "origin": {"name": "vlj-edge"},
        }
        data = json.dumps(sensor, ensure_ascii=False).encode("utf-8", "replace")
        self._client.publish(f"{self._discovery}/sensor/{name}/config", data, qos=0, retain=True)

    def _source_slug(self, source: str) -> str:
        """Return the source's slug."""
        if source in self._slugs:
            return self._slugs[source]
        slug = _slug(source)
        if slug in self._slugs.values():  # "Door 1" and "door-1"
            slug += f"-{zlib.crc32(source.encode('utf-8', 'replace')):08x}"
        self._slugs[source] = slug
        return slug

    def _await_acknowledgements(self, end: float) -> None:
        """Wait until every event is acknowledged, up to that time.monotonic()."""
        while True:
            with self._lock:
                self._remove_acknowledged()
                if not self._waiting or time.monotonic() > end:
                    return
            time.sleep(0.02)

    def _remove_acknowledged(self) -> None:
        while self._acknowledged:
            event = self._waiting.pop(self._acknowledged.popleft(), None)
            if isinstance(event, AlertEvent) and event.kept:
                self.on_acknowledged(event)


@dataclass(frozen=True)
class _Broker:
    host: str
    port: int
    base: str
    secure: bool
    user: str | None
    password: str | None = field(repr=False)

    @property
    def shown(self) -> str:
        """The address in errors: without credentials and path."""
        return f"{'mqtts' if self.secure else 'mqtt'}://{self.host}:{self.port}"


def _parse_address(url: str) -> _Broker:
    shown = without_credentials(url)
    parts, host, port = split_address(url)
    if parts.scheme not in _PORTS or not host:
        raise WrongCall(f"no address of a broker ({shown}): give mqtt://HOST/BASE/TOPIC or mqtts://")
    base = unquote(parts.path).strip("/") or "vlj-edge"
    if re.search(r"[?#]", url) or re.search(r"[+#\0]", base):
        raise WrongCall(f"no topic can have ?, # or + in it ({shown}): leave them out, in a password write %3F, %23")
    user = unquote(parts.username) if parts.username is not None else None
    password = unquote(parts.password) if parts.password is not None else None
    return _Broker(host, port or _PORTS[parts.scheme], base, parts.scheme == "mqtts", user, password)


def _slug(name: str) -> str:
    """Return a name in the letters a-z, digits and hyphens: as long as it is, up to 100."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if slug and len(slug) <= _LONGEST_SLUG:
        return slug
    return f"{slug[: _LONGEST_SLUG - 9].rstrip('-') or 'source'}-{zlib.crc32(name.encode('utf-8', 'replace')):08x}"
