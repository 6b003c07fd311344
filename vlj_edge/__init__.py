"""VL-JEPA on the device: one embedding per clip window, words only when the meaning changes.

model = vlj_edge.load()
for event in model.narrate("video.mp4"):
    print(event.start, event.text)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import VljEdgeError

if TYPE_CHECKING:
    from vlj_edge.runtime.model import Model

__version__ = "0.1.0"
__all__ = ["VljEdgeError", "__version__", "load"]


def load(bundle: str | Path | None = None, backend: str | None = None, engines: str | Path | None = None) -> Model:
    """Open a bundle for running; the nano bundle of the package when none is named.

    Args:
        backend: "onnxruntime", "openvino" or "tensorrt"; None: the best that works here; `Model.backend` names it.
        engines: a folder of TensorRT engines that were built elsewhere and are to be trusted.

    Raises:
        VljEdgeError: the bundle does not match its manifest, or the backend is not installed or broken.
    """
    from vlj_edge.runtime.model import Model

    from .bundle import nano_bundle

    return Model(Path(bundle) if bundle is not None else nano_bundle(), backend=backend, engines=engines)
