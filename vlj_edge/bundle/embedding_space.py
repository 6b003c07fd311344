"""Which embeddings may be compared: those that the same weights have made."""

from __future__ import annotations

import hashlib
import json

from .manifest import Manifest


def embedding_space(manifest: Manifest) -> str:
    """A name for the space that a bundle's embeddings lie in, 16 hexadecimal digits.

    It is the weights' name and not the files': the same weights at another precision, or as another flavour, make
    embeddings that can be compared. A bundle whose receipt names no weights is compared with itself alone.
    """
    weights = manifest.receipt.get("weights")
    made_of = weights or {name: seal.sha256 for name, seal in manifest.files.items()}
    told = [manifest.preset, manifest.embedding, made_of, manifest.receipt.get("random_weights")]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
