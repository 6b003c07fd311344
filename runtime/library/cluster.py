"""Encode videos on a Dask cluster; this process stores the results.

Every machine needs vlj-edge, the bundle and the videos under the same paths. A cluster executes any code that its
scheduler receives, so keep it in a network of its own or behind Dask's TLS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.errors import VljEdgeError, require

from ..engines.base import usable_cores
from ..model import Model
from ..video.decoding.picture_decoder import DecoderChoice
from .index import EncodedVideo, VideoEncoder, encode_video
from .moments import Video, VideoMoments, real_path, stored_path

_AHEAD = 2  # videos queued for each thread of the cluster, so that none is idle
_NO_WORKERS_SECONDS = 60.0  # without any worker before indexing ends; a worker that is restarted takes some
_RESULT_SECONDS = 600.0  # for the transfer of one result, hundreds of megabytes for hours of video
_CONNECT_SECONDS = 10.0  # for a scheduler to answer
_PLAIN = ["dask", "msgpack"]  # serializers; pickle is not among them
_models = threading.local()


def cluster_encoder(address: str, model: Model, query: str, decoder: DecoderChoice = "auto") -> VideoEncoder:
    """Return a function that encodes videos on the cluster whose scheduler is at `address`, such as tcp://10.0.0.1:8786.

    A video whose worker is lost is encoded by another one. The function raises VljEdgeError if the scheduler is lost,
    or all workers for a minute.

    Raises:
        VljEdgeError: no scheduler answers, it has no workers, or Dask is not installed.
    """
    distributed = require("distributed", "cluster")
    arguments = (str(model.directory.absolute()), embedding_space(model.manifest), query, decoder)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is an error of our own
    try:
        client = distributed.Client(
            address, timeout=_CONNECT_SECONDS, serializers=_PLAIN, deserializers=[*_PLAIN, "error"]
        )
    except (OSError, ValueError, TimeoutError) as error:
        raise VljEdgeError(
            f"no Dask scheduler answers at {address} ({error}): start dask scheduler, and dask worker beside it"
        ) from error
    threads = sum(client.nthreads().values())
    if not threads:
        client.close()
        raise VljEdgeError(f"the cluster at {address} has no workers: start dask worker {address} on each machine")

    def encode(videos: Sequence[Video]) -> Iterator[EncodedVideo]:
        sent: dict[str, Video] = {}
        done: SimpleQueue[Any] = SimpleQueue()

        def send(video: Video) -> None:
            plain = list(video._replace(path=stored_path(video.path)))
            future = client.submit(encode_on_worker, *arguments, plain, pure=False)
            sent[future.key] = video
            future.add_done_callback(done.put)

        def run(waiting: Iterator[Video], ahead: int) -> Iterator[tuple[Video, Any]]:
            for video in islice(waiting, ahead):
                send(video)
            while sent:
                key, found = _next_result(client, address, done)
                yield sent.pop(key), found
                for video in islice(waiting, 1):
                    send(video)

        suspects = []  # Dask blames all videos of a worker that is killed: each is tried once more alone
        try:
            for video, found in run(iter(videos), _AHEAD * threads):
                if _is_killed_worker(found):
                    suspects.append(video)
                else:
                    yield _read_result(video, found)
            for video, found in run(iter(suspects), 1):
                yield _read_result(video, found)
        finally:
            client.close()

    return encode


def _next_result(client: Any, address: str, done: SimpleQueue[Any]) -> tuple[str, Any]:
    """Return the key of the next future that ends, and what encode_on_worker() returned, or the exception.

    Raises:
        VljEdgeError: the scheduler is lost, or has had no worker for a minute.
    """
    since = time.monotonic()
    while True:
        try:
            future = done.get(timeout=1.0)
        except Empty:
            if client.scheduler_info()["workers"]:
                since = time.monotonic()
            elif time.monotonic() - since > _NO_WORKERS_SECONDS:
                raise VljEdgeError(
                    f"the cluster at {address} has lost all its workers: start dask worker {address}, run this again"
                ) from None
            continue
        try:
            if future.status != "lost":
                return future.key, future.result(timeout=_RESULT_SECONDS)
        except (Exception, asyncio.CancelledError) as error:
            if future.status == "cancelled":
                raise VljEdgeError(
                    f"the Dask scheduler at {address} was lost: start it and its workers, and run this again; what was"
                    " encoded until then is stored"
                ) from error
            if future.status == "error":
                return future.key, error
        future.add_done_callback(done.put)  # its worker was lost with the result: another one encodes it again


def encode_on_worker(
    directory: str, space: str, query: str, decoder: DecoderChoice, video: Sequence[Any]
) -> dict[str, Any]:
    """Encode a video on a worker: return its moments as plain arrays, or the problem as one line of text."""
    try:
        model = _model(directory)
        if embedding_space(model.manifest) != space:
            raise VljEdgeError(
                f"the bundle {directory} has other weights on {os.uname().nodename}: copy it there again"
            )
        seen = encode_video(model, Video(real_path(video[0]), *video[1:]), query, decoder=decoder)
    except VljEdgeError as error:
        return {"problem": str(error)}
    except Exception as error:  # as a text, since an exception would be pickled
        return {"problem": f"{video[0]} was not encoded on {os.uname().nodename} ({type(error).__name__}: {error})"}
    found: dict[str, Any] = {"problem": seen.problem or "", "broken": seen.broken}
    if seen.moments is not None:
        names = ("start", "end", "embeddings", "thumbnails")
        found |= {name: getattr(seen.moments, name) for name in names}
    return found


def _model(directory: str) -> Model:
    """Return the Model of this worker thread; a worker's threads share its cores."""
    models = _models.__dict__.setdefault("by_directory", {})
    if directory not in models:
        worker = require("distributed", "cluster").get_worker()
        share = max(1, usable_cores() // worker.state.nthreads)
        models[directory] = Model(directory, threads=share)
    model: Model = models[directory]
    return model


def _is_killed_worker(found: Any) -> bool:
    return type(found).__name__ == "KilledWorker"


def _read_result(video: Video, found: Any) -> EncodedVideo:
    path = Path(video.path)
    if _is_killed_worker(found):
        why = "each worker that tried it was killed; it may need more memory than they have"
        return EncodedVideo(path, None, f"{path} was not encoded ({why}): look at their logs")
    if isinstance(found, BaseException):
        why = f"{type(found).__name__}: {found}"
        return EncodedVideo(path, None, f"{path} was not encoded ({why}): look at the logs of the cluster")
    moments = None
    if "start" in found:
        # copied: what lies in a message is not aligned as Arrow wants it, and may not be written to
        start, end = (np.array(found[name], np.float64) for name in ("start", "end"))
        moments = VideoMoments(video, start, end, np.array(found["embeddings"], np.float32), found["thumbnails"])
    return EncodedVideo(path, moments, found["problem"] or None, found.get("broken", False))
