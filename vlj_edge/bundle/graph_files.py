"""The files that an ONNX graph reads its tensors from, found without the package onnx, and checked before it is loaded.

A tensor may lie outside the graph's file: `external_data` names a file relative to it. Whoever loads the graph opens
that file, so it must be sealed as well. Here only the fields of onnx.proto that lead to tensors are walked; raw data is
skipped, so that a graph of gigabytes takes as long as one of megabytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import VljEdgeError
from .manifest import Manifest
from .validate import is_inside, verify_file

# message -> number of a field -> its message (onnx.proto of ONNX 1.20). All other fields are skipped.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
_SIZES = {1: 8, 5: 4}  # wire type -> bytes of a value, for those of fixed size
_VARINT, _BYTES = 0, 2
_DEEPEST = 100  # messages in one another, as protobuf's own readers allow
_LONGEST_NAME = 4096


def graph_files(directory: Path, name: str, manifest: Manifest) -> list[str]:
    """Return an ONNX file of a bundle and the files that it takes tensors from, as the manifest names them.

    Call verify_file() for each before the graph is loaded.

    Args:
        name: of the ONNX file, which must have been verified.

    Raises:
        VljEdgeError: it is no ONNX file, or takes a tensor from a file that the manifest does not seal or that lies
            outside the bundle.
    """
    path = directory / name
    if PurePosixPath(name).suffix != ".onnx":  # readers go by it: others load .ort or .xml, which name files too
        raise VljEdgeError(f"{path} is used as a graph, and is no .onnx file: export the bundle again")
    try:
        locations = external_locations(path)
    except ValueError as error:
        raise VljEdgeError(f"{path} is no ONNX file ({error}): export the bundle again") from error
    found = [name]
    for location in locations:
        file = (PurePosixPath(name).parent / location).as_posix()
        # "*/_ORT_MEM_ADDR_/*" is no file to ONNX Runtime and OpenVINO, but an address in memory.
        if not location or not is_inside(location) or "*" in location or file not in manifest.files:
            raise VljEdgeError(
                f"{path} takes weights from {location[:200]!r}, which the manifest does not seal: do not use this"
                " bundle, or export it again"
            )
        found.append(file)
    return found


def external_locations(path: Path) -> list[str]:
    """Return the distinct locations of a graph's external tensors as they are written, in their order.

    Raises:
        ValueError: the file is no ONNX graph.
    """
    with path.open("rb") as stream:
        if not stream.seek(0, 2):
            raise ValueError("it is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return list(dict.fromkeys(_locations(data)))


def _locations(data: mmap.mmap) -> Iterator[str]:
    """Walk all messages that lead to a tensor, without recursion."""
    pending = [("model", 0, len(data), 0)]
    graphs = 0
    while pending:
        message, start, end, depth = pending.pop()
        if depth > _DEEPEST:
            raise ValueError(f"its messages are more than {_DEEPEST} deep")
        inner = list(_children(data, message, start, end))
        if message == "entry":
            yield from _entry(data, inner)
            continue
        graphs += message == "graph"
        pending += [(kind, start, end, depth + 1) for kind, start, end in reversed(inner)]
    if not graphs:
        raise ValueError("it holds no graph")


def _entry(data: mmap.mmap, fields: list[tuple[str, int, int]]) -> Iterator[str]:
    """Yield the values of a StringStringEntryProto whose key is "location".

    Readers use the last of several keys and of several values; here each counts.
    """
    if not any(kind == "key" and data[start:end] == b"location" for kind, start, end in fields):
        return
    values = [(start, end) for kind, start, end in fields if kind == "value"] or [(0, 0)]
    for start, end in values:
        if end - start > _LONGEST_NAME:
            raise ValueError(f"a file name of {end - start} bytes")
        yield data[start:end].decode("utf-8", "surrogateescape")


def _children(data: mmap.mmap, message: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Yield the fields of a message that lead to tensors: what they hold, and where they begin and end."""
    fields, at = _FIELDS[message], start
    while at < end:
        tag, at = _varint(data, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at, end)
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, end)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:  # groups, which protobuf has given up and ONNX never used
            raise ValueError(f"byte {at} is no field")
        if not field or size > end - at:
            raise ValueError(f"a field at byte {at} is longer than what holds it")
        if wire == _BYTES and field in fields:
            yield fields[field], at, at + size
        at += size


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return an integer of one to ten bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError(f"a number at byte {at} breaks off")


def verify_graph(directory: Path, name: str, manifest: Manifest) -> list[Path]:
    """Verify an ONNX file and the files that it takes tensors from, and return them in this order.

    Raises:
        VljEdgeError: as verify_file() and graph_files().
    """
    path, beside = verify_file(directory, name, manifest), f"{name}.data"
    weights = graph_files(directory, name, manifest)[1:]
    if beside not in weights and (beside in manifest.files or (directory / beside).exists()):
        weights.append(beside)  # where exporters put them: a file that lies there is sealed, or wrong
    return [path, *(verify_file(directory, file, manifest) for file in weights)]


@contextmanager
def unchanged(directory: Path, files: Iterable[str]) -> Iterator[None]:
    """Check that files were verified and loaded without a change between the two: what is loaded is what was hashed.

    Raises:
        VljEdgeError: a file was written or replaced meanwhile.
    """
    before = {file: _state(directory / file) for file in files}
    yield
    for file, state in before.items():
        if _state(directory / file) != state:
            raise VljEdgeError(
                f"{directory / file} changed while it was loaded: wait until it is written, and try again"
            )


def _state(path: Path) -> tuple[int, ...] | None:
    """Return numbers that differ once a file was written or replaced. The last cannot be set by programs."""
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:  # verify_file() says why
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
