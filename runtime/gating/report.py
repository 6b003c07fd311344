"""What is reported of the gates' decision about one window."""

from __future__ import annotations

from vlj_edge.decisions import Decision
from vlj_edge.results import WindowReport

from .clip_window import ClipWindow, Embedding
from .embedding_noise import cosine


def report(
    window: ClipWindow, last_embedding: Embedding | None, spoke: bool, decisions: tuple[Decision, ...]
) -> WindowReport:
    """Return the report of a window; `last_embedding` is that of the text before it."""
    embedding = window.encoded.embedding if window.is_encoded else None
    similarity = cosine(embedding, last_embedding) if embedding is not None and last_embedding is not None else None
    return WindowReport(window.times, similarity, bool(window.at_rest), spoke, embedding, decisions=decisions)
