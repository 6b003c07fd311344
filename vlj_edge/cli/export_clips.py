"""The video that sets an export's int8 scales and that its engines are compared on: --calibrate-on, or nano's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import VljEdgeError
from .part_options import PartOptions

if TYPE_CHECKING:
    from vlj_edge.export.request import ExportRequest

_CLIPS = 36  # 4 are compared with torch, 32 set the scales of int8 activations


def check_part(calibrate_on: Path | None, part: PartOptions) -> None:
    """Raise click.UsageError if a part of no video is chosen."""
    if calibrate_on is None and part != PartOptions():
        raise click.UsageError("--start and the like say which part of --calibrate-on is used: give that, too")


def find_video(request: ExportRequest, calibrate_on: Path | None, part: PartOptions) -> Path | None:
    """Return the video to take clips from: `calibrate_on`, or where it is None and nano needs one, that of the package.

    Raises:
        VljEdgeError: it does not exist, or int8 activations need one and other weights than nano's come with none.
    """
    from vlj_edge.export.request import check_clips, is_judged_on_video
    from vlj_edge.export.weights.locations import has_shipped_vision, shipped_clip

    if calibrate_on is None:
        if is_judged_on_video(request) and has_shipped_vision(request.sources):
            return shipped_clip()
        check_clips(request)
    elif not calibrate_on.exists():
        raise VljEdgeError(f"{calibrate_on} does not exist: name a video with --calibrate-on")
    return calibrate_on


def with_clips(request: ExportRequest, video: Path, part: PartOptions) -> ExportRequest:
    """Return the request with clips of a video.

    Raises:
        VljEdgeError: the video cannot be read, is too short, or would be overwritten.
    """
    from vlj_edge.export.request import check_clips
    from vlj_edge.runtime.video.clips import spread_clips

    from ..outputs import refuse_replacing

    refuse_replacing("--out", request.out, [video])
    clip = request.preset.clip
    with part.open(str(video), clip) as source:
        clips = spread_clips(source, clip, request.preset.preprocess, _CLIPS)
    request = replace(request, clips=clips)
    check_clips(request)
    return request
