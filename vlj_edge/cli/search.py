"""vlj-edge search: find the moments of a store that a text describes, or that resemble a moment of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..json_text import json_text
from .options import (
    EngineOptions,
    NumberRange,
    bundle_option,
    engine_options,
    json_lines_option,
    load_model,
    top_option,
)
from .outputs import output_folder
from .part_options import Seconds
from .say import say, tell

if TYPE_CHECKING:
    from vlj_edge.runtime.library import Store
    from vlj_edge.runtime.library.moments import Hit, Vectors, Video
    from vlj_edge.runtime.model import Model

    from ..bundle import Manifest
    from ..results import Moment


@click.command(short_help="Find the stored moments that a text describes best.")
@click.argument("text", required=False)
@click.option("--store", "uri", required=True, help="Store that vlj-edge index made.")
@click.option("--similar", metavar="VIDEO@TIME", help="Find moments similar to this one, such as kitchen.mp4@1:02.5.")
@top_option
@click.option(
    "--min-score",
    type=NumberRange(0, 1),
    help="Leave out moments with a lower score; 0: none. The bundle's floor if not given, where it has one.",
)
@click.option(
    "--thumbnails",
    type=output_folder,
    help="Write a thumbnail of each moment to this folder.",
)
@click.option(
    "--cut",
    "clips",
    type=output_folder,
    help="Write a clip of each moment to this folder.",
)
@bundle_option
@engine_options
@json_lines_option
def search(
    text: str | None,
    uri: str,
    similar: str | None,
    top: int,
    min_score: float | None,
    thumbnails: Path | None,
    clips: Path | None,
    bundle: Path | None,
    engine_options: EngineOptions,
    as_json: bool,
) -> None:
    """Find the moments of a store that TEXT describes best, best first.

    The number before each is its score, the cosine of its nearest window to TEXT. If even the best has a lower score
    than --min-score, the store shows nothing like that.

    --similar takes a moment of a stored video or of any other, and leaves out the stored moments that overlap with it
    in the same video. It has no floor unless --min-score is given.
    """
    from vlj_edge.runtime.chain import check_embeds_texts
    from vlj_edge.runtime.library import Store
    from vlj_edge.runtime.library import search as find
    from vlj_edge.runtime.library.search import lowest_score

    from ..bundle import nano_bundle, read_manifest
    from ..errors import VljEdgeError, without_credentials

    if (text is None) == (similar is None):
        raise click.UsageError("give either a text or --similar")
    place = _parse_place(similar) if similar is not None else None
    if text is not None and not text.strip():
        raise click.UsageError("the text is empty: say what to look for")
    directory = bundle or nano_bundle()
    manifest = read_manifest(directory)
    if place is None:
        check_embeds_texts(directory, manifest)
    else:
        _check_clip(uri, manifest, *place)
    with load_model(bundle, engine_options) as model, Store(uri, manifest) as store:
        embedding, itself = _meant(model, store, text or "", place)
        floor = lowest_score(store, min_score if place is None else min_score or 0)
        moments = find(store, embedding, top, itself, min_score=0)
        stored = store.videos() if thumbnails or clips else {}
    if not moments:
        raise VljEdgeError(f"{without_credentials(uri)} holds no moments: add videos with vlj-edge index")
    best = moments[0].score
    if best < floor:
        tell(f"nothing like that: the nearest has a score of {best:.2f}, below {floor:.2f} (--min-score 0 shows it)")
    failed = 0
    for rank, moment in enumerate((each for each in moments if each.score >= floor), 1):
        written, failures = _write_pictures(moment, rank, thumbnails, clips, stored)
        failed += failures
        say(json_text(moment.as_dict() | written) if as_json else _line(moment, written))
    if failed:
        raise VljEdgeError(f"{failed} pictures or clips could not be made: see above")


def _check_clip(uri: str, manifest: Manifest, video: Path, time: float) -> None:
    """Check a moment of --similar before a model is opened. One of a camera, or of a video that is gone, is stored.

    Raises:
        VljEdgeError: the file cannot be read, or ends before it; or there is none, and no such moment is stored.
    """
    from vlj_edge.runtime.library import Store
    from vlj_edge.runtime.library.search import check_moment
    from vlj_edge.runtime.video.part import Part
    from vlj_edge.runtime.video.paths import check_recording

    if video.exists():
        check_recording(video, Part())
    with Store(uri, manifest) as store:
        check_moment(store, video, time, manifest.clip)


def _meant(model: Model, store: Store, text: str, place: tuple[Path, float] | None) -> tuple[Vectors, Hit | None]:
    """Return the embedding of what is looked for, and its own moment, which is not to be found."""
    from vlj_edge.runtime.library import embedding_at

    return (model.embed_text(text), None) if place is None else embedding_at(model, store, *place)


def _write_pictures(
    moment: Moment, rank: int, thumbnails: Path | None, clips: Path | None, stored: dict[str, Video]
) -> tuple[dict[str, str], int]:
    """Write what was asked for, over none of the stored videos (by path).

    Returns:
        Kind -> path of the files written, and the number of failures.
    """
    from vlj_edge.runtime.library.pictures import write_clip, write_thumbnail

    from ..errors import VljEdgeError
    from ..outputs import refuse_overwriting

    written: dict[str, str] = {}
    failed = 0
    for kind, folder, suffix, write in (
        ("thumbnail", thumbnails, "jpg", write_thumbnail),
        ("clip", clips, "mp4", write_clip),
    ):
        if folder is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{rank:02d}-{Path(moment.file).stem}-{moment.start:.1f}s.{suffix}"
        try:
            refuse_overwriting("a new", path, map(Path, stored))
            write(moment, path, stored[moment.file].reading if moment.file in stored else "")
            written[kind] = str(path)
        except VljEdgeError as error:
            failed += 1
            tell(f"warning: {error}")
    return written, failed


def _parse_place(text: str) -> tuple[Path, float]:
    """Return what VIDEO@TIME names, TIME as for --start."""
    video, _, time = text.rpartition("@")
    if not video:
        raise click.BadParameter(f"'{text}' is no VIDEO@TIME: write kitchen.mp4@62.5 or kitchen.mp4@1:02.5")
    return Path(video), Seconds().convert(time, None, None)


def _line(moment: Moment, written: dict[str, str]) -> str:
    files = "".join(f"  {path}" for path in written.values())
    return f"{moment.score:.2f}  {_clock(moment.start)} - {_clock(moment.end)}  {moment.file}{files}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
