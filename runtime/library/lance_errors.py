"""LanceDB's errors, which are of many types and contain source locations, as one line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from vlj_edge.errors import VljEdgeError, without_secrets

_REMEDIES = (
    (r"No space left|os error 28|[Qq]uota|os error 122|File too large|os error 27", "free space"),
    (r"Permission denied|os error 13|Read-only|os error 30|AccessDenied|Forbidden", "check its permissions"),
    (r"Too many open files|os error 24", "raise ulimit -n"),
)


@contextmanager
def one_line(what: str, remedy: str, afterwards: str = "") -> Iterator[None]:
    """Raise an error of LanceDB as a VljEdgeError.

    Args:
        what: what cannot be done.
        remedy: what to do if the reason contains no better advice.
        afterwards: the state in which the failure leaves the store.
    """
    try:
        yield
    except VljEdgeError:
        raise
    except BaseException as error:
        # PanicException is a panic in Rust, and no Exception.
        if not isinstance(error, (OSError, RuntimeError, ValueError, KeyError)) and "Panic" not in type(error).__name__:
            raise
        text = without_secrets(str(error))
        why = re.split(r", \S*\.rs:|\n", text)[0][:200]
        todo = next((what_helps for pattern, what_helps in _REMEDIES if re.search(pattern, text)), remedy)
        raise VljEdgeError(f"{what} ({why}): {todo}{afterwards}") from error
