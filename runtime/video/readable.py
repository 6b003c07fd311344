"""Wait for a pipe or socket."""

from __future__ import annotations

import select
from typing import Any


def is_readable(descriptor: Any, seconds: float) -> bool:
    """Return whether something can be read, or the other end is closed, within some seconds.

    By poll(), since select() fails for descriptors above 1,023, which a service with many connections has.

    Args:
        descriptor: a number, or an object with fileno().
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
