"""A library of videos: every moment's embedding in a store, and a sentence or another moment to find them by."""

from .index import IndexedVideo, find_videos, index, local_encoder
from .search import embedding_at, search
from .store import Store

__all__ = ["IndexedVideo", "Store", "embedding_at", "find_videos", "index", "local_encoder", "search"]
