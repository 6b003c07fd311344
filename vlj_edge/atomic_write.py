"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary stream whose content becomes the file at `path` when the block ends without an error.

    After an error, or if the power fails, the file that was there before is unchanged.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with scratch.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # otherwise, after a power failure, the new name may have half of the content
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
