"""Index videos: encode those that are new or changed, and store their moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from vlj_edge.errors import VljEdgeError

from ..model import Model, copy_of
from ..video.decoding.picture_decoder import DecoderChoice
from ..video.recordings.folders import find_recordings
from ..video.recordings.image_files import images_in
from ..video.uri import open_source
from .moments import SeenWindow, Video, VideoMoments, arguments_of, merge_windows
from .store import Store
from .thumbnails import SmallPictures

_JOIN_TIMEOUT = 5.0  # seconds to wait for cancelled threads
_UNCHANGED_SECONDS = 2.0  # a file that changed more recently may still be being written


@dataclass(frozen=True)
class EncodedVideo:
    """One encoded video.

    Attributes:
        moments: its moments; None if nothing of it could be read.
        problem: why it could not be read, or not to its end; one line.
        broken: whether nothing could be read because the file itself is broken.
    """

    path: Path
    moments: VideoMoments | None
    problem: str | None = None
    broken: bool = False


@dataclass(frozen=True)
class IndexedVideo:
    """A video that was indexed.

    Attributes:
        moments: number of moments stored of it.
        seconds: duration of the video that they cover.
        problem: why it could not be read (to its end), one line.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model, vlj_edge.Store("library", model.manifest, write=True) as store:
        ...     [video] = vlj_edge.index(store, model, ["videos"])
        >>> video.path.name, video.moments > 0, video.problem
        ('demo.mp4', True, None)
    """

    path: Path
    moments: int
    seconds: float
    problem: str | None = None


class VideoEncoder(Protocol):
    """A function that encodes videos, in this process or on other machines, and yields them in any order."""

    def __call__(self, videos: Sequence[Video]) -> Iterator[EncodedVideo]: ...


def stat_video(path: Path, reading: str = "") -> Video:
    """Return the path, size and modification time of a file, which show whether it has changed.

    Args:
        reading: the part that is read and how; see reading_of().

    Raises:
        VljEdgeError: the file does not exist, or cannot be read.
    """
    try:
        if path.is_dir():  # of images
            images = [image.stat() for image in images_in(path)]
            return Video(str(path), sum(i.st_size for i in images), max(i.st_mtime_ns for i in images), reading)
        about = path.stat()
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    return Video(str(path), about.st_size, about.st_mtime_ns, reading)


def encode_video(
    model: Model,
    video: Video,
    query: str,
    cancelled: Callable[[], bool] = lambda: False,
    on_progress: Callable[[float], None] = lambda share: None,
    decoder: DecoderChoice = "auto",
) -> EncodedVideo:
    """Encode all moments of one video; if it is damaged in the middle, those before the damage.

    Args:
        cancelled: checked at every window; encoding stops once it returns true.
        on_progress: called after every window with the fraction of the video that was read, 0 to 1; not called if its
            length is unknown.
        decoder: see open_source().
    """
    path, problem, broken = Path(video.path), None, False
    windows: list[SeenWindow] = []
    try:
        rate = model.manifest.clip.frames_per_second
        source = SmallPictures(open_source(path, sampled_at=rate, decoder=decoder, **arguments_of(video.reading)))
    except VljEdgeError as error:
        return EncodedVideo(path, None, str(error), broken=_is_readable(video))
    try:
        with source, model.embed(source, query=query or None) as items:
            for item in items:
                if cancelled():
                    return EncodedVideo(path, None, f"{path} was not looked at to its end")
                window = item.window
                jpeg = source.thumbnail_at(window.centre) if item.encoded else None  # as only the first of a moment
                windows.append(SeenWindow(window.start, window.end, item.embedding, jpeg))
                if source.duration:
                    on_progress(min(1.0, source.seconds / source.duration))
    except VljEdgeError as error:
        problem, broken = str(error), source.incomplete is not None and _is_readable(video)
    moments = merge_windows(video, windows)
    if moments is None and problem is None:
        problem, broken = f"{path} holds no picture: leave it out", True
    return EncodedVideo(path, moments, problem, broken and moments is None)


def _is_readable(video: Video) -> bool:
    """Return whether a file is still there, unchanged, and its bytes can be read."""
    try:
        with open(video.path, "rb") as stream:
            stream.read(1)
        return stat_video(Path(video.path), video.reading) == video
    except (OSError, VljEdgeError):
        return False


def local_encoder(
    model: Model,
    query: str,
    jobs: int = 1,
    on_progress: Callable[[Video, float], None] = lambda video, share: None,
    decoder: DecoderChoice = "auto",
) -> VideoEncoder:
    """Return a function that encodes videos in this process.

    Args:
        jobs: videos encoded at the same time, each by a thread with its own Model. On a CPU two models of one thread
            are faster than one of two threads (results/wearable.json).
        on_progress: called with a video and the fraction of it that was read, by the thread that encodes it.
        decoder: see open_source().
    """

    def encode(videos: Sequence[Video]) -> Iterator[EncodedVideo]:
        if min(jobs, len(videos)) <= 1:
            for video in videos:
                yield encode_video(model, video, query, on_progress=partial(on_progress, video), decoder=decoder)
            return
        stop = threading.Event()
        models = [copy_of(model, threads=1) for _ in range(min(jobs, len(videos)))]
        waiting: SimpleQueue[Video] = SimpleQueue()
        for video in videos:
            waiting.put(video)
        seen: SimpleQueue[EncodedVideo | BaseException] = SimpleQueue()

        def work(own: Model) -> None:
            try:
                while not stop.is_set():
                    video = waiting.get_nowait()
                    seen.put(encode_video(own, video, query, stop.is_set, partial(on_progress, video), decoder))
            except Empty:
                pass
            except BaseException as error:  # raised again in the caller's thread
                seen.put(error)

        threads = [threading.Thread(target=work, args=(own,), daemon=True) for own in models]
        try:
            for thread in threads:
                thread.start()
            for _ in videos:
                found = seen.get()
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            stop.set()
            for thread, own in zip(threads, models, strict=True):
                thread.join(_JOIN_TIMEOUT)
                own.close()

    return encode


def index(
    store: Store,
    encode: VideoEncoder | Model,
    paths: Iterable[str | Path],
    on_plan: Callable[[list[Video]], None] = lambda videos: None,
    retry: bool = False,
    reading: str = "",
) -> Iterator[IndexedVideo]:
    """Index the videos that are new or have changed. Videos that were stored before an interruption stay stored.

    Files that are known to be broken are left out until they change; see broken_videos().

    Args:
        encode: a Model, local_encoder() for several videos at a time, or cluster.cluster_encoder().
        on_plan: called with the videos to encode, before the first one.
        retry: try the broken ones again.
        reading: what of the videos is stored, from reading_of(); in place of what was stored of them before.

    Raises:
        VljEdgeError: a path does not exist, or the store cannot be written.
    """
    if isinstance(encode, Model):
        encode = local_encoder(encode, store.query)
    yield from _store(store, encode, _changed(store, find_recordings(paths), retry, reading), on_plan)


def broken_videos(store: Store, paths: Iterable[str | Path], reading: str = "") -> dict[Path, str]:
    """Return the files among these, and in and below these folders, that are known to be broken and have not changed
    since, and why. The store is open for writing."""
    known, found = store.broken(), {}
    for path in find_recordings(paths) if known else ():
        with suppress(VljEdgeError):  # gone since it was found
            video = stat_video(path, reading)
            if video in known:
                found[path] = known[video]
    return found


def index_continuously(
    store: Store,
    encode: VideoEncoder,
    paths: Sequence[str | Path],
    on_plan: Callable[[list[Video]], None] = lambda videos: None,
    retry: bool = False,
    reading: str = "",
    pause: float = 2.0,
) -> Iterator[IndexedVideo]:
    """Like index(), then keep indexing files that are added to the folders, once they no longer grow. Never returns.

    Args:
        retry: try the broken ones again once.
        reading: see index().
        pause: seconds between two scans of the folders.
    """
    failed: set[Video] = set()
    while True:
        settled = time.time_ns() - int(_UNCHANGED_SECONDS * 1e9)
        changed = _changed(store, find_recordings(paths), retry, reading)
        new = [video for video in changed if video.modified < settled and video not in failed]
        for done in _store(store, encode, new, on_plan):
            failed |= {video for video in new if done.problem and video.path == str(done.path)}
            yield done
        retry = False
        time.sleep(pause)


def prune(store: Store, paths: Iterable[str | Path]) -> list[str]:
    """Remove videos from the store that no longer exist in and below these folders, and return their paths. Broken ones
    are forgotten, too."""
    folders = [str(Path(path).absolute()) for path in paths]
    gone = [
        known
        for known in {*store.videos(), *(video.path for video in store.broken())}
        if not Path(known).exists() and any(known == f or known.startswith(f.rstrip("/") + "/") for f in folders)
    ]
    for path in gone:
        store.remove(path)
    return sorted(gone)


def _changed(store: Store, paths: Iterable[Path], retry: bool, reading: str) -> list[Video]:
    known, new = store.indexed(), []
    broken = {} if retry else store.broken()
    for path in paths:
        try:
            video = stat_video(path, reading)
        except VljEdgeError:  # deleted since the scan
            continue
        if known.get(video.path) != video and video not in broken:
            new.append(video)
    return new


def _store(
    store: Store, encode: VideoEncoder, videos: list[Video], on_plan: Callable[[list[Video]], None]
) -> Iterator[IndexedVideo]:
    if not videos:
        return
    on_plan(videos)
    changed = False
    try:
        for seen in encode(videos):
            count, seconds = 0, 0.0
            if seen.moments is not None:
                store.put(seen.moments)
                changed = True
                count, seconds = len(seen.moments.start), float(seen.moments.end[-1] - seen.moments.start[0])
            elif seen.broken and seen.problem is not None:
                store.put_broken(next(video for video in videos if video.path == str(seen.path)), seen.problem)
            yield IndexedVideo(seen.path, count, seconds, seen.problem)
    finally:
        if changed:
            store.compact()
