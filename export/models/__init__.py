"""The torch modules: one set of blocks, dimensions from a preset."""

from .vl_jepa import VLJepa

__all__ = ["VLJepa"]
