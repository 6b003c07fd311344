"""Alerts on MQTT: topics, and discovery by Home Assistant as a binary sensor and an image."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

from .alert_event import AlertEvent

Publish = Callable[[str, "bytes | str", bool], None]  # topic, data, retained


class AlertTopics:
    """The retained topics of alerts under BASE/SOURCE/alert/ALERT: state, ON or OFF, and picture, the JPEG of the
    last beginning. Publishes them again when it is asked to, as after a new connection.

    Args:
        base: of the topics, and the name of the device.
        discovery: Home Assistant's prefix.
        slug: makes a name that a topic may have.
    """

    def __init__(self, base: str, discovery: str, slug: Callable[[str], str]) -> None:
        self._base, self._discovery, self._slug = base, discovery, slug
        self._slugs: dict[str, str] = {}  # by alert
        self._latest: dict[tuple[str, str], tuple[bool, bytes | None]] = {}  # (source slug, alert): on, picture
        self._gone: set[tuple[str, str]] = set()

    def topic(self, source: str, alert: str) -> str:
        """Return the beginning of an alert's topics; `source` is its slug."""
        return f"{self._base}/{source}/alert/{self._alert_slug(alert)}"

    def announce(self, source: str, alert: str, on: bool, publish: Publish) -> None:
        """Publish an alert that nothing has happened to yet since the start of the program."""
        self._gone.discard((source, alert))
        if (source, alert) not in self._latest:
            self._latest[source, alert] = (on, None)
            self._publish(source, alert, publish)

    def remove(self, source: str, alert: str, publish: Publish) -> None:
        """Remove an alert from the broker and from Home Assistant; what is told of it after that is not retained."""
        self._latest.pop((source, alert), None)
        self._gone.add((source, alert))
        self._clear(source, alert, publish)

    def add(self, source: str, event: AlertEvent, publish: Publish) -> None:
        """Publish what has become of an alert."""
        if (source, event.alert) in self._gone or event.kind == "clip":
            return
        _, picture = self._latest.get((source, event.alert), (False, None))
        begins = event.kind == "start"
        self._latest[source, event.alert] = (begins, event.picture if begins else picture)
        self._publish(source, event.alert, publish)
        self._publish_picture(source, event.alert, publish)

    def publish_all(self, publish: Publish) -> None:
        """Publish all alerts again, and remove those that are gone."""
        for source, alert in self._gone:
            self._clear(source, alert, publish)
        for source, alert in self._latest:
            self._publish(source, alert, publish)
        self.publish_pictures(publish)

    def publish_pictures(self, publish: Publish) -> None:
        """Publish all pictures again."""
        for source, alert in self._latest:
            self._publish_picture(source, alert, publish)

    def _topics(self, source: str, alert: str) -> tuple[str, str, str, str]:
        """Return the retained topics: the two of discovery, state and picture."""
        topic, name = self.topic(source, alert), self._name(source, alert)
        sensor, image = (f"{self._discovery}/{kind}/{name}/config" for kind in ("binary_sensor", "image"))
        return sensor, image, f"{topic}/state", f"{topic}/picture"

    def _alert_slug(self, alert: str) -> str:
        if alert not in self._slugs:
            slug = self._slug(alert)
            if slug in self._slugs.values():  # "Door: open" and "door open"
                slug += f"-{zlib.crc32(alert.encode('utf-8', 'replace')):08x}"
            self._slugs[alert] = slug
        return self._slugs[alert]

    def _name(self, source: str, alert: str) -> str:
        return f"{self._slug(self._base)}_{source}_{self._alert_slug(alert)}"

    def _clear(self, source: str, alert: str, publish: Publish) -> None:
        """Publish what makes a broker forget a retained topic: nothing."""
        for topic in self._topics(source, alert):
            publish(topic, b"", True)

    def _publish(self, source: str, alert: str, publish: Publish) -> None:
        topic, name = self.topic(source, alert), self._name(source, alert)
        for_sensor, for_image, for_state, for_picture = self._topics(source, alert)
        common: dict[str, Any] = {
            "availability_topic": f"{self._base}/status",
            "device": {"identifiers": [self._slug(self._base)], "name": self._base, "manufacturer": "vlj-edge"},
            "origin": {"name": "vlj-edge"},
        }
        sensor = common | {
            "name": f"{source} {alert}",
            "unique_id": name,
            "state_topic": for_state,
            "json_attributes_topic": f"{topic}/event",
        }
        image = common | {
            "name": f"{source} {alert}",
            "unique_id": f"{name}_picture",
            "image_topic": for_picture,
        }
        publish(for_sensor, _json(sensor), True)
        publish(for_image, _json(image), True)
        publish(for_state, "ON" if self._latest[source, alert][0] else "OFF", True)

    def _publish_picture(self, source: str, alert: str, publish: Publish) -> None:
        _, picture = self._latest[source, alert]
        if picture is not None:
            publish(f"{self.topic(source, alert)}/picture", picture, True)


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")
