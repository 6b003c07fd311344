"""Events to a web server, one POST request each."""

from __future__ import annotations

import http.client
import json
import logging
import secrets
import threading
import urllib.error
import urllib.request

from vlj_edge.errors import VljEdgeError
from vlj_edge.variables import with_variables

from ..http_post import Connections, Redirected, SameServer, retry_after, web_address
from .alert_event import AlertEvent
from .base import AddressRefused, AnyEvent, EventRefused, TryLater

_LOG = logging.getLogger(__name__)
_TRY_LATER = (408, 425, 429)  # Request Timeout, Too Early, Too Many Requests
_MENDABLE = (401, 402, 403, 404, 405, 407, 410)  # the address, the key or the account: nothing about the event
_NO_PICTURES = (400, 413, 415, 422)  # what servers answer to a form or a picture that they take none of


class Refused(EventRefused):
    """The server will never accept what was sent.

    Attributes:
        may_be_the_picture: it may be because of the picture or the clip.
    """

    def __init__(self, message: str, may_be_the_picture: bool) -> None:
        super().__init__(message)
        self.may_be_the_picture = may_be_the_picture


class Webhook:
    """POSTs each event, as Event.as_dict(), in JSON; an alert with a picture or clip as multipart/form-data, with
    the parts event (that JSON), picture (a JPEG) and clip (an MP4).

    A user and password in the address are sent as Basic authentication. Errors name only the server, because the path
    of a webhook is often a secret.

    Args:
        url: http:// or https://; ${NAME} in it stands for the environment's NAME, see with_variables().
        timeout: seconds to wait for the server at each step.
        deadline: seconds for a delivery in all, redirects included.
        option: that the address was given by, for errors.

    Raises:
        VljEdgeError: the address cannot be used.
    """

    def __init__(self, url: str, timeout: float = 5.0, deadline: float = 15.0, option: str = "--webhook") -> None:
        self._address = address = web_address(with_variables(url))
        self._server = address.server
        self._option, self._headers = option, {"User-Agent": "vlj-edge"}
        if address.authorization is not None:
            self._headers["Authorization"] = address.authorization
        self._timeout, self._deadline, self._logged = timeout, deadline, False
        self._connections = Connections()
        proxies = urllib.request.ProxyHandler(address.proxies)
        self._opener = urllib.request.build_opener(proxies, SameServer, self._connections)

    def write(self, event: AnyEvent) -> None:
        """See Sink. An alert whose picture or clip is refused is sent without it. Raises as send()."""
        data = json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        if isinstance(event, AlertEvent) and (event.picture is not None or event.clip is not None):
            try:
                return self.send(*_multipart(data, event.picture, event.clip))
            except Refused as error:
                self.without_picture(error)
        self.send(data, "application/json")

    def without_picture(self, error: Refused) -> None:
        """Log, once, that alerts go without their pictures; raise the error if it is not because of them."""
        if not error.may_be_the_picture:
            raise error
        if not self._logged:
            _LOG.warning("%s: alerts that it refuses are sent again without picture or clip", error)
        self._logged = True

    def send(self, data: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        """POST data.

        Raises:
            VljEdgeError: no connection, no answer (2xx) in time, or an error that passes (5xx, 408, 425, 429).
            AddressRefused: the address or the key is refused (401 to 405, 407, 410), or redirected to another server.
            Refused: the server refuses what was sent (any other 4xx).
        """
        sent_headers = self._headers | {"Content-Type": content_type} | (headers or {})
        request = urllib.request.Request(self._address.url, data, sent_headers, method="POST")
        self._connections.allow()
        timer = threading.Timer(self._deadline, self._connections.cut, [f"no answer within {self._deadline:g} s"])
        try:
            timer.start()
        except RuntimeError as error:  # the system has no thread left
            raise self._connection_error(error) from None
        try:
            self._post(request)
        except VljEdgeError:
            if self._connections.cut_because is None:
                raise
        finally:
            timer.cancel()
            timer.join()
        if self._connections.cut_because is not None:  # also if the beginning of an answer came
            raise self._connection_error(self._connections.cut_because)

    def interrupt(self) -> None:
        """Cut a delivery. Callable from any thread."""
        self._connections.cut("no answer before the end")

    def close(self) -> None:
        """See Sink."""

    def _post(self, request: urllib.request.Request) -> None:
        try:
            self._opener.open(request, timeout=self._timeout).close()
        except urllib.error.HTTPError as error:
            error.close()
            raise self._status_error(error.code, retry_after(error.headers)) from None
        except urllib.error.URLError as error:
            raise self._connection_error(error.reason) from None
        except Redirected as error:
            raise AddressRefused(f"{error} to {self._option}") from None
        except ValueError:  # urllib raises it for a malformed response
            raise AddressRefused(f"{self._server} redirects to an address that is none: look at the server") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_error(error) from None

    def _status_error(self, code: int, after: float | None) -> VljEdgeError:
        if code >= 500 or code in _TRY_LATER:
            line = f"HTTP {code} from {self._server}: look at the server's log"
            return VljEdgeError(line) if after is None else TryLater(line, after)
        if code < 400 or code in _MENDABLE:
            return AddressRefused(f"HTTP {code} from {self._server}: check the address of {self._option} and its key")
        line = f"HTTP {code}, the event is refused by {self._server}: look at the server's log"
        return Refused(line, code in _NO_PICTURES)

    def _connection_error(self, reason: object) -> VljEdgeError:
        why = str(getattr(reason, "strerror", None) or reason) or type(reason).__name__
        return VljEdgeError(f"no delivery ({why}) to {self._server}: check that it is up and can be reached")


def _multipart(event: bytes, picture: bytes | None, clip: bytes | None) -> tuple[bytes, str]:
    """Return a body of multipart/form-data, and its content type."""
    boundary = secrets.token_hex(16)
    parts = [
        (b'name="event"\r\nContent-Type: application/json', event),
        (b'name="picture"; filename="alert.jpg"\r\nContent-Type: image/jpeg', picture),
        (b'name="clip"; filename="alert.mp4"\r\nContent-Type: video/mp4', clip),
    ]
    body = b"".join(
        b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (boundary.encode(), head, data)
        for head, data in parts
        if data is not None
    )
    return body + b"--%s--\r\n" % boundary.encode(), f"multipart/form-data; boundary={boundary}"
