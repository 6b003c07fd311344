"""What the gates have learned of each source of a station, kept in a file over a restart."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from vlj_edge.atomic_write import atomic_write
from vlj_edge.bundle import Manifest
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.errors import VljEdgeError, without_credentials
from vlj_edge.regular_file import check_regular_file
from vlj_edge.schema import Range, parse

from ..gating.embedding_spread import Moments
from ..gating.stream_noise import StreamNoise
from .settings import SourceSettings

_LOG = logging.getLogger(__name__)
_SAVE_EVERY = 300.0  # seconds
_MOST_BYTES = 20_000_000  # of a file, of some 10 kB a source
_MOST_SOURCES = 1000  # that are remembered at the same time
_MOST_COSINES = 100


@dataclass(frozen=True)
class _Learned:
    """One source in the file.

    Attributes:
        of: identifies what was learned from: the source, the query and the model's weights.
        seen: pictures.
        noise: of each cell, row by row.
        cosines: of looks at the resting picture.
        bursts: of noise; files of earlier versions have none, and nothing of the following.
        neighbours: distances of neighbouring looks.
        moments: how far apart moments are, as of Moments; empty: not known.
    """

    of: str
    seen: Annotated[int, Range(0, 2**53)]
    noise: tuple[float, ...]
    cosines: tuple[Annotated[float, Range(-1, 1)], ...]
    bursts: float = StreamNoise().picture.bursts
    neighbours: tuple[Annotated[float, Range(0, 2)], ...] = ()
    moments: tuple[Annotated[float, Range(0, 2)], ...] = ()


@dataclass(frozen=True)
class _File:
    version: Literal[1]
    sources: dict[str, Any]


class LearnedNoise:
    """The StreamNoise of each source of a station; every run over the source gets the same one.

    It is learned anew if the source's address, its rotation, its query or the model's weights have changed. Callable
    from any thread. A context manager, which saves at its end and every five minutes if there is a file.

    Args:
        path: a JSON file; None: nothing is kept over a restart. What cannot be used in it is logged, and the file is
            moved to NAME.unused before anything is written.

    Raises:
        VljEdgeError: the path names no regular file.
    """

    def __init__(self, manifest: Manifest, path: Path | None = None) -> None:
        self._space, self._default_query, self._path = embedding_space(manifest), manifest.default_query, path
        self._saved, self._unused = ({}, False) if path is None else _read(path)
        self._noises: dict[str, tuple[str, StreamNoise]] = {}  # name -> what it was learned from, and it
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._complained = False
        self._saver = threading.Thread(target=self._save_regularly, name="save noise", daemon=True)

    def of(self, settings: SourceSettings) -> StreamNoise:
        """Return what has been learned of a source."""
        key = self._key(settings)
        with self._lock:
            known = self._noises.pop(settings.name, None)
            if known is None or known[0] != key:
                known = (key, self._restored(settings.name, key))
            self._noises[settings.name] = known  # the latest is the last
            while len(self._noises) > _MOST_SOURCES:
                del self._noises[next(iter(self._noises))]
            return known[1]

    def save(self) -> None:
        """Write the file. That it cannot be written is logged once."""
        if self._path is None:
            return
        with self._lock:
            # A source that was not there yet keeps what is in the file.
            learned = self._saved | {name: _as_learned(key, noise) for name, (key, noise) in self._noises.items()}
        sources = {name: asdict(learned[name]) for name in list(learned)[-_MOST_SOURCES:]}
        try:
            if self._unused:  # it may be another program's, or one that a newer vlj-edge can use
                self._path.replace(self._path.with_name(f"{self._path.name}.unused"))
                self._unused = False
            with atomic_write(self._path) as stream:
                stream.write((json.dumps({"version": 1, "sources": sources}) + "\n").encode())
            self._complained = False
        except OSError as error:
            if not self._complained:
                _LOG.warning("%s cannot be written (%s): check the folder and the disk", self._path, error.strerror)
            self._complained = True

    def __enter__(self) -> LearnedNoise:
        if self._path is not None:
            self._saver.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._path is not None:
            self._saver.join()
            self.save()

    def _save_regularly(self) -> None:
        while not self._ending.wait(_SAVE_EVERY):
            self.save()

    def _key(self, settings: SourceSettings) -> str:
        address = without_credentials(settings.uri)
        told = [address, settings.rotate, settings.query or self._default_query, self._space]
        return hashlib.sha256(json.dumps(told).encode("utf-8", "surrogatepass")).hexdigest()

    def _restored(self, name: str, key: str) -> StreamNoise:
        noise, saved = StreamNoise(), self._saved.pop(name, None)
        if saved is not None and saved.of == key:
            noise.picture.restore(_cells(saved.noise), saved.seen, saved.bursts)
            noise.embedding.restore(saved.cosines)
            noise.embedding.spread.restore(saved.neighbours, Moments(*saved.moments) if saved.moments else None)
        return noise


def _read(path: Path) -> tuple[dict[str, _Learned], bool]:
    """Return the sources of a file, and whether something in it cannot be used; empty if there is none."""
    check_regular_file(path, "name a file for what the gates learn")
    try:
        if not path.exists():
            return {}, False
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES} bytes")
        found = parse(_File, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, VljEdgeError) as error:
        _LOG.warning("%s holds nothing that gates have learned (%s): they learn it anew", path, error)
        return {}, True
    usable, damaged = {}, []
    for name, raw in found.sources.items():
        try:
            usable[name] = _checked(raw)
        except ValueError as error:
            damaged.append(f"{name[:60]}: {error}")
    if damaged:
        _LOG.warning("%s is damaged (%s): the gates learn that anew", path, damaged[0])
    return usable, bool(damaged)


def _checked(raw: Any) -> _Learned:
    """Return one source of a file. Raises ValueError: it is damaged."""
    learned = parse(_Learned, raw)
    if max(len(learned.cosines), len(learned.neighbours)) > _MOST_COSINES:
        raise ValueError(f"it has more than {_MOST_COSINES} cosines")
    if len(learned.moments) not in (0, len(Moments._fields)):
        raise ValueError(f"moments has {len(learned.moments)} numbers, not {len(Moments._fields)}")
    StreamNoise().picture.restore(_cells(learned.noise), learned.seen, learned.bursts)
    return learned


def _cells(noise: tuple[float, ...]) -> Any:
    side = StreamNoise().picture.median.shape[0]
    if len(noise) != side * side:
        raise ValueError(f"noise is that of {side * side} cells")
    return np.array(noise, np.float64).reshape(side, side)


def _as_learned(key: str, noise: StreamNoise) -> _Learned:
    picture, spread = noise.picture, noise.embedding.spread
    moments = () if spread.moments is None else tuple(spread.moments)
    cosines, neighbours = noise.embedding.cosines, spread.neighbours
    return _Learned(key, picture.seen, picture.learned(), cosines, picture.bursts, neighbours, moments)
