"""Encode videos on a Dask cluster; this process stores the results.

Every machine needs vlj-edge, the bundle and the videos under the same paths. A cluster executes whatever its scheduler
is sent, so keep it in a network of its own or behind Dask's TLS. Results are read as plain data, never unpickled.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.errors import VljEdgeError, require

from ..model import Model
from .index import EncodedVideo, VideoEncoder, encode_video
from .store import Video, VideoMoments, real_path, stored_path

_AHEAD = 2  # videos queued for each thread of the cluster, so that none is idle
_PLAIN = ["dask", "msgpack"]  # serializers; pickle is not among them
_models = threading.local()


def cluster_encoder(address: str, model: Model, query: str) -> VideoEncoder:
    """Return a function that encodes videos on the cluster whose scheduler is at `address`, such as tcp://10.0.0.1:8786.

    Raises:
        VljEdgeError: no scheduler answers, it has no workers, or Dask is not installed.
    """
    distributed = require("distributed", "cluster")
    arguments = (str(model.directory.absolute()), embedding_space(model.manifest), query)
    try:
        client = distributed.Client(address, timeout=10, serializers=_PLAIN, deserializers=[*_PLAIN, "error"])
    except (OSError, ValueError, TimeoutError) as error:
        raise VljEdgeError(
            f"no Dask scheduler answers at {address} ({error}): start dask scheduler, and dask worker beside it"
        ) from error
    threads = sum(client.nthreads().values())
    if not threads:
        client.close()
        raise VljEdgeError(f"the cluster at {address} has no workers: start dask worker {address} on each machine")

    def encode(videos: Sequence[Video]) -> Iterator[EncodedVideo]:
        waiting = iter(videos)
        sent: dict[str, Video] = {}
        running = distributed.as_completed(loop=client.loop)

        def send() -> None:
            video = next(waiting, None)
            if video is not None:
                future = client.submit(
                    encode_on_worker,
                    *arguments,
                    list(video._replace(path=stored_path(video.path))),
                    pure=False,
                    retries=2,
                )
                sent[future.key] = video
                running.add(future)

        try:
            for _ in range(_AHEAD * threads):
                send()
            for future in running:
                video = sent.pop(future.key)
                yield _read_result(video, future)
                send()
        finally:
            client.close()

    return encode


def encode_on_worker(directory: str, space: str, query: str, video: Sequence[Any]) -> dict[str, Any]:
    """Encode a video on a worker: return its moments as plain arrays, or the problem as a text."""
    try:
        model = _model(directory)
        if embedding_space(model.manifest) != space:
            raise VljEdgeError(
                f"the bundle {directory} has other weights on {os.uname().nodename}: copy it there again"
            )
        seen = encode_video(model, Video(real_path(video[0]), *video[1:]), query)
    except VljEdgeError as error:
        return {"problem": str(error)}
    found: dict[str, Any] = {"problem": seen.problem or ""}
    if seen.moments is not None:
        found |= {"start": seen.moments.start, "end": seen.moments.end, "embeddings": seen.moments.embeddings}
    return found


def _model(directory: str) -> Model:
    """Return the Model of this worker thread; a worker's threads share its cores."""
    models = _models.__dict__.setdefault("by_directory", {})
    if directory not in models:
        worker = require("distributed", "cluster").get_worker()
        share = max(1, len(os.sched_getaffinity(0)) // worker.state.nthreads)
        models[directory] = Model(directory, threads=share)
    model: Model = models[directory]
    return model


def _read_result(video: Video, future: Any) -> EncodedVideo:
    path = Path(video.path)
    if future.status != "finished":
        return EncodedVideo(
            path, None, f"{path} was not encoded (the worker was lost, or failed on it): look at its log"
        )
    found = future.result()
    moments = None
    if "start" in found:
        arrays = [
            np.asarray(found[name], kind) for name, kind in (("start", "f8"), ("end", "f8"), ("embeddings", "f4"))
        ]
        moments = VideoMoments(video, *arrays)
    return EncodedVideo(path, moments, found["problem"] or None)
