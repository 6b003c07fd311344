"""vlj-edge index: videos in, a store of their moments out."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import EngineOptions, bundle_option, engine_options, load_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vlj_edge.runtime.library import IndexedVideo, Store
    from vlj_edge.runtime.library.index import VideoEncoder
    from vlj_edge.runtime.library.store import Video


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--store", "uri", required=True, help="The store: a folder, or s3://bucket/path and the like.")
@click.option("--follow", is_flag=True, help="Go on with what comes into the folders, until interrupted.")
@click.option("--prune", is_flag=True, help="Forget videos that are no longer there.")
@click.option("--cluster", help="Scheduler of a Dask cluster that looks at the videos, such as tcp://10.0.0.1:8786.")
@click.option("--query", help="What the model is asked; the bundle's own question about labels when not named.")
@bundle_option
@engine_options
def index(
    paths: tuple[Path, ...],
    uri: str,
    follow: bool,
    prune: bool,
    cluster: str | None,
    query: str | None,
    bundle: Path | None,
    engine_options: EngineOptions,
) -> None:
    """Store the moments of the videos at PATHS: files, and folders with all below them.

    What is stored and has not changed is passed over, so that it may be interrupted and run again. On the CPU
    several videos are encoded at once; with --threads, one at a time.
    """
    from vlj_edge.runtime.library import Store
    from vlj_edge.runtime.library.index import find_videos, local_encoder
    from vlj_edge.runtime.library.index import prune as forget

    from ..errors import VljEdgeError

    model = load_model(bundle, engine_options)
    find_videos(paths)  # a path that is not there is an error before anything is made
    with Store(uri, model.manifest, query, write=True) as store:
        if prune:
            for gone in forget(store, paths):
                click.echo(f"{gone}: forgotten", err=True)
        if cluster is not None:
            from vlj_edge.runtime.library.cluster import cluster_encoder

            encode = cluster_encoder(cluster, model, store.query)
        else:
            several = model.backend.name != "tensorrt" and engine_options.threads is None
            encode = local_encoder(model, store.query, jobs=len(os.sched_getaffinity(0)) if several else 1)
        failed = _run(store, encode, paths, follow)
    if failed:
        raise VljEdgeError(f"{failed} of the videos could not be read to their end: see above; all others are stored")


def _run(store: Store, encode: VideoEncoder, paths: tuple[Path, ...], follow: bool) -> int:
    """How many videos had something wrong."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vlj_edge.runtime.library.index import index as once
    from vlj_edge.runtime.library.index import index_continuously as go_on

    console = Console(stderr=True)
    started, count, moments, seconds, failed = time.monotonic(), 0, 0, 0.0, 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("videos", total=None)

        def plan(videos: list[Video]) -> None:
            progress.update(task, total=(count or 0) + len(videos))

        done: Iterator[IndexedVideo] = (go_on if follow else once)(store, encode, paths, on_plan=plan)
        try:
            for each in done:
                count, moments, seconds = count + 1, moments + each.moments, seconds + each.seconds
                failed += each.problem is not None
                if each.problem is not None:
                    progress.console.print(f"[bold]warning:[/] {each.problem}", markup=True, soft_wrap=True)
                elif follow:
                    click.echo(f"{each.path}: {each.moments} moments")
                progress.update(task, completed=count)
        finally:
            spent = time.monotonic() - started
            speed = f", {seconds / spent:.1f}x real time" if count and not follow else ""
            click.echo(
                f"{count} videos, {moments} moments of {seconds:.1f} s stored{speed};"
                f" the store holds {len(store)} moments",
                err=True,
            )
    return failed
