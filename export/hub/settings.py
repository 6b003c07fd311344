"""The variables of huggingface_hub, as people know them.

It reads them when it is imported, which transformers may have done long ago; what was set since then counts here, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from vlj_edge.errors import VljEdgeError, without_credentials
from vlj_edge.regular_file import with_home

_TRUE = ("1", "ON", "YES", "TRUE")


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids the network."""
    from huggingface_hub import constants

    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return bool(constants.HF_HUB_OFFLINE) or said.upper() in _TRUE


def cache_folder() -> Path:
    """Return the folder of all repositories, which HF_HUB_CACHE or HF_HOME names."""
    from huggingface_hub import constants

    folder, home = os.environ.get("HF_HUB_CACHE"), os.environ.get("HF_HOME")
    if not folder:
        folder = os.path.join(home, "hub") if home else constants.HF_HUB_CACHE
    return with_home(os.path.expandvars(folder)).absolute()


def endpoint() -> str:
    """Return the address of the hub, which HF_ENDPOINT may name. VljEdgeError: it is no address."""
    from huggingface_hub import constants

    address = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).strip().rstrip("/")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        shown = without_credentials(address)
        raise VljEdgeError(f"HF_ENDPOINT is '{shown}': set it to the address of a hub, such as https://huggingface.co")
    return address


def token() -> str | None:
    """Return the token that is sent, which HF_TOKEN holds or `hf auth login` stored. VljEdgeError: it is no token."""
    from huggingface_hub.utils import build_hf_headers

    try:
        header = build_hf_headers().get("authorization")
    except Exception as error:  # a file without permission, or a token that was to be renewed and could not be
        raise VljEdgeError(
            f"no token can be read ({type(error).__name__}): set HF_TOKEN, or run: hf auth login"
        ) from error
    found = str(header).removeprefix("Bearer ") if header is not None else None
    if found is not None and not (found.isascii() and found.isprintable() and " " not in found):
        raise VljEdgeError("the token holds characters that no token has: set HF_TOKEN again, or run: hf auth login")
    return found
