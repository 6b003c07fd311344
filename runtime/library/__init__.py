"""A library of videos: index their moments in a store, and search them by a sentence or by another moment.

The store, indexing in this process and on a cluster, search, and pictures of the moments found.
"""

from ..video.recordings.folders import find_videos
from .index import IndexedVideo, index, local_encoder
from .search import embedding_at, search
from .store import Store

__all__ = ["IndexedVideo", "Store", "embedding_at", "find_videos", "index", "local_encoder", "search"]
