"""Alerts on MQTT: topics, and discovery by Home Assistant as a binary sensor and an image."""

from __future__ import annotations

import json
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
        self._latest: dict[tuple[str, str], tuple[bool, bytes | None]] = {}  # (source slug, alert): on, picture

    def topic(self, source: str, alert: str) -> str:
        """Return the beginning of an alert's topics; `source` is its slug."""
        return f"{self._base}/{source}/alert/{self._slug(alert)}"

    def announce(self, source: str, alert: str, publish: Publish) -> None:
        """Publish an alert that nothing has happened to yet."""
        if (source, alert) not in self._latest:
            self._latest[source, alert] = (False, None)
            self._publish(source, alert, publish)

    def add(self, source: str, event: AlertEvent, publish: Publish) -> None:
        """Publish what has become of an alert."""
        _, picture = self._latest.get((source, event.alert), (False, None))
        begins = event.kind == "start"
        self._latest[source, event.alert] = (begins, event.picture if begins else picture)
        self._publish(source, event.alert, publish)

    def publish_all(self, publish: Publish) -> None:
        """Publish all alerts again."""
        for source, alert in self._latest:
            self._publish(source, alert, publish)

    def _publish(self, source: str, alert: str, publish: Publish) -> None:
        topic, name = self.topic(source, alert), f"{self._slug(self._base)}_{source}_{self._slug(alert)}"
        common: dict[str, Any] = {
            "availability_topic": f"{self._base}/status",
            "device": {"identifiers": [self._slug(self._base)], "name": self._base, "manufacturer": "vlj-edge"},
            "origin": {"name": "vlj-edge"},
        }
        sensor = common | {
            "name": f"{source} {alert}",
            "unique_id": name,
            "state_topic": f"{topic}/state",
            "json_attributes_topic": f"{topic}/event",
        }
        image = common | {
            "name": f"{source} {alert}",
            "unique_id": f"{name}_picture",
            "image_topic": f"{topic}/picture",
        }
        publish(f"{self._discovery}/binary_sensor/{name}/config", _json(sensor), True)
        publish(f"{self._discovery}/image/{name}/config", _json(image), True)
        on, picture = self._latest[source, alert]
        publish(f"{topic}/state", "ON" if on else "OFF", True)
        if picture is not None:
            publish(f"{topic}/picture", picture, True)


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")
