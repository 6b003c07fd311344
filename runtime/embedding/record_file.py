"""A file of embeddings: a stream that grows, or a ring of fixed size. docs/embeddings.md describes the bytes.

Records have the same size and a checksum each. So a reader needs no index, an incomplete record (after a power cut) is
skipped, and all others stay readable, since no record is ever moved.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from vlj_edge.errors import VljEdgeError
from vlj_edge.regular_file import check_regular_file

from .quantize import FORMATS, Vector, VectorFormat, parse_format, shorten

_MAGIC = b"vljedge1"
_HEADER = struct.Struct("<8sBxxxIIQ16s")  # magic, form, width, record size, slots (0: a stream), space; then CRC-32
_RECORD = struct.Struct("<Qddi")  # number, seconds in the source, unix time, label (-1: none); then vector, CRC-32
_CRC = struct.Struct("<I")
HEADER_SIZE = 64


@dataclass(frozen=True)
class Layout:
    """The layout of a record file.

    Attributes:
        form: format of its vectors, a key of quantize.FORMATS.
        width: values of each vector.
        space: identifies the weights that made the embeddings (vlj_edge.bundle.embedding_space).
        slots: capacity of a ring in records; 0 for a stream.

    Example:
        >>> from vlj_edge import Layout
        >>> Layout("int8", width=384, space="0" * 16, slots=100).record_size
        420
    """

    form: str
    width: int
    space: str
    slots: int = 0

    @property
    def record_size(self) -> int:
        """Bytes of one record."""
        return _RECORD.size + parse_format(self.form).size(self.width) + _CRC.size


class Record(NamedTuple):
    """One embedding: its number from 0 on, seconds from the start of the source, Unix time, and label index or -1.

    Example:
        >>> from vlj_edge import Record
        >>> Record(number=7, time=3.5, clock=1.7e9, label=-1, embedding=None).time
        3.5
    """

    number: int
    time: float
    clock: float
    label: int
    embedding: Vector


class RecordFile:
    """A record file, opened for appending and locked against other writers. A context manager.

    Args:
        sync: write() returns only when the record is on the disk, so that a power cut loses no record.

    Raises:
        VljEdgeError: another process writes to the file, it has another layout, or the disk is full.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import vlj_edge
        >>> layout = vlj_edge.Layout("float16", width=3, space="0" * 16, slots=2)
        >>> with vlj_edge.RecordFile(Path("ring.vlj"), layout) as ring:
        ...     for second in range(3):
        ...         ring.write(time=second, clock=0.0, embedding=np.array([1, 0, 0], np.float32))
        >>> [record.number for record in vlj_edge.read_records(Path("ring.vlj"))]
        [1, 2]
    """

    def __init__(self, path: str | Path, layout: Layout, sync: bool = False) -> None:
        path = Path(path)
        self.path, self.layout, self._sync = path, layout, sync
        self._format: VectorFormat = parse_format(layout.form)
        if not path.exists():
            _create(path, layout)
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise VljEdgeError(f"{path} is being written by another process: name another file") from error
            found = read_layout(path)
            if found != layout:
                raise VljEdgeError(f"{path} holds {_describe(found)}, not {_describe(layout)}: name another file")
            self.next = max((record.number for record in read_records(path)), default=-1) + 1
        except BaseException:
            os.close(self._file)
            raise

    def write(self, time: float, clock: float, embedding: Vector, label: int = -1) -> None:
        """Append an embedding, float32 [at least the layout's width]; a full ring overwrites its oldest record.

        Raises:
            VljEdgeError: the disk is full, or writing fails.
        """
        vector = self._format.pack(shorten(embedding, self.layout.width))
        body = _RECORD.pack(self.next, time, clock, label) + vector
        slot = self.next % self.layout.slots if self.layout.slots else self.next
        record, size = body + _CRC.pack(zlib.crc32(body)), self.layout.record_size
        try:
            if os.pwrite(self._file, record, HEADER_SIZE + slot * size) != size:
                raise OSError(28, "No space left on device")  # a short write is a full disk
            if self._sync:
                os.fdatasync(self._file)
        except OSError as error:
            raise VljEdgeError(
                f"{self.path} cannot be written ({error.strerror}): free space; the {self.next} records before stay"
            ) from error
        self.next += 1

    def close(self) -> None:
        """Release the file. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_layout(path: str | Path) -> Layout:
    """Read the layout from a file's header.

    Raises:
        VljEdgeError: the file cannot be read, or is no record file.
    """
    check_regular_file(path, "name a file of embeddings")
    try:
        with Path(path).open("rb") as stream:
            header = stream.read(HEADER_SIZE)
        magic, code, width, size, slots, space = _HEADER.unpack_from(header)
        (crc,) = _CRC.unpack_from(header, _HEADER.size)
        form = next((name for name, each in FORMATS.items() if each.code == code), None)
        if magic != _MAGIC or form is None or crc != zlib.crc32(header[: _HEADER.size]):
            raise ValueError("its header is not one")
        layout = Layout(form, width, space.decode("ascii"), slots)
        if layout.record_size != size:
            raise ValueError("its records have another size")
    except (OSError, ValueError, struct.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise VljEdgeError(f"{path} is no file of embeddings ({why}): write one with vlj-edge embed --ring") from error
    return layout


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the records of a file, oldest first, without incomplete ones. Another process may be writing.

    Raises:
        VljEdgeError: as read_layout().
    """
    layout = read_layout(path)
    form, size = parse_format(layout.form), layout.record_size
    numbers: list[tuple[int, int]] = []
    with Path(path).open("rb") as stream:
        stream.seek(HEADER_SIZE)
        slot = 0
        while len(raw := stream.read(size)) == size:
            if _is_whole(raw):
                numbers.append((_RECORD.unpack_from(raw)[0], slot))
            slot += 1
        for number, slot in sorted(numbers):
            stream.seek(HEADER_SIZE + slot * size)
            raw = stream.read(size)
            # another number: it was overwritten since
            if _is_whole(raw) and _RECORD.unpack_from(raw)[0] == number:
                _, time, clock, label = _RECORD.unpack_from(raw)
                yield Record(number, time, clock, label, form.unpack(raw[_RECORD.size : -_CRC.size], layout.width))


def _is_whole(raw: bytes) -> bool:
    # a slot that was never written is all zero, and the CRC-32 of its zeros is not
    return len(raw) > _CRC.size and zlib.crc32(raw[: -_CRC.size]) == _CRC.unpack_from(raw, len(raw) - _CRC.size)[0]


def _create(path: Path, layout: Layout) -> None:
    """Write header and empty slots to a scratch file, then rename it: a power cut leaves a whole file or none."""
    head = _HEADER.pack(
        _MAGIC,
        parse_format(layout.form).code,
        layout.width,
        layout.record_size,
        layout.slots,
        layout.space.encode("ascii"),
    )
    head = (head + _CRC.pack(zlib.crc32(head))).ljust(HEADER_SIZE, b"\0")
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as stream:
            stream.write(head)
            stream.flush()
            if layout.slots:  # reserve the space of the whole ring
                os.posix_fallocate(stream.fileno(), 0, HEADER_SIZE + layout.slots * layout.record_size)
            os.fsync(stream.fileno())
        try:
            os.link(scratch, path)  # unlike rename, it does not replace a file that another process has just made
        except FileExistsError:
            pass
        except OSError:  # a file system without links, such as FAT
            os.rename(scratch, path)
        scratch.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise VljEdgeError(f"{path} cannot be made ({error.strerror or error}): name another place") from error


def _describe(layout: Layout) -> str:
    kind = f"a ring of {layout.slots}" if layout.slots else "a stream"
    return f"{kind} {layout.form} vectors of {layout.width} in space {layout.space}"
