"""A file is written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """What is written in the block stands at `path` when the block has ended, in place of what stood there before.

    After an error or a cut of the power the old file is still there, whole.

    Raises:
        OSError: it cannot be written there.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with scratch.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # or a board that loses power has the new name with half of the content
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
