"""Engines that were built from a bundle: engines/<device>-<version>/, a file and a receipt for each.

A serialised engine is code: it is hashed before it is deserialised, and one whose receipt this machine did not sign is
refused unless its folder is named. The receipt says what it was built from and for; what does not match is not loaded.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..atomic_write import atomic_write
from ..errors import VljEdgeError
from ..schema import parse
from .manifest import BUILT_ENGINES, FileSeal, Manifest, seal

_KEY_BYTES = 32


@dataclass(frozen=True)
class RuntimeId:
    """What an engine runs on.

    Attributes:
        package: "tensorrt" or "tensorrt_rtx".
        version: of that package.
        sm: compute capability, "sm87".
        device: the card's own name; None for an engine that was built ahead of time, for every card with this sm.
    """

    package: str
    version: str
    sm: str
    device: str | None

    @property
    def folder(self) -> str:
        """The folder's name below engines/: "orin-sm87-tensorrt-10.3.0", "sm86-tensorrt_rtx-1.7.1"."""
        device = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-") + "-" if self.device else ""
        return f"{device}{self.sm}-{self.package}-{self.version}"


@dataclass(frozen=True)
class Receipt:
    """What an engine was built from, for and with. See the fields of facts/tensorrt-and-onnx.md's cache key.

    Attributes:
        sources: file of the bundle -> sha256, the ONNX file and its weights.
        options: what the builder was asked for.
        report: seconds, layers, attention and so on, for people.
        signature: HMAC-SHA256 of everything else under this machine's key, hex.
    """

    engine: str
    file: str
    sealed: FileSeal
    sources: dict[str, str]
    options: dict[str, Any]
    runtime: RuntimeId
    report: dict[str, Any]
    signature: str = ""
    version: Literal[1] = 1


@dataclass(frozen=True)
class BuiltEngine:
    """An engine whose receipt fits; the file itself has not been read yet."""

    path: Path
    sealed: FileSeal


def sources_of(manifest: Manifest, name: str) -> dict[str, str]:
    """The bundle's files that an engine is built from, and their sha256."""
    file = manifest.engines[name].file
    return {part: manifest.files[part].sha256 for part in (file, f"{file}.data") if part in manifest.files}


def publish(directory: Path, receipt: Receipt, plan: memoryview | bytes) -> Path:
    """Store an engine and its receipt. What was there stays whole until both are; two writers do not mix.

    Returns:
        The engine's file. The receipt is signed here, its `file` and `sealed` are filled in here.

    Raises:
        VljEdgeError: the bundle cannot be written to.
    """
    folder = directory / BUILT_ENGINES / receipt.runtime.folder
    sha256 = hashlib.sha256(plan).hexdigest()
    path = folder / f"{receipt.engine}-{sha256[:16]}.engine"  # by content: a reader never finds another's bytes
    receipt = replace(receipt, file=path.name, sealed=FileSeal(len(plan), sha256))
    receipt = replace(receipt, signature=_sign(receipt, _machine_key()))
    text = json.dumps(asdict(receipt), indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _replace(path, plan)
            _replace(folder / f"{receipt.engine}.json", text.encode())
            for old in folder.glob(f"{receipt.engine}-*.engine"):
                if old != path:
                    old.unlink()
    except OSError as error:
        raise VljEdgeError(
            f"{folder} cannot be written ({error.strerror or error}): free some space, or copy the bundle to a place of"
            " your own and build there"
        ) from error
    return path


def find_built(
    directory: Path, manifest: Manifest, name: str, runtime: RuntimeId, engines: Path | None = None
) -> BuiltEngine:
    """The engine that was built from this bundle's graph for this card and version.

    Args:
        engines: a folder of engines that were built elsewhere, which the caller has chosen to trust; its receipts need
            not be signed by this machine. None: the bundle's own folders, for this card, then for its sm.

    Raises:
        VljEdgeError: there is none, it was built from another graph, for another card or version, or elsewhere.
    """
    ahead = replace(runtime, device=None)
    folders = [engines] if engines is not None else [directory / BUILT_ENGINES / r.folder for r in (runtime, ahead)]
    receipts = [folder / f"{name}.json" for folder in folders]
    path = next((path for path in receipts if path.is_file()), None)
    if path is None:
        raise VljEdgeError(
            f"{directory} has no {name} engine for {runtime.folder}: run vlj-edge build {directory}"
            if engines is None
            else f"{engines} holds no {name}.json: name a folder that vlj-edge build made"
        )
    receipt = _read(path)
    if receipt.engine != name or receipt.sources != sources_of(manifest, name):
        raise VljEdgeError(
            f"{path}: built from another graph than {directory} holds now: run vlj-edge build {directory}"
        )
    if receipt.runtime not in (runtime, ahead):
        raise VljEdgeError(
            f"{path}: built for {receipt.runtime.folder}, and this is {runtime.folder}: run vlj-edge build {directory}"
        )
    if engines is None and not _signed_here(receipt):
        raise VljEdgeError(
            f"{path}: this engine was not built on this machine, and engines are code: run vlj-edge build {directory},"
            f" or if you trust whoever built it, name it with --engines {path.parent}"
        )
    return BuiltEngine(path.parent / receipt.file, receipt.sealed)


def read_built(found: BuiltEngine) -> bytes:
    """The engine's bytes, hashed after they were read: these, and no others, may be deserialised.

    Raises:
        VljEdgeError: missing, a link, or not the file that the receipt speaks of.
    """
    missing = VljEdgeError(f"{found.path} is missing or a link: run vlj-edge build on the bundle")
    if found.path.is_symlink() or not found.path.is_file():
        raise missing
    try:
        content = found.path.read_bytes()
    except FileNotFoundError:  # another process has just put a newer one in its place
        raise missing from None
    if FileSeal(len(content), hashlib.sha256(content).hexdigest()) != found.sealed:
        raise VljEdgeError(f"{found.path} is not the engine that was built: run vlj-edge build on the bundle")
    return content


def is_current(directory: Path, manifest: Manifest, name: str, runtime: RuntimeId, options: dict[str, Any]) -> bool:
    """Is an engine there that this machine built with these options, whole and from this graph?"""
    path = directory / BUILT_ENGINES / runtime.folder / f"{name}.json"
    try:
        found = find_built(directory, manifest, name, runtime)
        return path.is_file() and _read(path).options == options and seal(found.path) == found.sealed
    except (VljEdgeError, OSError):
        return False


def read_report(directory: Path, name: str, runtime: RuntimeId) -> dict[str, Any]:
    """What the receipt says for people.

    Raises:
        VljEdgeError: no receipt there, or a damaged one.
    """
    return _read(directory / BUILT_ENGINES / runtime.folder / f"{name}.json").report


def _read(path: Path) -> Receipt:
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        receipt = parse(Receipt, json.loads(path.read_text(encoding="utf-8")))
        if Path(receipt.file).name != receipt.file:
            raise ValueError(f"its file is {receipt.file!r}, which is not beside it")
        return receipt
    except (OSError, ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} is no receipt of an engine ({error}): run vlj-edge build on the bundle") from error


def _sign(receipt: Receipt, key: bytes) -> str:
    signed = {name: value for name, value in asdict(receipt).items() if name != "signature"}
    return hmac.new(key, json.dumps(signed, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _signed_here(receipt: Receipt) -> bool:
    ours = _sign(receipt, _machine_key(make=False))
    return hmac.compare_digest(receipt.signature.encode(errors="replace"), ours.encode())


def _machine_key(make: bool = True) -> bytes:
    """The secret under which this user signs the engines that were built here; 0600, made when first needed."""
    path = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "vlj-edge" / "machine.key"
    try:
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
                stream.write(secrets.token_bytes(_KEY_BYTES))
            with suppress(FileExistsError):  # another process was first: its key is the machine's
                os.link(scratch, path)
            scratch.unlink()
        key = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise VljEdgeError(
            f"{path} cannot be used ({error.strerror or error}): engines are signed with it; set XDG_DATA_HOME to a"
            " folder that you may write to"
        ) from error
    if make and len(key) != _KEY_BYTES:
        raise VljEdgeError(f"{path} is damaged: remove it, and build the engines again")
    return key if len(key) == _KEY_BYTES else secrets.token_bytes(_KEY_BYTES)  # without a key nothing was signed here


def _replace(path: Path, content: memoryview | bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(content)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer at a time in a folder; the system lets go of the lock when a process dies."""
    try:
        import fcntl
    except ImportError:  # not a Unix: replacing files whole is what is left
        yield
        return
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
