"""The key with which a user signs the engines that are built on this machine, so that no others are run."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..errors import VljEdgeError

_KEY_BYTES = 32


def sign(content: bytes) -> str:
    """Return the HMAC-SHA256 of some bytes in hex, under a key that is created at the first use.

    Raises:
        VljEdgeError: the key cannot be read or written, or is damaged.
    """
    path = _key_path()
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise _unusable(path, error) from error
    if len(key) != _KEY_BYTES:
        raise VljEdgeError(f"{path} is damaged: remove it, and build the engines again")
    return _hmac(content, key)


def is_signed(content: bytes, signature: str) -> bool:
    """Return whether `signature` is that of `content` under this user's key on this machine.

    Raises:
        VljEdgeError: the key cannot be read.
    """
    path = _key_path()
    try:
        key = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise _unusable(path, error) from error
    valid = hmac.compare_digest(signature.encode(errors="replace"), _hmac(content, key).encode())
    return valid and len(key) == _KEY_BYTES  # without a key, nothing was signed here


def _hmac(content: bytes, key: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _key_path() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "vlj-edge" / "machine.key"


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
    with suppress(FileExistsError):  # another process was first: its key is used
        os.link(scratch, path)
    scratch.unlink()


def _unusable(path: Path, error: OSError) -> VljEdgeError:
    return VljEdgeError(
        f"{path} cannot be used ({error.strerror or error}): engines are signed with it; set XDG_DATA_HOME to a folder"
        " that you may write to"
    )
