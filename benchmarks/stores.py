"""LanceDB, usearch and sqlite-vec with a million embeddings: size, build time, memory, recall and query time.

python benchmarks/stores.py            needs: pip install usearch sqlite-vec apsw, and the test streams of train_nano

The embeddings are distributed like nano's: each is a mixture of two windows of the test streams, with noise of their
covariance. Queries are captions, whose embeddings lie elsewhere than those of clips, and windows of a held-out stream.
Each store keeps float16 and has settings that reach a recall of about 0.95 on captions. apsw is SQLite with loadable
extensions, which many builds of Python's own sqlite3 lack.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import RESULTS, TRAIN_NANO, write
from long_streams import resident
from tasks import meanings

import vlj_edge
from vlj_edge import Store
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.runtime.library.moments import Video, VideoMoments

TOP, BLOCK = 10, 50_000
STREAMS = TRAIN_NANO / "data" / "streams" / "test"
Ids = list[int]
Query = Callable[[np.ndarray], Ids]


def spread_like_nano(count: int, queries: int, folder: Path) -> None:
    """Write a.npy, float16 [count, embedding]; q.npy, float32 [2 * queries, embedding], captions then windows; and
    g.npy, int64 [2 * queries, TOP], the nearest rows of each query by an exact search."""
    model = vlj_edge.load()
    streams = [
        np.stack([item.embedding for item in model.embed(path, query=model.manifest.labels.query)])
        for path in sorted(STREAMS.glob("*.mp4"))[:8]
    ]
    real, held_out = np.concatenate(streams[:-1]), streams[-1]
    mean = real.mean(0)
    centred = real - mean
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(folder / "a.npy", "w+", np.float16, (count, real.shape[1]))
    for first in range(0, count, BLOCK):
        size = min(BLOCK, count - first)
        share = rng.uniform(0, 0.7, (size, 1)).astype(np.float32)
        pairs = centred[rng.integers(0, len(centred), (2, size))]
        noise = (rng.normal(size=(size, len(scale))).astype(np.float32) * scale / np.sqrt(len(centred))) @ axes
        mixed = mean + pairs[0] * (1 - share) + pairs[1] * share + 0.25 * noise
        rows[first : first + size] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    texts = [text for group in meanings() for text in group]
    rng.shuffle(texts)
    query_vectors = [model.embed_text(text) for text in texts[:queries]]
    query_vectors += list(held_out[rng.permutation(len(held_out))[:queries]])
    exact = np.zeros((len(query_vectors), 0)), np.zeros((len(query_vectors), 0), np.int64)
    for first in range(0, count, BLOCK):
        cosines = np.stack(query_vectors) @ rows[first : first + BLOCK].astype(np.float32).T
        best = np.argsort(-cosines, axis=1)[:, :TOP]
        exact = (
            np.hstack([exact[0], np.take_along_axis(cosines, best, 1)]),
            np.hstack([exact[1], best + first]),
        )
    order = np.argsort(-exact[0], axis=1)[:, :TOP]
    np.save(folder / "q.npy", np.stack(query_vectors))
    np.save(folder / "g.npy", np.take_along_axis(exact[1], order, 1))


def our_store(rows: np.ndarray, folder: Path, build: bool) -> Query:
    """LanceDB, used as by vlj-edge index and search."""
    manifest = read_manifest(nano_bundle())
    if build:
        with Store(folder / "store", manifest, write=True) as store:
            for first in range(0, len(rows), BLOCK):
                block = rows[first : first + BLOCK].astype(np.float32)
                numbers = np.arange(first, first + len(block), dtype=np.float64)
                store.put(VideoMoments(Video(f"/{first}", 0, 0), numbers, numbers + 1, block))
            store.compact()
    reader = Store(folder / "store", manifest)

    def query(vector: np.ndarray) -> Ids:
        return [int(hit.start) for hit in reader.nearest(vector, TOP)]

    query.whole = partial(vlj_edge.search, reader, top=5)  # type: ignore[attr-defined]
    return query


def usearch_hnsw(rows: np.ndarray, folder: Path, build: bool) -> Query:
    from usearch.index import Index

    path = folder / "hnsw.usearch"
    if build:
        index = Index(ndim=rows.shape[1], metric="cos", dtype="f16", connectivity=16, expansion_add=64)
        for first in range(0, len(rows), BLOCK):
            block = np.array(rows[first : first + BLOCK])
            index.add(np.arange(first, first + len(block)), block, threads=2)
        index.save(str(path))
    found = Index.restore(str(path), view=True)
    found.expansion_search = 128
    return lambda vector: [int(key) for key in found.search(vector, TOP).keys]


def sqlite_vec_bits(rows: np.ndarray, folder: Path, build: bool) -> Query:
    """Search one bit a dimension, then rank the 4,096 nearest (sqlite-vec's limit) again in float16."""
    import apsw
    import sqlite_vec

    database, width = apsw.Connection(str(folder / "vec.sqlite")), rows.shape[1]
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    mean = np.array(rows[:BLOCK]).astype(np.float32).mean(0)

    def bits(vectors: np.ndarray) -> np.ndarray:
        return np.packbits(vectors > mean, axis=-1, bitorder="little")

    if build:
        database.execute(f"create virtual table moments using vec0(bits bit[{width}], +embedding blob)")
        for first in range(0, len(rows), BLOCK):
            block = np.array(rows[first : first + BLOCK])
            pairs = [(b.tobytes(), e.tobytes()) for b, e in zip(bits(block.astype(np.float32)), block, strict=True)]
            with database:
                database.executemany("insert into moments(bits, embedding) values(vec_bit(?), ?)", pairs)

    def query(vector: np.ndarray) -> Ids:
        near = "select rowid, embedding from moments where bits match vec_bit(?) and k = 4096"
        found = list(database.execute(near, (bits(vector).tobytes(),)))
        halves = np.frombuffer(b"".join(blob for _, blob in found), np.float16).reshape(-1, width)
        return [found[best][0] - 1 for best in np.argsort(-(halves.astype(np.float32) @ vector))[:TOP]]

    return query


ENGINES: dict[str, tuple[str, Callable[[np.ndarray, Path, bool], Query]]] = {
    "LanceDB, IVF with RaBitQ": ("lancedb", our_store),
    "usearch, HNSW": ("usearch", usearch_hnsw),
    "sqlite-vec, bits then float16": ("sqlite-vec", sqlite_vec_bits),
}


def measure(data: Path, folder: Path, engine: Callable[[np.ndarray, Path, bool], Query], build: bool) -> dict[str, Any]:
    rows, queries, exact = (np.load(data / name, mmap_mode="r") for name in ("a.npy", "q.npy", "g.npy"))
    before, started = resident(), time.perf_counter()
    query = engine(rows, folder, build)
    if build:
        return {"build_seconds": round(time.perf_counter() - started, 1)}
    half = len(queries) // 2
    for vector in queries[:: len(queries) // 10]:
        query(vector)
    seconds, recalls = [], []
    for vector, expected in zip(queries, exact, strict=True):
        started = time.perf_counter()
        found = query(vector)
        seconds.append(time.perf_counter() - started)
        recalls.append(len(set(found) & set(expected.tolist())) / TOP)
    whole = getattr(query, "whole", None)
    found: dict[str, Any] = {}
    if whole is not None:  # merged into moments, as vlj-edge search returns them
        seconds_whole = []
        for vector in queries:
            started = time.perf_counter()
            whole(vector)
            seconds_whole.append(time.perf_counter() - started)
        found["search_ms_p50"] = round(float(np.percentile(seconds_whole, 50)) * 1e3, 2)
        found["search_ms_p95"] = round(float(np.percentile(seconds_whole, 95)) * 1e3, 2)
    return found | {
        "megabytes_on_disk": round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6),
        "recall_at_10_captions": round(float(np.mean(recalls[:half])), 4),
        "recall_at_10_windows": round(float(np.mean(recalls[half:])), 4),
        "query_ms_p50": round(float(np.percentile(seconds, 50)) * 1e3, 2),
        "query_ms_p95": round(float(np.percentile(seconds, 95)) * 1e3, 2),
        "resident_megabytes_more": round(resident() - before),
    }


@click.command()
@click.option("--vectors", default=1_000_000, show_default=True)
@click.option("--queries", default=150, show_default=True, help="Of each kind.")
@click.option("--engine", "chosen", multiple=True, type=click.Choice(list(ENGINES)), help="Measure only these.")
@click.option("--one", hidden=True, nargs=4)
def main(vectors: int, queries: int, chosen: tuple[str, ...], one: tuple[str, str, str, str] | None) -> None:
    if one is not None:
        name, data, folder, build = one
        print(json.dumps(measure(Path(data), Path(folder), ENGINES[name][1], build == "build")))
        return
    key, path = f"{vectors} embeddings of 384", RESULTS / "stores.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get(key, {}) if path.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        spread_like_nano(vectors, queries, data)
        for number, name in enumerate(chosen or ENGINES):
            package, _ = ENGINES[name]
            folder = data / str(number)
            folder.mkdir()
            found[name] = {"version": version(package)}
            for step in ("build", "query"):  # in separate processes, so that memory is counted apart
                command = [sys.executable, __file__, "--one", name, str(data), str(folder), step]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[name] |= json.loads(done.stdout.splitlines()[-1])
            print(name, found[name], flush=True)
    write("stores.json", {key: found}, "python benchmarks/stores.py")


if __name__ == "__main__":
    main()
