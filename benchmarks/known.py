"""Whether nano says that it has seen nothing like a video: on its own streams (it should not), and on others.

python benchmarks/known.py --own STREAMS [--own ...] VIDEO...      the first 60 s of each; STREAMS: a folder of MP4
"""

from __future__ import annotations

import logging
from pathlib import Path

import click
from common import ROOT, write

import vlj_edge

SECONDS = 60


class Said(logging.Handler):
    """Counts the warnings that nothing like a video was seen."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "nothing like this" in record.getMessage()


@click.command()
@click.option("--own", type=click.Path(path_type=Path, exists=True), multiple=True, required=True)
@click.argument("others", nargs=-1, type=click.Path(path_type=Path, exists=True))
def main(own: tuple[Path, ...], others: tuple[Path, ...]) -> None:
    streams = [path for folder in own for path in sorted(folder.glob("*.mp4"))]
    said = [f"{path.parent.name}/{path.stem}" for path in streams if says(path)]
    found = {
        "seconds": SECONDS,
        "own": {"streams": len(streams), "said": len(said), "which": said},
        "others": {path.name: says(path) for path in (*others, ROOT / "examples" / "media" / "demo.mp4")},
    }
    write("known.json", found, "python benchmarks/known.py --own STREAMS VIDEO...")
    click.echo(found)


def says(path: Path) -> bool:
    """Return whether narrating the beginning of a video logs the warning, with a model that has not said it yet."""
    said = Said()
    logging.getLogger("vlj_edge").addHandler(said)
    try:
        with vlj_edge.load(threads=1) as model, vlj_edge.open_source(path, end=SECONDS) as source:
            list(model.narrate(source))
    finally:
        logging.getLogger("vlj_edge").removeHandler(said)
    return said.count > 0


if __name__ == "__main__":
    main()
