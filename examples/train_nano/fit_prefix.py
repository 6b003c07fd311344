"""Fit the basis for shortening nano's embeddings, on validation streams: prefix.npy beside the weights.

python fit_prefix.py --weights ../../export/nano [--bundle BUNDLE]

The axes are the uncentred principal components of windows and of texts, equally weighted, since search compares one
with the other. Nothing is retrained; full-width embeddings are unchanged.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from tasks import meanings

import vlj_edge


@click.command()
@click.option("--streams", type=click.Path(path_type=Path), default=Path("data/streams/val"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
@click.option("--bundle", type=click.Path(path_type=Path), help="The shipped nano bundle if not given.")
def main(streams: Path, weights: Path, bundle: Path | None) -> None:
    model = vlj_edge.load(bundle)
    windows = [
        item.embedding
        for path in sorted(streams.glob("*.mp4"))
        for item in model.embed(path, query=model.manifest.labels.query or None)
    ]
    texts = [model.embed_text(text) for group in meanings() for text in group]
    moments = sum(np.cov(np.stack(rows).T, bias=True) + _square(np.mean(rows, 0)) for rows in (windows, texts))
    _, axes = np.linalg.eigh(moments)
    axes = axes[:, ::-1][:, : axes.shape[1] // 2]  # by falling variance; embeddings are shortened to half or less
    # int8, each axis scaled to its largest component; the reader normalises it again
    np.save(weights / "prefix.npy", np.rint(axes / np.abs(axes).max(0) * 127).astype(np.int8))
    click.echo(f"{weights / 'prefix.npy'}: from {len(windows)} windows and {len(texts)} texts")


def _square(mean: np.ndarray) -> np.ndarray:
    return np.outer(mean, mean)


if __name__ == "__main__":
    main()
