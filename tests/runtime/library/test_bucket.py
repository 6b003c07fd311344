"""A store in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.library.moments import QUERY
from vlj_edge import VljEdgeError
from vlj_edge.runtime.library import Store, index, search
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
    yield "s3://films/library"
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
