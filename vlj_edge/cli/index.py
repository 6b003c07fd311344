"""vlj-edge index: embed videos and keep their moments in a store."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import EngineOptions, bundle_option, engine_options, gates_option, label_query_option, load_model
from .part_options import PartOptions, part_options
from .say import say, stderr_console, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vlj_edge.runtime.library import IndexedVideo, Store
    from vlj_edge.runtime.library.index import VideoEncoder
    from vlj_edge.runtime.library.moments import Video


@click.command(short_help="Store the moments of videos, for search.")
@click.argument("paths", nargs=-1, required=True, callback=lambda ctx, param, value: tuple(map(_path, value)))
@click.option("--store", "uri", required=True, help="Store: a folder, or an object store such as s3://bucket/path.")
@click.option("--follow", is_flag=True, help="Keep indexing videos that arrive in the folders, until interrupted.")
@click.option("--prune", is_flag=True, help="Remove videos that no longer exist from the store.")
@click.option("--retry", is_flag=True, help="Try files again that are known to be broken.")
@click.option("--cluster", help="Scheduler of a Dask cluster that encodes the videos, such as tcp://10.0.0.1:8786.")
@label_query_option
@bundle_option
@gates_option
@part_options
@engine_options
def index(
    paths: tuple[Path, ...],
    uri: str,
    follow: bool,
    prune: bool,
    retry: bool,
    cluster: str | None,
    query: str | None,
    bundle: Path | None,
    gates: Path | None,
    part: PartOptions,
    engine_options: EngineOptions,
) -> None:
    """Store the moments of the videos at PATHS: files, or folders with their subfolders. Where a folder holds no video,
    each folder of images in it is one.

    Videos that are stored and have not changed are skipped, so an interrupted run can be repeated. So are files that
    could not be read, until they change or with --retry. On the CPU several videos are encoded at once; with --threads,
    one at a time. A part of a video (--start and the options after it) is stored in place of what was stored of it.
    """
    from vlj_edge.runtime.engines.base import usable_cores
    from vlj_edge.runtime.library import Store
    from vlj_edge.runtime.library.index import local_encoder
    from vlj_edge.runtime.library.index import prune as remove_missing
    from vlj_edge.runtime.library.moments import reading_of
    from vlj_edge.runtime.video.recordings.folders import find_recordings

    from ..errors import VljEdgeError

    if gates is not None and cluster is not None:
        raise click.UsageError("--gates is for this machine: for a --cluster, give a --bundle that has these gates")
    if cluster is not None and engine_options.chooses:
        raise click.UsageError("--backend, --engines and --threads are for this machine: a --cluster's workers choose")
    empty = [path for path in paths if not find_recordings([path])]  # fails on a missing one before there is a store
    with ExitStack() as opened:
        model = opened.enter_context(load_model(bundle, engine_options, gates=gates))
        if query is not None:
            model.chain.query(query)  # raises if the model takes none, before there is a store
        store = opened.enter_context(Store(uri, model.manifest, query, write=True))
        if prune:
            for gone in remove_missing(store, paths):
                tell(f"{gone}: forgotten")
        bar = _Bar()
        if cluster is not None:
            from vlj_edge.runtime.library.cluster import cluster_encoder

            encode = cluster_encoder(cluster, model, store.query, part.decoder)
        else:
            several = model.backend.name not in ("tensorrt", "cuda") and engine_options.threads is None
            jobs = usable_cores() if several else 1
            encode = local_encoder(
                model, store.query, jobs, lambda video, share: bar.update(video.path, share), part.decoder
            )
        if empty and not follow and not prune:
            raise VljEdgeError(f"{empty[0]} holds no videos: give files, or folders that hold some")
        failed = _run(store, encode, paths, follow, retry, reading_of(part.part, part.rotate), bar)
    if failed:
        raise VljEdgeError(f"{failed} of the videos could not be read completely: see above; all others are stored")


def _path(uri: str) -> Path:
    from vlj_edge.runtime.video.paths import path_of

    from ..errors import without_credentials

    path = path_of(uri)
    if path is None:
        raise click.UsageError(
            f"{without_credentials(uri)} is no file: index files and folders; vlj-edge serve --store stores cameras"
        )
    return path


class _Bar:
    """A progress bar on stderr, if that is a terminal. It counts bytes, since durations are known only once videos are
    open."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console, columns = stderr_console(), (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        # Only output to the same terminal may be moved above the bar.
        moved = sys.stdout.isatty()
        self.shown = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=moved
        )
        self._task = self.shown.add_task("videos", total=None)
        self._sizes: dict[str, int] = {}
        self._shares: dict[str, float] = {}  # of each video, the fraction that was read

    def plan(self, videos: list[Video]) -> None:
        """Add these videos to the total. None is being read at this time."""
        self._sizes |= {video.path: video.size for video in videos}
        self._shares |= {video.path: 0.0 for video in videos}
        self.shown.update(self._task, total=sum(self._sizes.values()))

    def update(self, path: str, share: float) -> None:
        """Show the fraction of a video that was read, 0 to 1."""
        self._shares[path] = share
        done = sum(part == 1 for part in self._shares.values())
        self.shown.update(
            self._task,
            completed=sum(self._sizes[path] * part for path, part in self._shares.items()),
            description=f"{done} of {len(self._sizes)} videos",
        )


def _run(
    store: Store, encode: VideoEncoder, paths: tuple[Path, ...], follow: bool, retry: bool, reading: str, bar: _Bar
) -> int:
    """Index and show the progress; return the number of videos that had a problem."""
    from rich.markup import escape

    from vlj_edge.runtime.library.index import broken_videos, index_continuously
    from vlj_edge.runtime.library.index import index as index_once

    started, stored, moments, seconds, failed = time.monotonic(), 0, 0, 0.0, 0
    left_out = 0 if retry else len(broken_videos(store, paths, reading))
    with bar.shown:
        done: Iterator[IndexedVideo] = (index_continuously if follow else index_once)(
            store, encode, paths, on_plan=bar.plan, retry=retry, reading=reading
        )
        try:
            for video in done:
                stored, moments, seconds = (
                    stored + (video.moments > 0),
                    moments + video.moments,
                    seconds + video.seconds,
                )
                failed += video.problem is not None
                if video.problem is not None:
                    bar.shown.console.print(f"[bold]warning:[/] {escape(video.problem)}", markup=True, soft_wrap=True)
                elif follow:
                    say(f"{video.path}: {video.moments} moments")
                bar.update(str(video.path), 1.0)
        finally:
            spent = time.monotonic() - started
            speed = f", {seconds / spent:.1f}x real time" if stored and not follow else ""
            tell(
                f"{stored} videos, {moments} moments of {seconds:.1f} s stored{speed};"
                f" the store holds {len(store)} moments"
            )
            if left_out:
                tell(f"{left_out} files known to be broken were left out; --retry tries them again")
    return failed
