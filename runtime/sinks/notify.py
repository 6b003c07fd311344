"""Alerts as plain POST requests, as ntfy takes them: a title, a line of text, and the picture."""

from __future__ import annotations

from .alert_event import AlertEvent
from .webhook import Refused, Webhook


class Notify:
    """A sink that POSTs the beginning of each alert's event. Ends are not sent.

    The body is the picture, and the line of text the header Message; without a picture, or where the server takes
    none, the body is the line.

    Args:
        url: as for Webhook, such as https://ntfy.sh/TOPIC.

    Raises:
        VljEdgeError: the address cannot be used.
    """

    takes = AlertEvent

    def __init__(self, url: str) -> None:
        self._post = Webhook(url, option="--notify")

    def write(self, event: AlertEvent) -> None:
        """See Sink. Raises as Webhook.write()."""
        if event.kind != "start":
            return
        line = f"{event.sentence} ({event.score:.0%})"
        title = {"Title": _header(event.alert), "Tags": "bell"}
        if event.picture is not None:
            headers = title | {"Message": _header(line), "Filename": "alert.jpg"}
            try:
                return self._post.send(event.picture, "image/jpeg", headers)
            except Refused as error:
                self._post.without_picture(error)
        self._post.send(line.encode("utf-8", "replace"), "text/plain; charset=utf-8", title)

    def interrupt(self) -> None:
        """Cut a delivery. Callable from any thread."""
        self._post.interrupt()

    def close(self) -> None:
        """See Sink."""


def _header(text: str) -> str:
    """Return a text as a header may hold it: on one line, and beyond ASCII as RFC 2047 encodes it."""
    from email.header import Header

    line = " ".join(text.split())
    return line if line.isascii() else Header(line, "utf-8", maxlinelen=10_000).encode()
