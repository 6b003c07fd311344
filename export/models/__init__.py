"""The torch modules of VL-JEPA; a preset gives their dimensions."""

from .vl_jepa import VLJepa

__all__ = ["VLJepa"]
