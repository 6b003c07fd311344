"""The key with which engines that are built on a machine are signed, so that no others are run.

The key is the file that VLJ_EDGE_KEY_FILE names (--key-file), or else the machine's, /etc/vlj-edge/engines.key, where
there is one that this user may read, and the user's own. Whoever can read a key can sign with it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import VljEdgeError

KEY_FILE = "VLJ_EDGE_KEY_FILE"  # the environment variable
MACHINE_KEY = Path("/etc/vlj-edge/engines.key")
_KEY_BYTES = 32


def sign(content: bytes) -> str:
    """Return the HMAC-SHA256 of some bytes in hex, under the first key that there is; if there is none, one is created.

    Raises:
        VljEdgeError: the key cannot be read or written, is damaged, or can be read or written by others.
    """
    found = _keys()
    path = found[0] if found else _paths()[-1]
    try:
        if not found:
            _make_key(path)
        return _hmac(content, _read_key(path))
    except OSError as error:
        raise _unusable(path, error) from error


def signing_key(content: bytes, signature: str) -> Path | None:
    """Return the key of this user or machine under which `signature` is that of `content`; None: under none of them.

    Raises:
        VljEdgeError: a key cannot be read, is damaged, or can be read or written by others.
    """
    for path in _keys():
        try:
            key = _read_key(path)
        except OSError as error:
            raise _unusable(path, error) from error
        if hmac.compare_digest(signature.encode(errors="replace"), _hmac(content, key).encode()):
            return path
    return None  # without a key, nothing was signed here


def _hmac(content: bytes, key: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _paths() -> tuple[Path, ...]:
    named = os.environ.get(KEY_FILE)
    if named:
        return (Path(named),)
    try:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    except RuntimeError:  # a container's user without a home
        return (MACHINE_KEY,)
    return (MACHINE_KEY, data / "vlj-edge" / "machine.key")


def _keys() -> list[Path]:
    """Return the keys that there are. The machine's is left out for a user who may not read it."""
    found = []
    for path in _paths():
        try:
            if _may_read(path) if path == MACHINE_KEY else path.exists():
                found.append(path)
        except OSError as error:  # it lies in a folder that this user may not search
            raise _unusable(path, error) from error
    return found


def _may_read(path: Path) -> bool:
    return os.access(path, os.R_OK)


def _read_key(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise VljEdgeError(f"{path} is no file, and engines are signed with it: name one with --key-file")
        if hasattr(os, "geteuid"):
            _check_owner(path, status)
        key = stream.read(_KEY_BYTES + 1)
    if len(key) != _KEY_BYTES:
        raise VljEdgeError(f"{path} is damaged: remove it, and build the engines again")
    return key


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Check that nobody but the file's owner and group can read it, and nobody but its owner can write it."""
    if status.st_uid not in (0, os.geteuid()):
        raise VljEdgeError(
            f"{path} belongs to another user (uid {status.st_uid}), who could sign any engine with it: run sudo chown"
            f" root {path}, or name another key with --key-file"
        )
    if status.st_mode & 0o027:
        who = "everyone" if status.st_mode & 0o007 else "its group"
        raise VljEdgeError(
            f"{path} can be read or written by {who} (mode {stat.S_IMODE(status.st_mode):04o}), who could sign any"
            f" engine with it: remove it and build the engines again, or if nobody has used it, run chmod 640 {path}"
        )


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A folder with the setgid bit is one that a group shares: what is made in it belongs to that group.
    mode = 0o640 if path.parent.stat().st_mode & stat.S_ISGID else 0o600
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
        if hasattr(os, "fchmod"):
            os.fchmod(stream.fileno(), mode)  # whatever the umask
    with suppress(FileExistsError):  # another process was first: its key is used
        os.link(scratch, path)
    scratch.unlink()


def _unusable(path: Path, error: OSError) -> VljEdgeError:
    return VljEdgeError(
        f"{path} cannot be used ({error.strerror or error}): engines are signed with it; name another with --key-file"
        " or VLJ_EDGE_KEY_FILE"
    )
