"""A hub on loopback that speaks the protocol of huggingface.co, and the other host that keeps its large files."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT, OLDER = "c0ffee" + "0" * 34, "decade" + "0" * 34
LARGE = (".safetensors", ".bin", ".pt")  # kept elsewhere, as with Git LFS


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Seen:
    """A request as a server got it."""

    host: str
    method: str
    path: str
    headers: dict[str, str]

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization")


@dataclass
class Repository:
    files: dict[str, bytes]
    older: dict[str, bytes] = field(default_factory=dict)
    gated: str | bool = False
    licence: str | None = "apache-2.0"
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)  # replaces what the listing says of a file

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        return {
            "main": (COMMIT, self.files),
            "refs/pr/1": (COMMIT, self.files),
            COMMIT: (COMMIT, self.files),
            "v1": (OLDER, self.older),
            OLDER: (OLDER, self.older),
        }.get(revision)


class Hub:
    """Repositories, faults to be had, and every request that was seen."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.seen: list[Seen] = []
        self.tokens = {"hf_good"}
        self.cut_after: list[int] = []  # each answer with a large file ends after so many bytes, until none is left
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}  # status and headers in place of a path's own answer
        self.ignores_ranges = False
        self.bytes_per_second: int | None = None
        self.elsewhere = True  # large files are on the other host
        self.names_hashes = True  # in the listing; some mirrors do not
        self.endpoint = self.other = ""

    def requests(self, part: str) -> list[Seen]:
        return [each for each in self.seen if part in each.path]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub at `hub.endpoint` and its large files at `hub.other`."""
    main, other = (_server(hub, kind) for kind in (_HubHandler, _OtherHandler))
    hub.endpoint = f"http://127.0.0.1:{main.server_address[1]}"
    hub.other = f"http://localhost:{other.server_address[1]}"
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in (main, other)]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in (main, other):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def _server(hub: Hub, kind: type[_Handler]) -> ThreadingHTTPServer:
    handler = type("Handler", (kind,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.0"  # a connection a request, so that no thread waits for the next

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.hub.seen.append(Seen(self.headers["Host"], self.command, self.path, headers))
        path = unquote(urlsplit(self.path).path)
        for part, (status, answer) in self.hub.answers.items():
            if part in path:
                return self.reply(status, b"", **answer)
        self.answer(path)

    do_HEAD = do_GET

    def answer(self, path: str) -> None:
        raise NotImplementedError

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        pace = self.hub.bytes_per_second
        with suppress(ConnectionError):  # the other side has gone
            while self.command == "GET" and body:
                piece, body = (body, b"") if pace is None else (body[: pace // 50], body[pace // 50 :])
                self.wfile.write(piece)
                time.sleep(0 if pace is None else 0.02)

    def send_file(self, data: bytes, large: bool, **headers: str) -> None:
        begin, status = 0, 200
        wanted = self.headers.get("Range")
        if wanted and not self.hub.ignores_ranges:
            begin, status = int(wanted.removeprefix("bytes=").partition("-")[0]), 206
            if begin >= len(data):
                return self.reply(416, b"", Content_Range=f"bytes */{len(data)}")
            headers["Content_Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        body = data[begin:]
        if large and self.command == "GET" and self.hub.cut_after:
            length = self.hub.cut_after.pop(0)
            headers["Content_Length"] = str(len(body))
            self.reply(status, body[:length], **headers)
        else:
            self.reply(status, body, **headers)


class _HubHandler(_Handler):
    def answer(self, path: str) -> None:
        if path.startswith("/api/models/"):
            return self.list(path.removeprefix("/api/models/"))
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self.reply(401, b"", X_Error_Code="RepoNotFound")
        if repository.gated and self.token_of_request() not in self.hub.tokens:
            status = 401 if self.token_of_request() is None else 403
            return self.reply(status, b"", X_Error_Code="GatedRepo")
        revision, _, file = rest.partition("/")
        commit, files = repository.at(revision) or ("", {})
        if file not in files:
            return self.reply(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = files[file]
        if not file.endswith(LARGE):
            return self.send_file(data, False, X_Repo_Commit=commit, ETag=f'"{git_sha1(data)}"')
        sha256 = hashlib.sha256(data).hexdigest()
        of_link = {"X_Repo_Commit": commit, "X_Linked_ETag": f'"{sha256}"', "X_Linked_Size": str(len(data))}
        if self.hub.elsewhere:
            return self.reply(302, b"", Location=f"{self.hub.other}/{sha256}?Signature=signed", **of_link)
        self.send_file(data, True, ETag=f'"{sha256}"', **of_link)

    def token_of_request(self) -> str | None:
        said = self.headers.get("Authorization", "")
        return said.removeprefix("Bearer ") if said.startswith("Bearer ") else None

    def list(self, path: str) -> None:
        if self.token_of_request() not in {None, *self.hub.tokens, "hf_other"}:
            return self.reply(401, b"", X_Error_Message="Invalid credentials in Authorization header")
        name, _, revision = path.partition("/revision/")
        name, _, tree = name.partition("/tree/")
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self.reply(401, b"", X_Error_Code="RepoNotFound")
        found = repository.at(revision or tree or "main")
        if found is None:
            return self.reply(404, b"", X_Error_Code="RevisionNotFound")
        commit, files = found
        if tree:
            return self.reply(200, json.dumps([_tree_entry(*file) for file in files.items()]).encode())
        siblings = [{**self.sibling(*file), **repository.listed.get(file[0], {})} for file in files.items()]
        card = {"license": repository.licence} if repository.licence else {}
        answer = {"id": name, "sha": commit, "gated": repository.gated, "private": False, "siblings": siblings}
        self.reply(200, json.dumps({**answer, "tags": [], "cardData": card}).encode())

    def sibling(self, file: str, data: bytes) -> dict[str, Any]:
        if not self.hub.names_hashes:
            return {"rfilename": file}
        entry: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": git_sha1(data)}
        if file.endswith(LARGE):
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry


def _tree_entry(file: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": git_sha1(data)}
    if file.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


class _OtherHandler(_Handler):
    def answer(self, path: str) -> None:
        every = [
            data for each in self.hub.repositories.values() for data in (*each.files.values(), *each.older.values())
        ]
        by_hash = {hashlib.sha256(data).hexdigest(): data for data in every}
        data = by_hash.get(path.removeprefix("/"))
        if data is None:
            return self.reply(403, b"<Error>no signature</Error>")
        self.send_file(data, True, ETag='"part-etag"')
