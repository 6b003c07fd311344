"""What a repository holds at a revision, and which of its files are fetched: data, and nothing that can run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vlj_edge.errors import VljEdgeError

from ..weights.locations import CONFIG_FILE, INDEX_FILE, MODEL_FILE
from .names import PAGES, Name, host_of, is_commit

_SAFE = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.(?:safetensors|json)|(?:tokenizer|spiece|sentencepiece|sentencepiece\.bpe)\.model"
    r"|(?:vocab|merges)\.txt"
)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
# Repositories of pickles alone, and those that hold the same weights as safetensors.
_CONVERTED = {
    "facebook/PE-Core-T16-384": "timm/PE-Core-T-16-384",
    "facebook/PE-Core-S16-384": "timm/PE-Core-S-16-384",
    "facebook/PE-Core-B16-224": "timm/PE-Core-B-16",
    "facebook/PE-Core-L14-336": "timm/PE-Core-L-14-336",
    "facebook/PE-Core-G14-448": "timm/PE-Core-bigG-14-448",
}
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TIMEOUT = 30  # seconds for the listing, which may be long


@dataclass(frozen=True)
class Blob:
    """A file of a repository.

    Attributes:
        file: its name; never with a folder.
        size: bytes.
        etag: its hash: the sha256 of a large file (64 digits), or git's sha1 of a small one (40 digits).
    """

    file: str
    size: int
    etag: str


@dataclass(frozen=True)
class Listing:
    """A revision of a repository."""

    commit: str
    licence: str | None
    gated: bool
    blobs: Sequence[Blob]


@dataclass(frozen=True)
class Wanted:
    """Which files of a repository are fetched.

    Attributes:
        weights: the safetensors; without them, configuration and tokenizer alone.
        also: names of files that are taken beside those of choose_files(), whatever they hold.
    """

    weights: bool = True
    also: Sequence[str] = ()


def list_repository(name: Name, endpoint: str, wanted: Wanted) -> Listing:
    """Ask the hub for the commit of a revision and its files.

    Raises:
        VljEdgeError: the revision does not hold what is wanted, or the answer is not that of a hub.
        Exception: those of huggingface_hub and its HTTP client, see errors.explained().
    """
    from huggingface_hub import HfApi

    from vlj_edge import __version__

    api = HfApi(endpoint=endpoint, library_name="vlj-edge", library_version=__version__)
    try:
        info = api.model_info(name.repository, revision=name.revision or "main", files_metadata=True, timeout=_TIMEOUT)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # no JSON, or of another shape
        if type(error).__module__.startswith("huggingface_hub"):
            raise
        raise _no_hub(endpoint) from error
    commit = str(info.sha)
    if not is_commit(commit):
        raise _no_hub(endpoint)
    if name.is_pinned and commit != name.revision:
        raise VljEdgeError(f"{host_of(endpoint)} answers for {name} with commit {commit}: use another HF_ENDPOINT")
    siblings = {str(sibling.rfilename): sibling for sibling in info.siblings or ()}
    files = choose_files(siblings, name, wanted)
    blobs = [_blob(siblings[file], name, commit, endpoint) for file in files]
    return Listing(commit, _licence(info), bool(info.gated), sorted(blobs, key=_order))


def choose_files(names: Iterable[str], name: Name, wanted: Wanted) -> list[str]:
    """Return those of a repository's files that are fetched: safetensors, JSON and tokenizers of its top folder.

    Where the weights are there several times, those that transformers reads are taken.

    Raises:
        VljEdgeError: there are no safetensors, or one of `wanted.also` is missing.
    """
    names = list(names)
    for file in wanted.also:
        if file not in names:
            raise VljEdgeError(f"{name} has no {file}: look at {name.page}/tree/{name.revision or 'main'}")
    safe = [file for file in names if _SAFE.fullmatch(file) and not any(f"{end}." in file for end in _PICKLES)]
    small = [file for file in safe if not file.endswith(".safetensors")]
    if not wanted.weights:
        return [*small, *wanted.also]
    weights = [file for file in safe if file.endswith(".safetensors")]
    if not weights:
        raise _no_weights(names, name)
    if CONFIG_FILE in safe and MODEL_FILE in weights:
        weights = [MODEL_FILE]
        small = [file for file in small if file != INDEX_FILE]
    elif CONFIG_FILE in safe and INDEX_FILE in safe:
        weights = [file for file in weights if _SHARD.fullmatch(file)]
    return [*weights, *small, *(file for file in wanted.also if file not in weights)]


def is_weights(file: str) -> bool:
    """Return whether a file holds tensors, and so may be large."""
    return not file.endswith((".json", ".txt", ".model"))


def _order(blob: Blob) -> tuple[bool, str]:
    """Small files first: they show whether the licence was accepted and which family it is."""
    return is_weights(blob.file), blob.file


def _no_weights(names: list[str], name: Name) -> VljEdgeError:
    pickles = sorted(file for file in names if file.lower().endswith(_PICKLES))
    if pickles and name.repository in _CONVERTED:
        return VljEdgeError(
            f"{name} has its weights as pickles alone ({', '.join(pickles[:3])}), which may run code and are not read:"
            f" name {_CONVERTED[name.repository]}, which holds the same as safetensors"
        )
    if pickles:
        return VljEdgeError(
            f"{name} has its weights as pickles alone ({', '.join(pickles[:3])}), which may run code and are not read:"
            f" look at {name.page}/discussions for a conversion to safetensors, and name it as"
            f" {name.repository}@refs/pr/NUMBER"
        )
    return VljEdgeError(
        f"{name} holds no safetensors: look at {name.page}/tree/{name.revision or 'main'}, or choose another repository"
        f" at {PAGES}/models"
    )


def _blob(sibling: Any, name: Name, commit: str, endpoint: str) -> Blob:
    from .download import describe

    lfs = sibling.lfs
    etag, size = (lfs.sha256, lfs.size) if lfs is not None else (sibling.blob_id, sibling.size)
    if etag is None or size is None:  # some mirrors leave them out of the listing
        etag, size = describe(name, commit, sibling.rfilename, endpoint)
    etag = str(etag).lower()
    if not _HASH.fullmatch(etag) or not isinstance(size, int) or size < 0:
        raise VljEdgeError(
            f"{host_of(endpoint)} gives no hash and size of {sibling.rfilename} of {name}, so it cannot be checked: use"
            " another HF_ENDPOINT"
        )
    return Blob(sibling.rfilename, size, etag)


def _licence(info: Any) -> str | None:
    """Return the licence that the repository's card or tags name."""
    card = info.card_data
    tag = getattr(card, "license", None) if card is not None else None
    if tag == "other":
        tag = getattr(card, "license_name", None) or tag
    if isinstance(tag, (list, tuple)):
        tag = ", ".join(map(str, tag))
    tags = [each.removeprefix("license:") for each in info.tags or () if str(each).startswith("license:")]
    return str(tag) if tag else ", ".join(tags) or None


def _no_hub(endpoint: str) -> VljEdgeError:
    return VljEdgeError(
        f"{host_of(endpoint)} does not answer like a model hub: check HF_ENDPOINT, the proxy, and whether the network"
        " asks for a login in a browser"
    )
