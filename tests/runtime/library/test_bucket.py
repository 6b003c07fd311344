"""A store in a bucket."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.runtime.library.moments import QUERY, random_moments
from vlj_edge import VljEdgeError
from vlj_edge.runtime.library import Store, index, search, writer_lock
from vlj_edge.runtime.library.index import local_encoder
from vlj_edge.runtime.model import Model


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real server that speaks S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ENDPOINT": f"http://{host}:{port}", "ALLOW_HTTP": "true", "REGION": "us-east-1"}
    for name, value in (settings | {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret-of-mine"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3", endpoint_url=settings["ENDPOINT"]).create_bucket(Bucket="films")
    yield f"s3://films/library-{os.urandom(4).hex()}"  # what an earlier test stored is still there
    server.stop()


def test_a_store_in_a_bucket_is_the_same(model: Model, store: Store, films: Path, bucket: str) -> None:
    list(index(store, local_encoder(model, QUERY), [films]))
    with Store(bucket, model.manifest, QUERY, write=True) as there:
        list(index(there, local_encoder(model, QUERY), [films]))
        assert list(index(there, local_encoder(model, QUERY), [films / "a.avi"])) == []
    there = Store(bucket, model.manifest)
    assert there.videos() == store.videos() and len(there) == len(store)
    for text in ("red", "blue", "green"):
        assert search(there, model.embed_text(text)) == search(store, model.embed_text(text))
    with pytest.raises(VljEdgeError, match="s3://films/nothing"):
        Store("s3://films/nothing", model.manifest)


def test_a_bucket_that_is_not_there_is_one_line(model: Model, bucket: str) -> None:
    with pytest.raises(VljEdgeError, match="s3://no-such/library") as told:
        Store("s3://no-such/library", model.manifest, write=True)
    assert "secret-of-mine" not in str(told.value)


def test_one_of_several_writers_gets_a_bucket(model: Model, bucket: str) -> None:
    begin = threading.Barrier(4)

    def write(number: int) -> Store | str:
        begin.wait()
        try:
            return Store(bucket, model.manifest, QUERY, write=True)
        except VljEdgeError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(write, range(4)))
    [writer] = [each for each in results if isinstance(each, Store)]
    refusals = [each for each in results if isinstance(each, str)]
    assert all(f"process {os.getpid()}" in each and "another process" in each for each in refusals), refusals
    writer.put(random_moments("/x", 20))
    assert len(Store(bucket, model.manifest)) == 20, "readers are not held off"
    writer.close()
    with Store(bucket, model.manifest, QUERY, write=True) as following:
        following.put(random_moments("/x", 21, seed=1))
        following.compact()
        assert len(following) == 21


@pytest.mark.slow
def test_a_writer_of_a_bucket_that_is_killed_keeps_others_off_for_a_while(
    model: Model, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_lock, "_LEASE_SECONDS", 3.0)
    monkeypatch.setattr(writer_lock, "_RENEWAL_SECONDS", 0.3)
    killed = Store(bucket, model.manifest, QUERY, write=True)
    time.sleep(3.5)
    with pytest.raises(VljEdgeError, match="another process"):
        Store(bucket, model.manifest, QUERY, write=True)  # it was renewed
    lease = killed._lock
    assert isinstance(lease, writer_lock.BucketLease)
    lease._stop.set()  # as if it were killed, or its machine asleep
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(VljEdgeError), Store(bucket, model.manifest, QUERY, write=True) as following:
            with pytest.raises(VljEdgeError, match="run this again"):
                killed.put(random_moments("/late", 5))
            following.put(random_moments("/x", 5))
            killed.close()  # which does not give back what it has lost
            with pytest.raises(VljEdgeError, match="another process"):
                Store(bucket, model.manifest, QUERY, write=True)
            assert set(following.videos()) == {"/x"}
            return
        time.sleep(0.1)
    raise AssertionError("the lease has not run out")
