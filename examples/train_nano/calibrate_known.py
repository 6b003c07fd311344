"""Fit what nano's embeddings look like on streams that it knows, and put it into a bundle: `known` of its manifest.

    python calibrate_known.py --streams data/streams/val [--streams MORE ...] [--bundle BUNDLE]

A folder of streams holds videos, or .npz files of their embeddings (`emb`, float [windows, embedding]). The axes are
the uncentred principal components of all of them. The limits are quantiles of what sticks out of axes that were fitted
on the other half of the streams. Streams with the same file name show the same episodes and stay together.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np

import vlj_edge
from vlj_edge.bundle import KnownSettings, nano_bundle, read_manifest, seal, write_manifest
from vlj_edge.runtime.gating.known import PICTURES

AXES = 48
QUANTILE, MARGIN = 0.999, 1.25  # of the mean of PICTURES pictures, anywhere in a stream
FEW_QUANTILE = 0.9  # of one picture, judged once, at the end of a run that has no more: such runs are short or still
SAYS = "it knows one simulated robot arm; for real video: vlj-edge export google/videoprism-lvt-base-f16r288"
FILE = "known.npy"


@click.command()
@click.option("--streams", "folders", type=click.Path(path_type=Path, exists=True), multiple=True, required=True)
@click.option("--bundle", type=click.Path(path_type=Path), help="The shipped nano bundle if not given.")
def main(folders: tuple[Path, ...], bundle: Path | None) -> None:
    bundle = bundle or nano_bundle()
    streams = [(path.stem, _embeddings(path, bundle)) for folder in folders for path in _files(folder)]
    means, singles = _held_out(streams)
    most = float(np.quantile(means, QUANTILE)) * MARGIN
    few = max(most, float(np.quantile(singles, FEW_QUANTILE)))
    axes = _axes([rows for _, rows in streams])
    # int8, each axis scaled to its largest component; the reader normalises it again
    np.save(bundle / FILE, np.rint(axes / np.abs(axes).max(0) * 127).astype(np.int8))
    manifest = read_manifest(bundle)
    known = KnownSettings(FILE, round(most, 4), round(few, 4), SAYS)
    write_manifest(bundle, replace(manifest, known=known, files=manifest.files | {FILE: seal(bundle / FILE)}))
    click.echo(json.dumps(asdict(known) | {"streams": len(streams), "windows": sum(len(x) for _, x in streams)}))


def _files(folder: Path) -> list[Path]:
    stored = sorted(path for path in folder.glob("*.npz") if "." not in path.stem)
    return stored or sorted(folder.glob("*.mp4"))


def _embeddings(path: Path, bundle: Path) -> np.ndarray:
    if path.suffix == ".npz":
        return np.asarray(np.load(path)["emb"], np.float32)
    with vlj_edge.load(bundle) as model:
        return np.stack([item.embedding for item in model.embed(path)])


def _axes(streams: list[np.ndarray]) -> np.ndarray:
    rows = np.concatenate(streams)
    _, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    return axes[:, ::-1][:, :AXES]


def _held_out(streams: list[tuple[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the energy outside of the axes, of means of pictures and of single ones. The encoder runs for about every
    third window, since the gates skip the others."""
    names = sorted({name for name, _ in streams})
    halves = [set(names[::2]), set(names[1::2])]
    means, singles = [], []
    for fitted, judged in (halves, halves[::-1]):
        axes = _axes([rows for name, rows in streams if name in fitted])
        for rows in (rows[::3] for name, rows in streams if name in judged):
            outside = rows - rows @ axes @ axes.T
            sums = np.cumsum(np.vstack([np.zeros_like(outside[:1]), outside]), axis=0)
            means.append(np.square((sums[PICTURES:] - sums[:-PICTURES]) / PICTURES).sum(1))
            singles.append(np.square(outside).sum(1))
    return np.concatenate(means), np.concatenate(singles)


if __name__ == "__main__":
    main()
