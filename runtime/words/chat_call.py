"""One request to a chat endpoint, with attempts until its time is over, and the failures that end it."""

from __future__ import annotations

import errno
import http.client
import random
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from vlj_edge.errors import VljEdgeError, without_secrets

from ..http_post import Connections, Redirected, SameServer, WebAddress, retry_after
from .body import plain_body
from .reply import Unreadable, reason_in

MOST_BYTES = 1 << 20  # of a response
_PAUSES = (0.25, 4.0)  # the first and the longest pause between two attempts, seconds
_TRY_LATER = (408, 425, 429, 502, 503, 504)  # until the time is over: busy, or the model is still being loaded
_REMEDIES = {401: "; check the key", 403: "; check the key", 404: "; check the address and the name of the model"}
_REMEDIES |= dict.fromkeys((301, 302, 303, 307, 308), ", a redirect that leads nowhere; check the address")
_GONE = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)
_CLOSED = "the run was closed"
_SHORTEST_SECRET = 8  # letters: a shorter key is one that a server wants and ignores, and may be an ordinary word
_TRIES_OF_ERRORS = 2  # of other errors of the server: some answer 500 to a picture that they cannot read


class NoReply(VljEdgeError):
    """There is no answer; one line that says why, without keys and credentials.

    Attributes:
        tokens: that the call took although there is no answer; None if that is not known.
    """

    def __init__(self, line: str, tokens: int | None = None) -> None:
        super().__init__(line)
        self.tokens = tokens


class Closed(NoReply):
    """The call was interrupted, which says nothing about the server."""


class _TryAgain(Exception):
    """An attempt failed; the next may not.

    Args:
        after: seconds that the server asks to wait.
        tries: attempts in all; None: as many as there is time for.
        is_gone: no server was found.
    """

    def __init__(self, why: str, after: float | None = None, tries: int | None = None, is_gone: bool = False) -> None:
        super().__init__(why)
        self.after, self.tries, self.is_gone = after, tries, is_gone


@dataclass
class Server:
    """Where the requests go.

    Attributes:
        key: a bearer token, or None.
        quiet_until: time.monotonic() until which the server asks to be left alone.
        is_gone: the last request found no server, for as long as it may take.
    """

    address: WebAddress
    key: str | None = field(default=None, repr=False)
    quiet_until: float = 0.0
    is_gone: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether the server asks to be left alone."""
        return time.monotonic() < self.quiet_until

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        found = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "vlj-edge"}
        authorization = self.address.authorization if self.key is None else f"Bearer {self.key}"
        return found if authorization is None else found | {"Authorization": authorization}

    def without_key(self, text: str) -> str:
        """Return what a server said without the key and the password that it was sent."""
        secrets = [self.key, *(self.address.authorization or "").split()[1:]]
        for secret in secrets:
            if secret is not None and len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text


class ChatCall:
    """One request, with all its attempts.

    Args:
        timeout: seconds for all of it.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self._server, self._timeout = server, timeout
        self._connections, self._over = Connections(), threading.Event()
        self._end = time.monotonic() + timeout
        self._too_late = f"no answer within {timeout:g} s"
        self._met = ""  # by the last attempt
        proxies = urllib.request.ProxyHandler(server.address.proxies)
        self._opener = urllib.request.build_opener(proxies, SameServer, self._connections)

    def interrupt(self) -> None:
        """End the request, whatever it waits for. Callable from any thread."""
        self._cut(_CLOSED)

    def post(self, body: bytes) -> bytes:
        """Return the body of the response.

        Raises:
            NoReply: there is none.
        """
        if self._server.is_quiet:
            until = time.time() + self._server.quiet_until - time.monotonic()
            raise self._no_reply(f"it asked to be left alone until {time.strftime('%H:%M', time.localtime(until))}")
        timer = threading.Timer(self._end - time.monotonic(), self._cut, [self._too_late])
        try:
            timer.start()
        except RuntimeError as error:  # the system has no thread left
            raise self._no_reply(str(error)) from None
        try:
            return self._with_attempts(body)
        finally:
            timer.cancel()
            timer.join()

    def _with_attempts(self, body: bytes) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(body)
            except _TryAgain as failure:
                first, longest = _PAUSES
                # Jitter keeps several cameras from asking at the same moment.
                pause = min(first * 2 ** min(attempt - 1, 10), longest) * random.uniform(0.5, 1.0)
                pause = max(pause, failure.after or 0.0)
                if self._connections.cut_because is None:  # what is met after that says nothing about the server
                    self._met = str(failure)
                tries = 1 if failure.is_gone and self._server.is_gone else failure.tries
                if tries == attempt or time.monotonic() + pause > self._end or self._over.wait(pause):
                    self._server.is_gone = failure.is_gone and self._connections.cut_because in (None, self._too_late)
                    raise self._no_reply(self._reason()) from None

    def _attempt(self, body: bytes) -> bytes:
        """Return the body of a response that was sent completely.

        Raises:
            NoReply: there is no use in another attempt.
            _TryAgain: there may be.
        """
        request = urllib.request.Request(self._server.address.url, body, self._server.headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                found: bytes = response.read(MOST_BYTES + 1)
                self._server.is_gone = False
                missing, headers = len(found) <= MOST_BYTES and bool(response.length), response.headers
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except Redirected as error:
            raise self._no_reply(f"it redirects to {error.new}, which is not followed: give that address") from None
        except urllib.error.URLError as error:
            raise self._broken(error.reason) from None
        except ValueError:  # urllib raises it for a malformed response
            raise self._no_reply("it redirects to an address that is none") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        if missing or self._connections.cut_because is not None:  # of what ends with the connection, the beginning came
            raise self._broken("the answer broke off")
        try:
            found = found if len(found) > MOST_BYTES else plain_body(found, headers, MOST_BYTES)
        except Unreadable as error:
            raise self._no_reply(str(error)) from None
        if len(found) > MOST_BYTES:
            raise self._no_reply(f"its answer is longer than {MOST_BYTES} bytes")
        return found

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        """Return the failure that a status other than 2xx is."""
        self._server.is_gone = False
        try:
            reason = reason_in(plain_body(error.read(65_536), error.headers, 65_536))
        except (OSError, http.client.HTTPException, ValueError):
            reason = ""
        finally:
            error.close()
        line = f"HTTP {error.code}{reason and ': '}{reason}{_REMEDIES.get(error.code, '')}"
        if error.code in _TRY_LATER:
            after = retry_after(error.headers)
            if after is not None and time.monotonic() + after > self._end:
                self._server.quiet_until = time.monotonic() + after
            return _TryAgain(line, after)
        if error.code >= 500:
            return _TryAgain(line, tries=_TRIES_OF_ERRORS)
        return self._no_reply(line)

    def _broken(self, reason: object) -> Exception:
        """Return the failure that an error of a connection is."""
        if isinstance(reason, ssl.SSLCertVerificationError):
            return self._no_reply(f"its certificate is not trusted, {reason.verify_message}")
        if isinstance(reason, UnicodeError):
            return self._no_reply("its address cannot be encoded: check it")
        if isinstance(reason, TimeoutError) and reason.errno is None:  # of the connection, as long as that of all
            return _TryAgain(self._too_late)
        why = str(getattr(reason, "strerror", None) or reason) or type(reason).__name__
        why = "no machine is known by that name" if isinstance(reason, socket.gaierror) else why
        is_gone = isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in _GONE
        return _TryAgain(f"{why}; check that it runs and can be reached", is_gone=is_gone)

    def _reason(self) -> str:
        """Return why there is no answer: that the call was cut, and what the last attempt before met."""
        cut = self._connections.cut_because
        return self._met if cut in (None, self._met) else f"{cut}{self._met and f' ({self._met})'}"

    def _no_reply(self, why: str) -> NoReply:
        line = f"no words from {self._server.address.server}: {self._server.without_key(why)}"
        kind = Closed if self._connections.cut_because == _CLOSED else NoReply
        return kind(without_secrets(line))

    def _cut(self, why: str) -> None:
        self._connections.cut(why)
        self._over.set()
