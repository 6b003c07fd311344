"""What can be wrong with a name, a hub or a disk is one line, with the page to visit or the command to type."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.export.hub.local_hub import Hub, Repository
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.hub import Name, fetch, parse_name

SIGLIP = Name("google/siglip")
LICENCE_PAGE = "https://huggingface.co/google/siglip"


def refusal(name: Name = SIGLIP) -> str:
    with pytest.raises(VljEdgeError) as caught:
        fetch(name)
    line = str(caught.value)
    assert "\n" not in line and "hf_" not in line and "Signature" not in line
    return line


@pytest.mark.parametrize("text", ["a/b", "google/siglip2-base-patch16-224", "A.b_c-d/0.1_x", "timm/PE-Core-B-16"])
@pytest.mark.parametrize("revision", [None, "main", "v1.0", "refs/pr/12", "0" * 40])
def test_names(text: str, revision: str | None) -> None:
    assert parse_name(text if revision is None else f"{text}@{revision}") == Name(text, revision)


def test_a_commit_may_be_written_in_capitals() -> None:
    assert parse_name("a/b@" + "AB" * 20) == Name("a/b", "ab" * 20)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("google/siglip@", "branch"),
        ("google/siglip@a b", "branch"),
        ("google/siglip@../../x", "branch"),
        ("google/siglip@/etc", "branch"),
        ("google/siglip@v1@v2", "branch"),
        ("https://huggingface.co/google/siglip", "google/siglip"),
        ("https://huggingface.co/google/siglip/tree/v1", "google/siglip@v1"),
        ("https://hf.co/google/siglip/", "google/siglip"),
        ("huggingface.co/google/siglip", "google/siglip"),
        ("hf://google/siglip", "google/siglip"),
        ("models/google/siglip", "google/siglip"),
        ("google//siglip", "OWNER/NAME"),
        ("google\\siglip", "OWNER/NAME"),
        ("google/", "OWNER/NAME"),
        ("/google", "OWNER/NAME"),
        ("google/sig lip", "OWNER/NAME"),
        ("google/siglip/model.safetensors", "OWNER/NAME"),
        ("google/../siglip", "OWNER/NAME"),
        ("google/sig--lip", "OWNER/NAME"),
        ("google/siglip.git", "OWNER/NAME"),
        ("google/\u0441lip", "OWNER/NAME"),
        ("google/" + "x" * 100, "OWNER/NAME"),
        ("siglip", "OWNER/NAME"),
        ("", "OWNER/NAME"),
        ("@main", "OWNER/NAME"),
        ("datasets/google/siglip/x", "OWNER/NAME"),
    ],
)
def test_a_name_of_another_form_is_refused(text: str, remedy: str) -> None:
    with pytest.raises(VljEdgeError) as caught:
        parse_name(text)
    assert remedy in str(caught.value)


def test_gated_without_a_token(hub: Hub, cache: Path) -> None:
    hub.repositories["google/siglip"].gated = "manual"
    line = refusal()
    assert f"accept the licence at {LICENCE_PAGE}" in line and "HF_TOKEN" in line and "hf auth login" in line


@pytest.mark.parametrize("status", [401, 403])
def test_gated_at_a_mirror_that_only_refuses(hub: Hub, cache: Path, status: int) -> None:
    hub.repositories["google/siglip"].gated = "auto"
    hub.answers["/resolve/"] = (status, {})
    assert f"is gated: accept the licence at {LICENCE_PAGE}" in refusal()


def test_gated_with_a_token_whose_account_has_not_accepted(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["google/siglip"].gated = "manual"
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    line = refusal()
    assert f"accept the licence at {LICENCE_PAGE}" in line and "wait for access" in line


def test_gated_with_a_token_that_may_read_it(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["google/siglip"].gated = "auto"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache.parent / "stored"))
    (cache.parent / "stored").write_text("hf_good\n")
    found = fetch(SIGLIP)
    assert found.gated is True
    assert "hf_good" not in str(found.receipt())


def test_a_token_that_is_refused(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert "https://huggingface.co/settings/tokens" in refusal()


@pytest.mark.parametrize("token", ["hf_with space", "hf_caf\u00e9", "hf_\u200bx"])
def test_a_token_that_is_no_token(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert "token" in refusal()
    assert not hub.seen


def test_no_such_repository(hub: Hub, cache: Path) -> None:
    line = refusal(Name("google/siglib"))
    assert "no repository google/siglib" in line and "https://huggingface.co/google/siglib" in line


def test_no_such_revision(hub: Hub, cache: Path) -> None:
    line = refusal(Name("google/siglip", "v9"))
    assert "v9" in line and "https://huggingface.co/google/siglip/commits" in line


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "accept it there"),
        (403, "private or gated"),
        (404, "no repository"),
        (429, "429"),
        (500, "500"),
        (503, "503"),
    ],
)
@pytest.mark.parametrize("part", ["/api/models/", "/resolve/"])
def test_other_answers(hub: Hub, cache: Path, part: str, status: int, words: str) -> None:
    hub.answers[part] = (status, {})
    line = refusal()
    assert words in line if part == "/api/models/" else str(status) in line


def test_a_large_file_that_its_host_refuses(hub: Hub, cache: Path) -> None:
    hub.answers["/"] = (200, {})
    del hub.answers["/"]
    sha256 = next(each for each in hub.repositories.values()).files["model.safetensors"]
    hub.repositories["google/siglip"].listed["model.safetensors"] = {}
    hub.answers[f"/resolve/{'c0ffee' + '0' * 34}/model.safetensors"] = (
        302,
        {"Location": f"{hub.other}/gone?Signature=x"},
    )
    line = refusal()
    assert "localhost" in line and "403" in line and len(sha256) > 0


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[]", b'{"id": 1}', b"", b"null", b'{"siblings": [{}]}'])
def test_what_is_no_hub(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    from tests.export.hub import local_hub

    monkeypatch.setattr(local_hub._HubHandler, "list", lambda self, path: self.reply(200, body))
    assert "HF_ENDPOINT" in refusal()


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "no-such-host.invalid", "[::1]:{port}"])
def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    address = host.format(port=closed_port())
    monkeypatch.setenv("HF_ENDPOINT", f"http://{address}")
    line = refusal()
    assert address in line and "cannot be reached" in line and "hf download google/siglip" in line


def test_no_network_but_a_copy_in_the_cache(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(SIGLIP)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    assert "HF_HUB_OFFLINE=1" in refusal()


def test_a_proxy_that_refuses(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import close_session

    close_session()  # the client reads the variables when it is made
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{hub.endpoint.rpartition(':')[2]}")
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")
    line = refusal()
    assert "HTTPS_PROXY" in line and "secret" not in line
    close_session()


@pytest.mark.parametrize(
    "address", ["huggingface.co", "ftp://huggingface.co", "http://", "http://[::1", "http://a:99999"]
)
def test_an_endpoint_that_is_no_address(cache: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "HF_ENDPOINT" in refusal()


def test_a_cache_that_cannot_be_used(hub: Hub, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    line = refusal()
    assert str(cache) in line and "HF_HOME" in line


def test_the_password_of_an_endpoint_is_shown_nowhere(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("://", "://me:secret@"))
    found = fetch(SIGLIP)
    assert "secret" not in str(found.receipt())
    hub.repositories.clear()
    assert "secret" not in refusal()
    hub.repositories["google/siglip"] = Repository({"config.json": b"{}", "a.safetensors": b""})
    hub.repositories["google/siglip"].listed["a.safetensors"] = {
        "lfs": {"sha256": "0" * 64, "size": 0, "pointerSize": 1}
    }
    assert "secret" not in refusal()
