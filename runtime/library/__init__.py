"""A library of videos: every moment's embedding in a store, and a sentence or another moment to find them by."""

from .index import Indexed, find_videos, here, index
from .search import embedding_at, search
from .store import Store

__all__ = ["Indexed", "Store", "embedding_at", "find_videos", "here", "index", "search"]
