"""narrate --record: a live source is written in segments as it comes, a recording as one video after narration."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .say import tell

if TYPE_CHECKING:
    from vlj_edge.runtime.sinks.film import KeptSource
    from vlj_edge.runtime.sinks.queue import SinkQueue
    from vlj_edge.runtime.video.source import Source

    from ..results import Narration


def film_path(path: Path | None) -> Path | None:
    """Return the path that --record stands for: .mp4 may be left out."""
    from ..atomic_write import is_no_file

    return path if path is None or path.suffix or is_no_file(path) else path.with_name(f"{path.name}.mp4")


class Recorded:
    """A source that is recorded while it is narrated.

    Args:
        source: with all its frames.
        reopen: opens it once more.
        path: of the video; for a live source, the folder and the start of the segments' names.
        cleanup: closes and removes temporary resources.

    Attributes:
        source: narrate this one instead. sinks: sinks that must get its texts.

    Raises:
        VljEdgeError: nothing can be written there.
    """

    def __init__(self, source: Source, reopen: Callable[[], Source], path: Path, cleanup: ExitStack) -> None:
        from vlj_edge.runtime.sinks.film import KeptSource
        from vlj_edge.runtime.video.recordings.film import check_film
        from vlj_edge.runtime.video.uri import open_source

        from ..atomic_write import is_no_file

        self.source = source
        self.sinks: list[SinkQueue] = []
        self._path = path
        self._reopen = None if source.live else reopen
        self._kept: KeptSource | None = None
        if source.live:
            self._record_segments(cleanup)
            return
        check_film(self._path)
        if not source.rereadable:
            beside = None if is_no_file(self._path) else self._path.absolute().parent
            folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=beside))
            kept = Path(folder, "kept.mp4")
            self.source = self._kept = KeptSource(source, kept)
            self._reopen = lambda: open_source(kept)

    def finish(self, narrations: list[Narration]) -> None:
        """Write the video of a recording. Call it when all texts are known.

        Raises:
            VljEdgeError: it cannot be read again or written; then no file is left.
        """
        from vlj_edge.runtime.sinks.film import write_film
        from vlj_edge.runtime.sinks.fonts import missing_letters

        missing = missing_letters("".join(narration.text for narration in narrations))
        if missing:
            letters = " ".join(letter if letter.isprintable() else f"U+{ord(letter):04X}" for letter in missing[:20])
            tell(
                f"warning: no font here has {letters}: {self._path.name} shows a mark for each; apt install"
                " fonts-noto-core fonts-noto-cjk"
            )
        if self._reopen is not None:
            tell(f"writing {self._path}")
            write_film(self._reopen(), narrations, self._path, self._kept.first if self._kept else 0.0)

    def _record_segments(self, cleanup: ExitStack) -> None:
        from vlj_edge.runtime.sinks.queue import SinkQueue
        from vlj_edge.runtime.sinks.video import AnnotatedVideoWriter, RecordedSource

        video = AnnotatedVideoWriter(self._path, self.source.period)
        cleanup.callback(video.close)
        self.source = RecordedSource(self.source, video)
        self.sinks = [SinkQueue("record", video)]
