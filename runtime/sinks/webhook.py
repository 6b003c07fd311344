"""Events to a web server, and texts to a command that speaks them. Both take as long as it takes: put an Outlet around
them."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

from vlj_edge.errors import VljEdgeError, without_credentials

from .base import Event, Refused, split_address

_LATER = (408, 429)  # the client errors that say "not now"


class Webhook:
    """POSTs each event, as Event.as_dict(), in JSON.

    A user and password in the address are sent as Basic authentication. Errors name the server alone: the path, too, of
    a webhook is often its secret.

    Args:
        url: http:// or https://
        timeout: seconds without an answer.

    Raises:
        VljEdgeError: the address cannot be used.
    """

    def __init__(self, url: str, timeout: float = 5.0) -> None:
        host, port = _server(url)
        parts = urlsplit(url)
        self._server = f"{parts.scheme}://{host}{f':{port}' if port else ''}"
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "vlj-edge"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_SameScheme)

    def take(self, event: Event) -> None:
        """See Sink.

        Raises:
            VljEdgeError: not delivered this time: no connection, no answer, the server's fault.
            Refused: the server will not have it (4xx), or sends elsewhere.
        """
        data = json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        request = urllib.request.Request(self._url, data, self._headers, method="POST")
        try:
            self._opener.open(request, timeout=self._timeout).close()
        except urllib.error.HTTPError as error:
            error.close()
            raise self._answered(error.code) from None
        except urllib.error.URLError as error:
            raise self._failed(error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """See Sink."""

    def _answered(self, code: int) -> VljEdgeError:
        if code >= 500 or code in _LATER:
            return VljEdgeError(f"HTTP {code} from {self._server}: look at the server's log")
        return Refused(f"HTTP {code}, the event is refused by {self._server}: check the address and its credentials")

    def _failed(self, reason: object) -> VljEdgeError:
        why = str(getattr(reason, "strerror", None) or reason) or type(reason).__name__
        return VljEdgeError(f"no delivery ({why}) to {self._server}: check that it is up and can be reached")


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows a redirect with the event still in it (urllib would make an empty GET of it), and never to another
    scheme; the password does not go to another server."""

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
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme != old.scheme:
            fp.close()
            raise Refused(
                f"a redirect from {old.scheme}://{old.netloc} to {new.scheme}:// is not followed: give that address"
            )
        if code == 303:  # it has been taken; what there is to see is elsewhere
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        kept = {k: v for k, v in req.headers.items() if k != "Authorization" or new.netloc == old.netloc}
        return urllib.request.Request(newurl, req.data, kept, req.origin_req_host, unverifiable=True, method="POST")


def _server(url: str) -> tuple[str, int | None]:
    shown = without_credentials(url)
    parts, host, port = split_address(url)
    if parts.scheme not in ("http", "https") or not host:
        raise VljEdgeError(f"no address of a web server ({shown}): give http://HOST/PATH or https://HOST/PATH")
    if re.search(r"[^!-~]", url):
        raise VljEdgeError(
            f"the address has a space or a letter beyond ASCII in it ({shown}): write it as %20 and so on"
        )
    return (f"[{host}]" if ":" in host else host), port
