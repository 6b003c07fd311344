"""TensorRT engines built from a bundle: engines/<device>-<package>-<version>/ holds a file and a JSON receipt for each.

A serialised engine is code. Its file is hashed before TensorRT gets it, and it is refused unless its receipt says that
it was built from this bundle for this device, and is signed by this machine or lies in a folder that the user named.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..atomic_write import atomic_write
from ..errors import VljEdgeError
from ..schema import parse
from .manifest import BUILT_ENGINES, FileSeal, Manifest, seal
from .signature import sign, signing_key

_SIGNER = "signer"  # in a receipt's report: who built it


@dataclass(frozen=True)
class RuntimeId:
    """The device and TensorRT version that an engine was built for; it runs on no other.

    Attributes:
        package: "tensorrt" or "tensorrt_rtx".
        version: of the package.
        sm: compute capability, such as "sm87".
        device: the card's name as its driver gives it; None: every card with this compute capability, for an engine
            that was built ahead of time.
    """

    package: str
    version: str
    sm: str
    device: str | None

    @property
    def folder(self) -> str:
        """The folder's name in engines/: "orin-sm87-tensorrt-10.3.0", "sm86-tensorrt_rtx-1.7.1"."""
        device = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-") + "-" if self.device else ""
        return f"{device}{self.sm}-{self.package}-{self.version}"


@dataclass(frozen=True)
class Receipt:
    """The sources, target and options that an engine was built with.

    Attributes:
        engine: its name in the manifest.
        file: name of the engine's file, which lies beside the receipt.
        sealed: the file's size and sha256.
        sources: file of the bundle -> sha256, for the ONNX file and its external weights.
        options: what the builder was asked for.
        report: seconds, layers, attention and so on, and under "signer" who built it; shown to users, never compared.
        signature: HMAC-SHA256 of all other fields, hex.
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

    def signed_content(self) -> bytes:
        """Return what the signature covers: every field except itself."""
        signed = {name: value for name, value in asdict(self).items() if name != "signature"}
        return json.dumps(signed, sort_keys=True).encode()


@dataclass(frozen=True)
class BuiltEngine:
    """An engine with a valid receipt. Its file has not been read yet and must match `sealed`."""

    path: Path
    sealed: FileSeal


@dataclass(frozen=True)
class Signature:
    """Who signed an engine in a bundle.

    Attributes:
        receipt: the engine's receipt.
        key: file of the key under which it is signed; None: under none of this user or machine, so that it is not
            loaded unless its folder is named.
        signer: user and machine that signed it; empty without a valid signature.
        whole: whether the engine's file is there and is the one that was built.
    """

    receipt: Path
    key: Path | None
    signer: str
    whole: bool


def engine_sources(manifest: Manifest, name: str) -> dict[str, str]:
    """Return the files of the bundle that an engine may be built from, and their sha256.

    They are its graph, and every file that is neither another engine's graph or weights nor of another use: which of
    them hold its weights, only the graph says, and the device that runs the engine need not have it.
    """
    file = manifest.engines[name].file
    others = {each.file for each in (*manifest.engines.values(), *manifest.on_cpu.values())} - {file}
    others |= {f"{other}.data" for other in others} | {each.file for each in manifest.tokenizers.values()}
    others |= {each for each in (manifest.captions, manifest.prefix) if each is not None}
    others |= {manifest.known.file} if manifest.known is not None else set()
    weights = sorted(part for part in manifest.files if part not in others and part != file)
    return {part: manifest.files[part].sha256 for part in (file, *weights)}


def store_engine(directory: Path, receipt: Receipt, plan: memoryview | bytes) -> Path:
    """Write an engine and its receipt into a bundle's folder of built engines, in place of an older one.

    Readers find the old engine or the new one, never a mixture; the last writer wins.

    Args:
        directory: the bundle.
        receipt: its `file`, `sealed`, signer and `signature` are filled in here.
        plan: the serialised engine.

    Returns:
        The engine's file.

    Raises:
        VljEdgeError: the bundle or the signing key cannot be written.
    """
    folder = directory / BUILT_ENGINES / receipt.runtime.folder
    sha256 = hashlib.sha256(plan).hexdigest()
    path = folder / f"{receipt.engine}-{sha256[:16]}.engine"  # named by content: never overwritten
    receipt = replace(receipt, file=path.name, sealed=FileSeal(len(plan), sha256))
    receipt = replace(receipt, report={**receipt.report, _SIGNER: _this_user()})
    receipt = replace(receipt, signature=sign(receipt.signed_content()))
    text = json.dumps(asdict(receipt), indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            for target, content in ((path, plan), (folder / f"{receipt.engine}.json", text.encode())):
                with atomic_write(target) as stream:
                    stream.write(content)
            for old in folder.glob(f"{receipt.engine}-*.engine"):
                if old != path:
                    old.unlink()
    except OSError as error:
        raise VljEdgeError(
            f"{folder} cannot be written ({error.strerror or error}): free some space, or copy the bundle to a place of"
            " your own and build there"
        ) from error
    return path


def find_engine(
    directory: Path, manifest: Manifest, name: str, runtime: RuntimeId, engines: Path | None = None
) -> BuiltEngine:
    """Find the engine that was built from this bundle for this card and TensorRT version.

    Args:
        directory: the bundle.
        name: of the engine, in the manifest.
        engines: a folder of engines that were built elsewhere and that the user trusts: signatures are not checked.
            None: the bundle's folders for this card, then for its compute capability.

    Raises:
        VljEdgeError: there is none; it was built from another graph, or for another card or version; or it is not
            signed by this machine.
    """
    any_card = replace(runtime, device=None)
    folders = [engines] if engines is not None else [directory / BUILT_ENGINES / r.folder for r in (runtime, any_card)]
    receipts = [folder / f"{name}.json" for folder in folders]
    path = next((path for path in receipts if path.is_file()), None)
    if path is None:
        raise VljEdgeError(
            f"{directory} has no {name} engine for {runtime.folder}: run vlj-edge build {directory}"
            if engines is None
            else f"{engines} holds no {name}.json: name a folder that vlj-edge build made"
        )
    receipt = _read_receipt(path)
    if receipt.engine != name or receipt.sources != engine_sources(manifest, name):
        raise VljEdgeError(
            f"{path}: built from another graph than {directory} holds now: run vlj-edge build {directory}"
        )
    if receipt.runtime not in (runtime, any_card):
        raise VljEdgeError(
            f"{path}: built for {receipt.runtime.folder}, and this is {runtime.folder}: run vlj-edge build {directory}"
        )
    if engines is None and signing_key(receipt.signed_content(), receipt.signature) is None:
        raise VljEdgeError(
            f"{path}: this engine is not signed with a key of this user or machine, and engines are code: run vlj-edge"
            f" build {directory} (users of one machine share a key with --key-file), or if you trust whoever built it,"
            f" name it with --engines {path.parent}"
        )
    return BuiltEngine(path.parent / receipt.file, receipt.sealed)


def read_engine(found: BuiltEngine) -> bytes:
    """Return the engine's bytes, verified after reading: only these may be deserialised.

    Raises:
        VljEdgeError: the file is missing, a link, or not the one of the receipt.
    """
    missing = VljEdgeError(f"{found.path} is missing or a link: run vlj-edge build on the bundle")
    if found.path.is_symlink() or not found.path.is_file():
        raise missing
    try:
        content = found.path.read_bytes()
    except FileNotFoundError:  # another process has replaced it with a newer one
        raise missing from None
    if FileSeal(len(content), hashlib.sha256(content).hexdigest()) != found.sealed:
        raise VljEdgeError(f"{found.path} is not the engine that was built: run vlj-edge build on the bundle")
    return content


def is_up_to_date(directory: Path, manifest: Manifest, name: str, runtime: RuntimeId, options: dict[str, Any]) -> bool:
    """Return whether the bundle holds an intact engine that was built here, from this graph, with these options."""
    path = directory / BUILT_ENGINES / runtime.folder / f"{name}.json"
    try:
        found = find_engine(directory, manifest, name, runtime)
        return path.is_file() and _read_receipt(path).options == options and seal(found.path) == found.sealed
    except (VljEdgeError, OSError):
        return False


def read_report(directory: Path, name: str, runtime: RuntimeId) -> dict[str, Any]:
    """Return the report in an engine's receipt.

    Raises:
        VljEdgeError: the receipt is missing or damaged.
    """
    report = _read_receipt(directory / BUILT_ENGINES / runtime.folder / f"{name}.json").report
    return {key: value for key, value in report.items() if key != _SIGNER}


def find_signatures(directory: Path, manifest: Manifest) -> list[Signature]:
    """Return who signed each engine in a bundle's engines/ folder, and whether it is the one that was signed.

    Raises:
        VljEdgeError: a receipt is damaged, or a key cannot be used.
    """
    found = []
    for path in sorted((directory / BUILT_ENGINES).glob("*/*.json")):
        if path.stem not in manifest.engines:
            continue
        receipt = _read_receipt(path)
        key = signing_key(receipt.signed_content(), receipt.signature)
        signer = str(receipt.report.get(_SIGNER, "an earlier version of vlj-edge")) if key is not None else ""
        engine = path.parent / receipt.file
        whole = not engine.is_symlink() and engine.is_file() and seal(engine) == receipt.sealed
        found.append(Signature(path, key, signer, whole))
    return found


def _this_user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        name = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{name} on {platform.node()}"


def _read_receipt(path: Path) -> Receipt:
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        receipt = parse(Receipt, json.loads(path.read_text(encoding="utf-8")))
        if Path(receipt.file).name != receipt.file:
            raise ValueError(f"file is {receipt.file!r}, not a name")
        return receipt
    except (OSError, ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} is no receipt of an engine ({error}): run vlj-edge build on the bundle") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder for writing by one process at a time; the system releases the lock when a process dies."""
    try:
        import fcntl
    except ImportError:  # not a Unix: files are still replaced atomically
        yield
        return
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
