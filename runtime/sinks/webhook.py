"""Events to a web server, one POST request each."""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

from vlj_edge.errors import VljEdgeError, without_credentials
from vlj_edge.loopback import is_loopback
from vlj_edge.variables import with_variables

from .base import Event, EventRefused, split_address
from .webhook_connection import Connections

_TRY_LATER = (408, 429)  # Request Timeout, Too Many Requests


class Webhook:
    """POSTs each event, as Event.as_dict(), in JSON.

    A user and password in the address are sent as Basic authentication. Errors name only the server, because the path
    of a webhook is often a secret.

    Args:
        url: http:// or https://; ${NAME} in it stands for the environment's NAME, see with_variables().
        timeout: seconds to wait for the server at each step.
        deadline: seconds for a delivery in all, redirects included.

    Raises:
        VljEdgeError: the address cannot be used.
    """

    def __init__(self, url: str, timeout: float = 5.0, deadline: float = 15.0) -> None:
        url = with_variables(url)
        host, port = _server(url)
        parts = urlsplit(url)
        self._server = f"{parts.scheme}://{host}{f':{port}' if port else ''}"
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "vlj-edge"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._timeout, self._deadline = timeout, deadline
        self._connections = Connections()
        # A proxy is the environment's; it cannot reach what listens on this machine.
        proxies = urllib.request.ProxyHandler({} if is_loopback(host) else None)
        self._opener = urllib.request.build_opener(proxies, _SameServer, self._connections)

    def write(self, event: Event) -> None:
        """See Sink.

        Raises:
            VljEdgeError: no connection, no answer (2xx) in time, or an error of the server (5xx).
            EventRefused: the server refuses the event (4xx), or redirects to another server.
        """
        data = json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        request = urllib.request.Request(self._url, data, self._headers, method="POST")
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
            raise self._status_error(error.code) from None
        except urllib.error.URLError as error:
            raise self._connection_error(error.reason) from None
        except ValueError:  # urllib raises it for a malformed response
            raise EventRefused(f"{self._server} redirects to an address that is none: look at the server") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_error(error) from None

    def _status_error(self, code: int) -> VljEdgeError:
        if code >= 500 or code in _TRY_LATER:
            return VljEdgeError(f"HTTP {code} from {self._server}: look at the server's log")
        return EventRefused(
            f"HTTP {code}, the event is refused by {self._server}: check the address and its credentials"
        )

    def _connection_error(self, reason: object) -> VljEdgeError:
        why = str(getattr(reason, "strerror", None) or reason) or type(reason).__name__
        return VljEdgeError(f"no delivery ({why}) to {self._server}: check that it is up and can be reached")


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows a redirect with the same POST (urllib would send a GET without the event), on the same server only.

    What another server would get is not meant for it: the credentials, the event, or, at an address that only this
    machine reaches, a command.
    """

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 lacks it

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See urllib."""
        old, new = _origin(req.full_url), _origin(newurl)
        if new != old:
            fp.close()
            raise EventRefused(f"a redirect from {old} to {new} is not followed: give that address to --webhook")
        if code == 303:  # See Other: the event was accepted
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        return urllib.request.Request(newurl, req.data, req.headers, req.origin_req_host, True, "POST")


def _origin(url: str) -> str:
    """Return scheme, host and port of an address; for an ill-formed one, a value that equals no other."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return f"{parts.scheme}://{parts.hostname}:{port}"
    except ValueError:
        return "an address that is none"


def _server(url: str) -> tuple[str, int | None]:
    """Return host and port of a web address that can be used."""
    shown = without_credentials(url)
    parts, host, port = split_address(url)
    if parts.scheme not in ("http", "https") or not host:
        raise VljEdgeError(f"no address of a web server ({shown}): give http://HOST/PATH or https://HOST/PATH")
    if re.search(r"[^!-~]", url):
        raise VljEdgeError(
            f"the address has a space or a letter beyond ASCII in it ({shown}): write it as %20 and so on"
        )
    return (f"[{host}]" if ":" in host else host), port
