"""Whole downloads from a local hub: what is fetched, where it stays, and what is used again."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.export.hub.conftest import FILES, WEIGHTS
from tests.export.hub.local_hub import COMMIT, OLDER, Hub, Repository
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.hub import Name, fetch, parse_name
from vlj_edge.export.hub.listing import Listing, Wanted, choose_files

SIGLIP = Name("google/siglip")
WANTED = {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "spiece.model"}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_everything_that_an_export_reads_is_fetched_and_nothing_that_runs(hub: Hub, cache: Path) -> None:
    found = fetch(SIGLIP)
    assert set(found.files) == WANTED
    assert files_in(found.directory) == WANTED
    for file, sha256 in found.files.items():
        assert (found.directory / file).read_bytes() == FILES[file]
        assert sha256 == hashlib.sha256(FILES[file]).hexdigest()
    assert not [each for each in hub.seen if each.path.endswith((".py", ".bin", ".onnx", ".md"))]
    assert found.receipt() == {
        "repository": "google/siglip",
        "revision": None,
        "endpoint": hub.endpoint,
        "commit": COMMIT,
        "licence": "apache-2.0",
        "gated": False,
        "sha256": dict(found.files),
    }
    json.dumps(found.receipt())


def test_the_revision_is_pinned(hub: Hub, cache: Path) -> None:
    assert fetch(parse_name("google/siglip@v1")).commit == OLDER
    found = fetch(parse_name(f"google/siglip@{OLDER}"))
    assert found.commit == OLDER
    assert (found.directory / "config.json").read_bytes() == b'{"older": true}'
    assert fetch(parse_name("google/siglip@refs/pr/1")).commit == COMMIT
    assert all(
        f"/resolve/{COMMIT}/" in each.path or f"/resolve/{OLDER}/" in each.path for each in hub.requests("resolve")
    )


def test_a_commit_that_was_fetched_needs_no_network(hub: Hub, cache: Path) -> None:
    pinned = Name("google/siglip", COMMIT)
    first = fetch(pinned)
    hub.seen.clear()
    assert fetch(pinned) == first
    assert not hub.seen


def test_files_are_fetched_once(hub: Hub, cache: Path) -> None:
    fetch(SIGLIP)
    hub.seen.clear()
    fetch(SIGLIP)
    assert not hub.requests("resolve")
    assert len(hub.requests("/api/")) == 1  # whether main has moved on


def test_the_cache_is_that_of_huggingface_hub(hub: Hub, cache: Path) -> None:
    found = fetch(SIGLIP)
    path = huggingface_hub.hf_hub_download("google/siglip", "model.safetensors", local_files_only=True, cache_dir=cache)
    assert Path(path).samefile(found.directory / "model.safetensors")
    report = huggingface_hub.scan_cache_dir(cache)
    assert not report.warnings
    [repository] = report.repos
    [revision] = repository.revisions
    assert (revision.commit_hash, set(revision.refs)) == (COMMIT, {"main"})
    assert {file.file_name for file in revision.files} == WANTED


def test_what_huggingface_hub_fetched_is_used_offline(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub.snapshot_download("google/siglip", cache_dir=cache, endpoint=hub.endpoint, max_workers=1)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = fetch(SIGLIP)
    assert set(found.files) == WANTED
    assert (found.commit, found.licence, found.gated) == (COMMIT, None, None)


def test_offline_uses_what_was_fetched(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch(SIGLIP)
    hub.seen.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(SIGLIP) == first
    assert not hub.seen
    for name in ("google/other", "google/siglip@v2", f"google/siglip@{OLDER}"):
        with pytest.raises(VljEdgeError, match="HF_HUB_OFFLINE"):
            fetch(parse_name(name))


def test_offline_a_damaged_file_is_named(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fetch(SIGLIP)
    (found.directory / "config.json").resolve().write_bytes(b'{"model_type": "other!"}')
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(VljEdgeError, match=r"config.json does not match its hash: rm "):
        fetch(SIGLIP)


def test_a_damaged_file_is_fetched_again(hub: Hub, cache: Path) -> None:
    found = fetch(SIGLIP)
    (found.directory / "model.safetensors").resolve().write_bytes(WEIGHTS[::-1])
    assert fetch(SIGLIP).files == found.files
    assert (found.directory / "model.safetensors").read_bytes() == WEIGHTS


def test_offline_half_a_repository_is_not_used(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub.hf_hub_download("google/siglip", "config.json", cache_dir=cache, endpoint=hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(VljEdgeError, match=r"not in the cache, or not whole.*hf download google/siglip"):
        fetch(SIGLIP)


def test_a_mirror_that_lists_no_hashes_is_asked_for_each(hub: Hub, cache: Path) -> None:
    hub.names_hashes = False
    found = fetch(SIGLIP)
    assert set(found.files) == WANTED
    assert not [each for each in hub.seen if each.host.startswith("localhost") and each.method == "HEAD"]


@pytest.mark.parametrize(
    "file",
    [
        "../outside.json",
        "../../outside.safetensors",
        "/tmp/outside.json",
        "..\\outside.json",
        "C:\\outside.json",
        ".hidden.json",
        "folder/inner.safetensors",
        "-rf.json",
        "a b.json",
        "a\nb.json",
        "modeling.py",
        "config.json.py",
        "model.safetensors.pt",
        "pytorch_model.bin.index.json",
        "run.sh",
        "weights.pkl",
        "flax_model.msgpack",
        "tf_model.h5",
        "word2vec.model",
        "requirements.txt",
    ],
)
def test_a_file_with_another_name_is_left_alone(hub: Hub, cache: Path, file: str) -> None:
    hub.repositories["google/siglip"] = Repository({**FILES, file: b"hostile"})
    assert set(fetch(SIGLIP).files) == WANTED
    assert not [path for path in cache.parent.rglob("*") if path.is_file() and path.read_bytes() == b"hostile"]


@pytest.mark.parametrize(("entry", "value"), [("blobId", "../../../outside"), ("size", -1), ("blobId", "")])
def test_a_hostile_listing_is_refused(hub: Hub, cache: Path, entry: str, value: object) -> None:
    hub.repositories["google/siglip"].listed["config.json"] = {entry: value}
    with pytest.raises(VljEdgeError, match=r"config.json|like a model hub"):
        fetch(SIGLIP)
    assert not (cache.parent / "outside").exists()


def test_weights_are_fetched_once_where_they_are_there_twice() -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = "model.safetensors.index.json"
    for given, expected in [
        (["config.json", "model.safetensors", "open_clip_model.safetensors"], ["model.safetensors"]),
        (["config.json", "model.safetensors", *shards, index], ["model.safetensors"]),
        (["config.json", *shards, index, "consolidated.safetensors"], shards),
        (["open_clip_config.json", "open_clip_model.safetensors"], ["open_clip_model.safetensors"]),
    ]:
        chosen = choose_files(given, SIGLIP, Wanted())
        assert [file for file in chosen if file.endswith(".safetensors")] == expected
        assert (index in chosen) == (expected == shards)


def test_pickles_alone_are_refused(hub: Hub, cache: Path) -> None:
    hub.repositories["openai/clip"] = Repository(
        {"config.json": b"{}", "pytorch_model.bin": b"", "flax_model.msgpack": b""}
    )
    with pytest.raises(
        VljEdgeError, match=r"pickles.*pytorch_model.bin.*openai/clip/discussions.*openai/clip@refs/pr/"
    ):
        fetch(Name("openai/clip"))
    hub.repositories["facebook/PE-Core-B16-224"] = Repository({"config.yaml": b"", "PE-Core-B16-224.pt": b""})
    with pytest.raises(VljEdgeError, match=r"PE-Core-B16-224.pt.*name timm/PE-Core-B-16,"):
        fetch(Name("facebook/PE-Core-B16-224"))
    hub.repositories["ggml/clip"] = Repository({"config.json": b"{}", "model.gguf": b""})
    with pytest.raises(VljEdgeError, match=r"no safetensors.*https://huggingface.co/ggml/clip/tree/main"):
        fetch(Name("ggml/clip"))
    assert not hub.requests("resolve")


def test_one_file_that_is_a_pickle_can_be_asked_for(hub: Hub, cache: Path) -> None:
    hub.repositories["google/siglip"] = Repository({**FILES, "best.pt": b"the tensors of open-vljepa"})
    found = fetch(SIGLIP, wanted=Wanted(also=("best.pt",)))
    assert set(found.files) == {*WANTED, "best.pt"}


def test_a_download_without_weights_is_not_taken_for_a_whole_one(hub: Hub, cache: Path) -> None:
    pinned = Name("google/siglip", COMMIT)
    assert "model.safetensors" not in fetch(pinned, wanted=Wanted(weights=False)).files
    assert not hub.requests("model.safetensors")
    assert set(fetch(pinned).files) == WANTED


def test_the_configuration_is_looked_at_before_the_weights_are_fetched(hub: Hub, cache: Path) -> None:
    def refuse(directory: Path) -> None:
        assert files_in(directory) == WANTED - {"model.safetensors"}
        raise VljEdgeError("not a family")

    with pytest.raises(VljEdgeError, match="not a family"):
        fetch(SIGLIP, before_weights=refuse)
    assert not hub.requests("model.safetensors")
    fetch(SIGLIP)
    hub.seen.clear()
    with pytest.raises(AssertionError):  # all is there, now
        fetch(Name("google/siglip", COMMIT), before_weights=refuse)


class Watcher:
    def __init__(self) -> None:
        self.missing, self.added = -1, 0

    def begin(self, name: Name, listing: Listing, missing: int) -> None:
        self.missing = missing

    def add(self, count: int) -> None:
        self.added += count


@pytest.mark.parametrize("cut", [[], [300_000, 5]])
def test_progress_counts_every_byte_once(hub: Hub, cache: Path, cut: list[int]) -> None:
    watcher = Watcher()
    hub.cut_after = cut
    fetch(SIGLIP, watcher=watcher)
    assert watcher.missing == watcher.added == sum(len(FILES[file]) for file in WANTED)
    again = Watcher()
    fetch(SIGLIP, watcher=again)
    assert (again.missing, again.added) == (0, 0)


def test_no_usage_data_is_sent(hub: Hub, cache: Path) -> None:
    fetch(SIGLIP)
    for each in hub.seen:
        assert each.path.startswith(("/api/models/google/siglip/revision/main", "/google/siglip/resolve/")) or (
            each.host.startswith("localhost")
        )
        assert "torch/" not in each.headers["user-agent"] and "agent/" not in each.headers["user-agent"]


def test_what_is_missing_must_fit_the_disk(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlj_edge.export.hub import cache as module

    usage = module.shutil.disk_usage(cache.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=64_500_000))
    with pytest.raises(VljEdgeError, match=r"0\.00 GB and .*0\.06 GB free: .*HF_HOME"):
        fetch(SIGLIP)
    assert not hub.requests("resolve")


def test_only_loopback_was_needed(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: tuple[str, int], *args: object, **options: object) -> socket.socket:
        assert address[0] in ("127.0.0.1", "localhost"), address
        return original(address, *args, **options)  # type: ignore[arg-type]

    original = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", connect)
    fetch(SIGLIP)
