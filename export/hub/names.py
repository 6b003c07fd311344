"""The form of a repository's name, checked without a network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from vlj_edge.errors import WrongCall, without_credentials

PAGES = "https://huggingface.co"  # where licences are accepted and files are looked at, whatever HF_ENDPOINT says
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PREFIX = r"(?:https?://[^/]+/(?:models/)?|hf://(?:models/)?|(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?|models/)"
_ADDRESS = re.compile(rf"{_PREFIX}({_PART}/{_PART})(/.*)?")
_FORM = "OWNER/NAME or OWNER/NAME@REVISION, such as google/siglip2-base-patch16-224 (vlj-edge models lists some)"


@dataclass(frozen=True)
class Name:
    """A repository and, if one was asked for, its branch, tag, commit or refs/pr/N."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    @property
    def page(self) -> str:
        """The address of the repository's page."""
        return f"{PAGES}/{self.repository}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a whole commit, whose files never change."""
        return self.revision is not None and is_commit(self.revision)


def host_of(address: str) -> str:
    """Return the host and port of a hub's address, for messages: without a password that may stand before it."""
    return urlsplit(address).netloc.rpartition("@")[2] or "nowhere"


def is_commit(text: str) -> bool:
    """Return whether a text is a whole commit: 40 hexadecimal digits in lower case."""
    return _COMMIT.fullmatch(text) is not None


def parse_name(text: str) -> Name:
    """Return the repository that OWNER/NAME[@REVISION] names.

    >>> parse_name("google/siglip2-base-patch16-224@main")
    Name(repository='google/siglip2-base-patch16-224', revision='main')

    Raises:
        VljEdgeError: the text has another form.
    """
    repository, at, revision = text.partition("@")
    if _is_repository(repository) and (not at or _is_revision(revision)):
        return Name(repository, (revision.lower() if is_commit(revision.lower()) else revision) if at else None)
    shown = without_credentials(text)
    if _is_repository(repository):
        raise WrongCall(
            f"'{shown}' names no revision: write a branch, a tag, a commit or refs/pr/N after the @, or leave it out"
        )
    found = _ADDRESS.fullmatch(text.strip().rstrip("/"))
    if found is not None and _is_repository(found[1]):
        raise WrongCall(f"'{shown}' is an address: name the repository as {found[1]}{_revision_in(found[2] or '')}")
    raise WrongCall(f"'{shown}' is neither a path here nor the name of a repository: write {_FORM}")


def _is_repository(text: str) -> bool:
    refused = "--" in text or ".." in text or text.endswith(".git") or len(text) > 96
    return not refused and _NAME.fullmatch(text) is not None


def _is_revision(text: str) -> bool:
    return _REVISION.fullmatch(text) is not None and ".." not in text and "//" not in text and text[-1] not in "/."


def _revision_in(rest: str) -> str:
    """Return @REVISION for the rest of a page's address, such as /tree/REVISION."""
    found = re.match(r"/(?:tree|blob|resolve|commit)/([^/?#]+)", rest)
    return f"@{found[1]}" if found is not None and found[1] != "main" and _is_revision(found[1]) else ""
