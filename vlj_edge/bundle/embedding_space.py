"""The identifier of an embedding space: only embeddings of the same weights can be compared."""

from __future__ import annotations

import hashlib
import json

from .manifest import Manifest


def embedding_space(manifest: Manifest) -> str:
    """Return an identifier of the space that a bundle's embeddings lie in, 16 hexadecimal digits.

    It identifies the weights, not the files: bundles of the same weights in another precision or flavour share it.
    Without weights in the receipt, it identifies the files.
    """
    weights = manifest.receipt.get("weights") or {name: seal.sha256 for name, seal in manifest.files.items()}
    identity = [manifest.preset, manifest.embedding, weights, manifest.receipt.get("random_weights")]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
