"""open-vljepa by its name: the repository holds a checkpoint alone, which refers to parts of three others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vlj_edge.errors import VljEdgeError

from .errors import LicenceNotAccepted, sign_in
from .listing import Wanted
from .names import Name
from .repository import Repository

REPOSITORY = "cun-bjy/open-vljepa"
PRESET, FRAMES = "vl-jepa-1.6b", 8
PRECISION = {"fp16": "fp16,text_encoder=bf16"}  # EmbeddingGemma does not run in fp16
# What `export` is given besides, in the order of the download: what may be refused comes first. The checkpoint has its
# own predictor and text encoder, so only the configuration and tokenizers of these two are needed.
PARTS: Mapping[str, tuple[Name, Wanted]] = {
    "predictor": (Name("meta-llama/Llama-3.2-1B"), Wanted(weights=False)),
    "text_encoder": (Name("google/embeddinggemma-300m"), Wanted(weights=False)),
    "vision_encoder": (Name("facebook/vjepa2-vitl-fpc64-256"), Wanted()),
}
_CHECKPOINT = "best.pt"  # read without unpickling code, see weights/files.py


def fetch_all(
    name: Name, given: Iterable[str], fetch: Callable[[Name, Wanted], Repository]
) -> tuple[dict[str, Path], list[Repository]]:
    """Fetch the checkpoint and each of PARTS that is not in `given`.

    Returns:
        The path of "weights" and of each part that was fetched, and the repositories.

    Raises:
        VljEdgeError: what fetch() raises; one line for all the licences that have to be accepted.
    """
    repositories: dict[str, Repository] = {}
    refused: list[LicenceNotAccepted] = []
    for part, (other, wanted) in PARTS.items():
        if part in given:
            continue
        if refused and wanted.weights:
            break
        try:
            repositories[part] = fetch(other, wanted)
        except LicenceNotAccepted as error:
            refused.append(error)
    if refused:
        pages = " and at ".join(error.name.page for error in refused)
        parts = " and ".join(error.name.repository for error in refused)
        raise VljEdgeError(
            f"{name} is made of parts that are gated ({parts}): accept the licence at {pages}"
            f"{sign_in(refused[0].has_token)}"
        )
    repositories["weights"] = fetch(name, Wanted(weights=False, also=(_CHECKPOINT,)))
    paths = {part: repository.directory for part, repository in repositories.items()}
    paths["weights"] = paths["weights"] / _CHECKPOINT
    return paths, list(repositories.values())
