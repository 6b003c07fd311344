"""Files of a bundle that hold directions in the space of its embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import VljEdgeError
from .manifest import Manifest


def read_axes(path: Path, manifest: Manifest) -> npt.NDArray[np.float32]:
    """Return the axes that a .npy file holds, float32 [embedding, axes], each of unit length.

    Raises:
        VljEdgeError: the file is not an array of axes of that bundle's embeddings.
    """
    try:
        axes = np.asarray(np.load(path, allow_pickle=False), np.float32)
        if axes.ndim != 2 or len(axes) != manifest.embedding or not 1 <= axes.shape[1] <= len(axes):
            raise ValueError(f"its shape is {axes.shape}")
    except (ValueError, EOFError) as error:
        raise VljEdgeError(f"{path} holds no axes ({error}): export the bundle again") from error
    return np.asarray(axes / np.maximum(np.linalg.norm(axes, axis=0), 1e-12), np.float32)  # int8 has any scale
