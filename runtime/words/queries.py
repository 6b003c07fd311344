"""The queries that a model was trained on. It answers any other as if it were one of these."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from vlj_edge.bundle import Manifest

_LOG = logging.getLogger("vlj_edge")
_SHOWN, _LONGEST = 3, 60  # trained queries in a warning; characters of the query
_MOST_WARNINGS = 20  # a server may be asked anything


class TrainedQueries:
    """The queries that a bundle's predictor was trained on.

    Two queries are the same if only capitals, white space or the mark at their end differ.
    """

    def __init__(self, manifest: Manifest) -> None:
        named = [manifest.default_query, manifest.labels.query, *manifest.queries] if manifest.queries else []
        self._queries = {_key(query): query for query in named if query}
        self._warned: set[str] = set()

    def __contains__(self, query: str) -> bool:
        """Return whether a query is one of them. All are if they are not known."""
        return not self._queries or _key(query) in self._queries

    @property
    def known(self) -> bool:
        """Whether the bundle names them."""
        return bool(self._queries)

    def warn_of_others(self, queries: Iterable[str | None]) -> None:
        """Log a line, once, for each query that is none of them. None is the bundle's default query."""
        for query in queries:
            if query is None or query in self or len(self._warned) == _MOST_WARNINGS or query in self._warned:
                continue
            self._warned.add(query)
            some = ", ".join(f'"{known}"' for known in list(self._queries.values())[:_SHOWN])
            _LOG.warning(
                "the model was not trained to be asked '%s' and answers as if it were another question: ask one of its"
                " %d, such as %s (vlj-edge inspect lists them)",
                query[:_LONGEST],
                len(self._queries),
                some,
            )


def _key(query: str) -> str:
    return " ".join(query.split()).rstrip(".?! ").casefold()
