"""The bytes of a file: resumed, checked, and the token for the hub alone."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.export.hub.conftest import FILES, WEIGHTS
from tests.export.hub.local_hub import COMMIT, Hub
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.hub import Name, download, fetch
from vlj_edge.export.hub.listing import Blob

SIGLIP = Name("google/siglip")
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def partial_in(cache: Path) -> Path:
    return cache / "models--google--siglip" / "blobs" / f"{SHA256}.incomplete"


def ranges(hub: Hub) -> list[str]:
    return [each.headers.get("range", "all") for each in hub.requests(SHA256) if each.method == "GET"]


def test_a_connection_that_breaks_off_is_taken_up_where_it_ended(hub: Hub, cache: Path) -> None:
    hub.cut_after = [300_000, 400_000]
    assert fetch(SIGLIP).files["model.safetensors"] == SHA256
    first, second, third = ranges(hub)
    assert (first, second, third) == ("all", "bytes=300000-", "bytes=700000-")


def test_what_one_call_left_the_next_goes_on_with(hub: Hub, cache: Path) -> None:
    hub.cut_after = [300_000, *[0] * 4]
    with pytest.raises(VljEdgeError, match=r"model.safetensors .*300,000 of 1,024,000 bytes.*run this again"):
        fetch(SIGLIP)
    assert partial_in(cache).stat().st_size == 300_000
    hub.seen.clear()
    assert fetch(SIGLIP).files["model.safetensors"] == SHA256
    assert ranges(hub) == ["bytes=300000-"]
    assert not partial_in(cache).exists()


def test_ctrl_c_leaves_what_was_fetched(hub: Hub, cache: Path) -> None:
    class Impatient:
        had = 0

        def begin(self, *arguments: Any) -> None:
            pass

        def add(self, count: int) -> None:
            self.had += count
            if self.had > 500_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(SIGLIP, watcher=Impatient())
    left = partial_in(cache).stat().st_size
    assert left > 400_000
    hub.seen.clear()
    assert fetch(SIGLIP).files["model.safetensors"] == SHA256
    assert ranges(hub) == [f"bytes={left}-"]


def test_a_server_that_knows_no_ranges_sends_all_again(hub: Hub, cache: Path) -> None:
    hub.ignores_ranges, hub.cut_after = True, [300_000]
    assert fetch(SIGLIP).files["model.safetensors"] == SHA256


@pytest.mark.parametrize("left", [b"something else" * 1000, WEIGHTS[::-1], WEIGHTS + b"more"])
def test_what_was_left_and_is_wrong_is_thrown_away(hub: Hub, cache: Path, left: bytes) -> None:
    partial_in(cache).parent.mkdir(parents=True)
    partial_in(cache).write_bytes(left)
    assert fetch(SIGLIP).files["model.safetensors"] == SHA256


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_that_does_not_match_its_hash_is_refused(hub: Hub, cache: Path, file: str) -> None:
    hub.elsewhere = False
    good = FILES[file]
    listing = (
        {"lfs": {"sha256": "0" * 64, "size": len(good), "pointerSize": 1}} if len(good) > 99 else {"blobId": "0" * 40}
    )
    hub.repositories["google/siglip"].listed[file] = listing
    with pytest.raises(VljEdgeError, match=rf"{file} of google/siglip does not match the hash"):
        fetch(SIGLIP)
    assert not list((cache / "models--google--siglip").rglob("0" * 40 + "*")), "nothing of it stays"
    assert not (cache / "models--google--siglip" / "snapshots" / COMMIT / file).exists()


@pytest.mark.parametrize(("size", "words"), [(len(WEIGHTS) - 1, "longer than"), (len(WEIGHTS) + 1, "broke off after")])
def test_a_file_of_another_size_is_refused(hub: Hub, cache: Path, size: int, words: str) -> None:
    hub.repositories["google/siglip"].listed["model.safetensors"] = {
        "lfs": {"sha256": SHA256, "size": size, "pointerSize": 1}
    }
    with pytest.raises(VljEdgeError, match=rf"model.safetensors of google/siglip .*{words}"):
        fetch(SIGLIP)


def test_another_commit_than_the_one_that_was_asked_for_is_refused(hub: Hub, cache: Path) -> None:
    hub.names_hashes = False
    hub.answers[f"/resolve/{COMMIT}/config.json"] = (
        200,
        {"X-Repo-Commit": "f" * 40, "ETag": "x", "X-Linked-Size": "1"},
    )
    with pytest.raises(VljEdgeError, match=r"f{40}"):
        fetch(SIGLIP)


def test_the_token_is_sent_to_the_hub_and_to_nobody_else(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    hub.repositories["google/siglip"].gated = "auto"
    fetch(SIGLIP)
    to_hub = [each for each in hub.seen if each.host.startswith("127.0.0.1")]
    elsewhere = [each for each in hub.seen if each.host.startswith("localhost")]
    assert {each.token for each in to_hub} == {"Bearer hf_good"}
    assert elsewhere and {each.token for each in elsewhere} == {None}
    assert not [each for each in elsewhere if "hf_good" in f"{each.path} {each.headers}"]


@pytest.mark.parametrize("part", ["/api/models/", "/resolve/"])
@pytest.mark.parametrize("names_hashes", [True, False])
def test_a_redirect_of_any_request_does_not_carry_the_token_away(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, part: str, names_hashes: bool
) -> None:
    """Also where the other host is one that huggingface_hub trusts, as huggingface.co is behind a mirror."""
    from huggingface_hub.utils import _http

    monkeypatch.setenv("HF_TOKEN", "hf_good")
    if hasattr(_http, "_HUB_ORIGINS"):
        trusted = frozenset({("http", "localhost", int(hub.other.rpartition(":")[2]))})
        monkeypatch.setattr(_http, "_HUB_ORIGINS", _http._HUB_ORIGINS | trusted)
    hub.names_hashes = names_hashes
    hub.answers[part] = (302, {"Location": f"{hub.other}/elsewhere"})
    with pytest.raises(VljEdgeError):
        fetch(SIGLIP)
    assert not [each for each in hub.seen if each.host.startswith("localhost") and each.token is not None]


def test_a_redirect_on_the_hub_itself_is_followed_with_the_token(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a repository that was renamed."""
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    hub.repositories["google/siglip"].gated = "manual"
    for path in (f"/resolve/{COMMIT}/{file}" for file in FILES):
        hub.answers["/old/siglip" + path] = (307, {"Location": "/google/siglip" + path})
    hub.answers["/api/models/old/siglip"] = (307, {"Location": "/api/models/google/siglip/revision/main?blobs=true"})
    assert fetch(Name("old/siglip")).files["model.safetensors"] == SHA256


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://localhost/x"])
def test_a_redirect_to_what_is_no_web_server_is_refused(hub: Hub, cache: Path, location: str) -> None:
    hub.answers[f"/resolve/{COMMIT}/model.safetensors"] = (302, {"Location": location})
    with pytest.raises(VljEdgeError):
        fetch(SIGLIP)


def test_a_redirect_without_end_is_refused(hub: Hub, cache: Path) -> None:
    hub.answers[f"/resolve/{COMMIT}/config.json"] = (302, {"Location": f"/google/siglip/resolve/{COMMIT}/config.json"})
    with pytest.raises(VljEdgeError, match="without end"):
        fetch(SIGLIP)


def test_a_full_disk_in_the_middle(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(download, "_add", full)
        with pytest.raises(VljEdgeError, match=r"is full: .*HF_HOME"):
            fetch(SIGLIP)
    assert fetch(SIGLIP).files["model.safetensors"] == SHA256


def test_a_file_that_another_process_fetched_meanwhile_is_not_fetched_again(hub: Hub, cache: Path) -> None:
    from vlj_edge.export.hub import fetch as module  # noqa: F401

    first = fetch(SIGLIP)
    blob = Blob("model.safetensors", len(WEIGHTS), SHA256)
    assert download.matching_sha256(first.directory / blob.file, blob) == SHA256
