"""One line for whatever can fail between here and a hub, with the page to visit or the command to type."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError

from .download import http_client
from .names import PAGES, Name, host_of

_SIGN_IN = "set HF_TOKEN or run: hf auth login"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class LicenceNotAccepted(VljEdgeError):
    """A repository is gated, and there is no token, or its account may not read it.

    Attributes:
        name: the repository.
        has_token: whether a token was sent.
    """

    def __init__(self, name: Name, has_token: bool) -> None:
        self.name, self.has_token = name, has_token
        what = ", and the account of your token may not read it yet" if has_token else ""
        super().__init__(f"{name.repository} is gated{what}: accept the licence at {name.page}{sign_in(has_token)}")


def sign_in(has_token: bool) -> str:
    """Return how a message goes on after the pages on which licences are accepted."""
    return f" and wait for access, or use another token ({_SIGN_IN})" if has_token else f", then {_SIGN_IN}"


@contextmanager
def explained(name: Name, endpoint: str, token: str | None, cache: Path, is_cached: bool) -> Iterator[None]:
    """Turn the errors of huggingface_hub, its HTTP client and the disk into lines that name a remedy.

    Args:
        token: what is sent, which no line shows.
        is_cached: whether the revision that was asked for is in the cache.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    client = http_client()
    try:
        yield
    except GatedRepoError:
        raise LicenceNotAccepted(name, token is not None) from None
    except HfHubHTTPError as error:
        raise VljEdgeError(_refusal(error, name, endpoint, token is not None)) from None
    except OfflineModeIsEnabled:
        raise offline(name) from None
    except (client.HTTPError, client.InvalidURL) as error:
        reason = _reason(error, token)
        raise VljEdgeError(_unreachable(error, client, reason, name, endpoint, is_cached)) from None
    except OSError as error:
        raise VljEdgeError(_of_disk(error, cache)) from None


@contextmanager
def refused_as_gated(name: Name, endpoint: str, has_token: bool) -> Iterator[None]:
    """Take a refusal of the hub for that of a gated repository, which mirrors do not always say."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403) and host_of(str(error.response.url)) == host_of(endpoint):
            raise LicenceNotAccepted(name, has_token) from None
        raise


def offline(name: Name) -> VljEdgeError:
    """Return the error for what is not in the cache while HF_HUB_OFFLINE is set."""
    return VljEdgeError(
        f"{name} is not in the cache, or not whole, and HF_HUB_OFFLINE is set: unset it, or run on a machine with a"
        f" network: hf download {name.repository}"
        + (f" --revision {name.revision}" if name.revision is not None else "")
    )


def _refusal(error: Any, name: Name, endpoint: str, has_token: bool) -> str:
    """Return the line for an answer of the hub that is an error."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    status, sender = error.response.status_code, host_of(str(error.response.url))
    if sender != host_of(endpoint):
        return f"{sender}, which keeps the files of {name}, answers with HTTP {status}: run this again"
    if isinstance(error, RevisionNotFoundError):
        return f"{name.repository} has no revision '{name.revision or 'main'}': look at {name.page}/commits/main"
    if status == 401 and has_token and "invalid" in str(error).lower():
        return f"{host_of(endpoint)} refused the token: make another at {PAGES}/settings/tokens, then {_SIGN_IN}"
    where = "" if endpoint == PAGES else f" at {host_of(endpoint)}"
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        remedy = (
            f"look at {name.page} whether the account of your token may read it, and accept its licence there"
            if has_token
            else f"check the name; if {name.page} asks for a licence, accept it there, then {_SIGN_IN}"
        )
        revision = f", it has no revision '{name.revision}'" if name.revision is not None else ""
        return (
            f"there is no repository {name.repository}{where} and no such path here{revision}, or it is private or"
            f" gated (HTTP {status}): {remedy}"
        )
    if status == 429:
        return f"{host_of(endpoint)} wants fewer requests (HTTP 429): wait some minutes, or {_SIGN_IN}"
    return f"{host_of(endpoint)} answers for {name} with HTTP {status}: try again later, or look at {name.page}"


def _unreachable(error: Exception, client: Any, reason: str, name: Name, endpoint: str, is_cached: bool) -> str:
    """Return the line for a hub that did not answer."""
    host = host_of(endpoint)
    if is_cached:
        return f"{host} cannot be reached ({reason}): {name} is in the cache, which HF_HUB_OFFLINE=1 uses"
    if isinstance(error, (client.InvalidURL, client.UnsupportedProtocol)):
        return f"{host} is no address of a hub ({reason}): check HF_ENDPOINT"
    if isinstance(error, client.ProxyError):
        return f"the proxy before {host} refuses ({reason}): check HTTPS_PROXY, or add the host to NO_PROXY"
    if "certificate" in reason.lower():
        return (
            f"{host} cannot be trusted ({reason}): check the clock, and name your proxy's certificate in SSL_CERT_FILE"
        )
    return (
        f"{host} cannot be reached ({reason}): check the network and HTTPS_PROXY; or run on another machine:"
        f" hf download {name.repository} --local-dir DIRECTORY, and export DIRECTORY"
    )


def _of_disk(error: OSError, cache: Path) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        return f"{cache} is full: free some space and run this again, it goes on; or set HF_HOME to another disk"
    return f"{error.filename or cache}: {reason}: check its permissions, or set HF_HOME to a folder of yours"


def _reason(error: Exception, token: str | None) -> str:
    reason = str(error) or type(error).__name__
    return reason.replace(token, "***") if token else reason
