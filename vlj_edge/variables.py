"""Secrets in addresses, read from the environment or a file, so that no command line or configuration contains them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from .errors import VljEdgeError, without_credentials

_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")


def with_variables(address: str) -> str:
    """Return an address in which each ${NAME} is replaced by the environment's NAME, or if that is not set, by the
    content of the file that NAME_FILE names. Other texts stay unchanged.

    Before an '@' and after a '?', the value is percent-encoded, since passwords may contain anything. A variable may
    also stand for a whole address.

    Raises:
        VljEdgeError: a variable is not set, or its file cannot be read.

    >>> os.environ["DOOR_PASSWORD"] = "p@ss"
    >>> with_variables("rtsp://me:${DOOR_PASSWORD}@door/1")
    'rtsp://me:p%40ss@door/1'
    """
    if _VARIABLE.fullmatch(address):
        return _value(address[2:-1], address)
    if "://" not in address and not address.startswith("gst:"):
        return address

    def inserted(found: re.Match[str]) -> str:
        value = _value(found[1], address)
        is_secret = "@" in address[found.end() :] or "?" in address[: found.start()]
        return quote(value, safe="") if is_secret and not address.startswith("gst:") else value

    return _VARIABLE.sub(inserted, address)


def _value(name: str, address: str) -> str:
    value, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value is not None:
        return value
    if file is None:
        shown = without_credentials(address)
        raise VljEdgeError(f"{shown}: {name} is not set: export {name}, or name a file that holds it in {name}_FILE")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise VljEdgeError(
            f"{file}, which {name}_FILE names, cannot be read ({error}): check its permissions"
        ) from None
