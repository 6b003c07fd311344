"""The client of chat endpoints, against servers that answer well, badly, late or not at all."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.runtime.words.endpoints import Answer, FakeEndpoint, completion, endpoint
from tests.waiting import free_port, wait_for
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.words import chat_call
from vlj_edge.runtime.words.chat_call import NoReply
from vlj_edge.runtime.words.endpoint import Endpoint
from vlj_edge.runtime.words.prompt import WordsContext

CONTEXT = WordsContext(start=4.0, end=6.0, begins=4.5, times=(4.0, 5.75), camera="hall")
FRAMES = [np.full((48, 64, 3), shade, np.uint8) for shade in (40, 200)]
KEY = "sk-very-secret-key-123"
LONG = 120.0  # seconds: a timeout that no test waits for


@pytest.fixture
def server() -> Iterator[FakeEndpoint]:
    with endpoint() as found:
        yield found


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_call, "_PAUSES", (0.001, 0.01))


def ask(server: FakeEndpoint, timeout: float = LONG, **options: Any) -> str:
    return Endpoint(server.url, "tiny", timeout=timeout, **options)(FRAMES, CONTEXT).text


def failure(server: FakeEndpoint, timeout: float = LONG, **options: Any) -> str:
    with pytest.raises(NoReply) as found:
        ask(server, timeout, **options)
    return str(found.value)


def test_one_message_has_the_prompt_and_then_the_pictures_in_order(server: FakeEndpoint) -> None:
    assert ask(server, most_tokens=33) == "a cat sleeps"
    [request] = server.got
    assert request.path == "/v1/chat/completions"
    fields = {"model", "messages", "max_tokens", "temperature", "stream"}  # transformers serve refuses others
    assert request.body.keys() == fields and request.body["max_tokens"] == 33 and request.body["temperature"] == 0
    assert [message["role"] for message in request.body["messages"]] == ["user"]
    assert [part["type"] for part in request.parts] == ["text", "image_url", "image_url"]
    shades = []
    for part in request.parts[1:]:
        head, _, data = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        picture = PIL.Image.open(io.BytesIO(b64decode(data, validate=True)))
        assert picture.format == "JPEG" and picture.size == (64, 48)
        shades.append(round(float(np.asarray(picture).mean()), -1))
    assert shades == [40, 200]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/openai/v2", "/openai/v2/chat/completions"),
        ("/v1/chat/completions?api-version=3", "/v1/chat/completions?api-version=3"),
    ],
)
def test_the_address_may_have_any_form(server: FakeEndpoint, given: str, path: str) -> None:
    Endpoint(f"http://127.0.0.1:{server.server_port}{given}")(FRAMES, CONTEXT)
    assert server.got[0].path == path
    assert "model" not in server.got[0].body


def test_each_request_has_its_own_connection(server: FakeEndpoint) -> None:
    found = Endpoint(server.url)
    for _ in range(2):
        found(FRAMES, CONTEXT)
    assert [request.headers["Connection"] for request in server.got] == ["close", "close"]


def test_the_prompt_is_filled_in(server: FakeEndpoint) -> None:
    context = WordsContext(0.0, 2.0, 1.0, last='a "dog"', camera="hall", nearest="an animal")
    custom = '{camera}|{last}|{nearest}|{seconds}|{"json": {}}'
    Endpoint(server.url, prompt=custom)(FRAMES, context)
    assert server.got[0].text == 'hall|a "dog"|an animal|2|{"json": {}}'
    Endpoint(server.url)(FRAMES, context)
    assert 'a "dog"' in server.got[1].text and "nothing new" in server.got[1].text
    Endpoint(server.url)(FRAMES, CONTEXT)
    assert "nothing new" not in server.got[2].text  # before the first text, everything is


# The shapes below are those of OpenAI's reference, Ollama's docs/api/openai-compatibility.mdx, llama.cpp's
# tools/server/README.md, vLLM's and LM Studio's documentation.
@pytest.mark.parametrize(
    ("body", "text", "tokens"),
    [
        (completion("a cat", {"prompt_tokens": 90, "completion_tokens": 5, "total_tokens": 95}), "a cat", 95),
        (completion("a cat", {"prompt_tokens": 90, "completion_tokens": 5}), "a cat", 95),
        (completion("a cat", {}), "a cat", None),
        (completion("a cat", {"total_tokens": None}), "a cat", None),
        (completion("a cat", {"total_tokens": True, "prompt_tokens": -4}), "a cat", None),
        (completion("\n a cat \n"), "a cat", None),
        (completion([{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]), "a cat", None),
        (completion("<think>Is it a dog?\nNo.</think>\n\na cat"), "a cat", None),
        (completion("Is it a dog? No.</think> a cat"), "a cat", None),
        (completion("<think>a</think>a <THINK>b</THINK>cat"), "a cat", None),
        (completion("a cat <think>or is it"), "a cat", None),
        (completion("\x1b[2Ja\x00 ca\x07t\x85"), "[2Ja cat", None),
        (b'{"choices": [{"message": {"content": "a \\ud83dcat"}}]}', "a cat", None),
        (b'\xef\xbb\xbf{"choices": [{"message": {"content": "a cat"}}]}', "a cat", None),
        (completion("a cat") | {"system_fingerprint": "fp_ollama", "timings": {"prompt_ms": 3.5}}, "a cat", None),
    ],
)
def test_answers_of_many_servers_are_read(server: FakeEndpoint, body: Any, text: str, tokens: int | None) -> None:
    server.answers = [Answer(body)]
    found = Endpoint(server.url)(FRAMES, CONTEXT)
    assert (found.text, found.tokens) == (text, tokens)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>hello</html>", "not JSON"),
        (b"", "not JSON"),
        (b'{"choices": [', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ([1, 2], "choices"),
        ({"choices": []}, "choices"),
        ({"choices": [7]}, "choices"),
        ({"choices": [{"text": "old form"}]}, "message"),
        ({"error": {"message": "model is still loading", "code": 1}}, "model is still loading"),
        (completion(""), "empty"),
        (completion(None), "empty"),
        (completion("  \n"), "empty"),
        (completion("<think>"), "empty"),
        (completion("<think>what is", finish="length"), "limit of tokens"),
        (completion({"a": 1}), "empty"),
        (
            {"choices": [{"message": {"content": None, "refusal": "I do not\nlook at people"}}]},
            "I do not look at people",
        ),
        (b'data: {"choices": []}\n\ndata: [DONE]\n\n', "not JSON"),
        (completion("a cat", {"total_tokens": 10}) | {"usage": [1]} | {"choices": "a cat"}, "choices"),
        (b" " * (chat_call.MOST_BYTES + 1), "longer"),
    ],
)
def test_what_is_no_answer_is_one_line_and_not_asked_again(server: FakeEndpoint, body: Any, why: str) -> None:
    server.answers = [Answer(body)]
    line = failure(server)
    assert why in line and "\n" not in line and str(server.server_port) in line
    assert len(server.got) == 1


def test_many_tags_take_no_time(server: FakeEndpoint) -> None:
    server.answers = [Answer(completion("<think>" * 60_000 + "</think>" * 10 + "a cat"))]
    assert ask(server) == "a cat"


def test_a_text_of_100_kilobytes_is_cut(server: FakeEndpoint) -> None:
    server.answers = [Answer(completion("The cat sleeps. " * 6_500)), Answer(completion("x" * 100_000))]
    first, second = (Endpoint(server.url)(FRAMES, CONTEXT) for _ in range(2))
    assert len(first.text) <= 2000 and first.text.endswith("sleeps.") and not first.whole
    assert second.text == "x" * 2000


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            400,
            {"error": {"code": 400, "message": "image is broken", "type": "invalid_request_error"}},
            "image is broken",
        ),
        (400, {"error": "model 'x' not found"}, "model 'x' not found"),
        (401, {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}, "key"),
        (403, b"", "key"),
        (404, {"detail": "Not Found"}, "Not Found"),
        (404, {"object": "error", "message": "The model does not exist.", "code": 404}, "The model does not exist."),
        (413, b"", "413"),
        (422, {"detail": [{"loc": ["body"], "msg": "Unexpected fields"}, {"msg": "two"}]}, "Unexpected fields; two"),
        (400, b"plain words\nof a server", "plain words of a server"),
        (400, b"<html><body>long page</body></html>", "HTTP 400"),
        (418, b'{"error": ', "HTTP 418"),
        (400, b"\xff\xfe" * 50_000, "HTTP 400"),
    ],
)
def test_a_refusal_gives_the_servers_reason_and_is_not_asked_again(
    server: FakeEndpoint, status: int, body: Any, reason: str
) -> None:
    server.answers = [Answer(body, status)]
    line = failure(server)
    assert reason in line and str(status) in line and len(line) < 400 and "<" not in line
    assert len(server.got) == 1


@pytest.mark.parametrize("status", [500, 501, 520])
def test_an_error_of_the_server_is_asked_twice(server: FakeEndpoint, status: int) -> None:
    server.then = lambda request: Answer(b"Internal Server Error", status)
    assert f"HTTP {status}: Internal Server Error" in failure(server)
    assert len(server.got) == 2
    server.answers = [Answer({"error": {"message": "image input is not supported"}}, status)]
    server.then = lambda request: Answer(completion("a cat"))
    assert ask(server) == "a cat"


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_busy_or_loading_server_is_asked_until_it_answers(server: FakeEndpoint, status: int) -> None:
    server.answers = [Answer({"error": {"message": "Loading model", "code": status}}, status)] * 5
    assert ask(server) == "a cat sleeps"
    assert len(server.got) == 6


@pytest.mark.parametrize("answer", [Answer(hang_up=True), Answer(b"abc", headers={"Content-Length": "10"})])
def test_a_connection_that_breaks_is_made_again(server: FakeEndpoint, answer: Answer) -> None:
    server.answers = [answer] * 3
    assert ask(server) == "a cat sleeps"
    assert len(server.got) == 4


def test_a_server_that_is_not_there_is_waited_for_until_the_time_is_over() -> None:
    with pytest.raises(NoReply) as found:
        Endpoint(f"http://127.0.0.1:{free_port()}/v1", timeout=0.6)(FRAMES, CONTEXT)
    assert "refused" in str(found.value) and "check that it runs" in str(found.value)


def test_a_server_that_asks_for_no_pause_gets_one(server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_call, "_PAUSES", (0.05, 0.1))
    server.then = lambda request: Answer(b"", 429, {"Retry-After": "0"})
    assert "429" in failure(server, timeout=2.0)
    assert 1 <= len(server.got) <= 80


def test_a_server_that_was_not_there_is_asked_once_until_it_is(server: FakeEndpoint) -> None:
    found, port = Endpoint(f"http://127.0.0.1:{free_port()}/v1", timeout=0.6), server.server_port
    sent = list[str]()
    with pytest.raises(NoReply):
        found(FRAMES, CONTEXT)
    attempt = chat_call.ChatCall._attempt
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chat_call.ChatCall, "_attempt", lambda self, body: sent.append("") or attempt(self, body))
        with pytest.raises(NoReply, match="refused"):
            found(FRAMES, CONTEXT)
    assert len(sent) == 1
    found._server.address = replace(found._server.address, url=f"http://127.0.0.1:{port}/v1/chat/completions")
    assert found(FRAMES, CONTEXT).text == "a cat sleeps" and not found._server.is_gone


def test_a_connection_that_hangs_is_cut() -> None:
    """The listener's queue is full: the system neither accepts nor refuses."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            with suppress(BlockingIOError):
                filling.connect(full.getsockname())
        interrupts, ended = list[Any](), threading.Event()

        @contextmanager
        def interrupting(interrupt: Any) -> Iterator[None]:
            interrupts.append(interrupt)
            yield

        def call() -> None:
            with pytest.raises(NoReply, match="closed"):
                Endpoint(f"http://127.0.0.1:{full.getsockname()[1]}", timeout=300).ask(FRAMES, CONTEXT, interrupting)
            ended.set()

        thread = threading.Thread(target=call)
        thread.start()
        wait_for(lambda: interrupts)
        time.sleep(0.2)
        interrupts[0]()
        assert ended.wait(100)
        thread.join(60)


def test_a_server_that_comes_later_is_asked_then() -> None:
    port, found = free_port(), list[str]()
    asking = Endpoint(f"http://127.0.0.1:{port}/v1", timeout=LONG)
    thread = threading.Thread(target=lambda: found.append(asking(FRAMES, CONTEXT).text))
    thread.start()
    try:
        time.sleep(0.05)
        with endpoint(port=port):
            thread.join(LONG)
    finally:
        thread.join(LONG)
    assert found == ["a cat sleeps"]


def test_it_waits_as_long_as_it_is_told(server: FakeEndpoint) -> None:
    server.answers = [Answer(b"", 429, {"Retry-After": "0.3"})]
    begun = time.monotonic()
    assert ask(server) == "a cat sleeps"
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_it_leaves_a_server_alone_that_asks_for_longer_than_there_is_time(server: FakeEndpoint, form: str) -> None:
    after = "600" if form == "seconds" else formatdate(time.time() + 600, usegmt=True)
    server.answers = [Answer({"error": {"message": "Rate limit"}}, 429, {"Retry-After": after})]
    found = Endpoint(server.url, timeout=60)
    lines = []
    for _ in range(3):
        with pytest.raises(NoReply) as failed:
            found(FRAMES, CONTEXT)
        lines.append(str(failed.value))
    assert "Rate limit" in lines[0] and "left alone" in lines[1] and len(server.got) == 1
    assert found.is_quiet and lines[1] == lines[2]


@pytest.mark.parametrize("after", ["soon", "-5", "nan", "", "Fri, 99 Foo", "0"])
def test_a_senseless_retry_after_is_ignored(server: FakeEndpoint, after: str) -> None:
    server.answers = [Answer(b"", 503, {"Retry-After": after})]
    assert ask(server) == "a cat sleeps"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(completion("a cat"), drip=0.01),
        Answer(b"", 503, drip=0.01),
        Answer(completion("a cat"), wait=60),
    ],
)
def test_a_server_that_drips_or_says_nothing_is_left_at_the_end_of_the_time(
    server: FakeEndpoint, answer: Answer
) -> None:
    server.then = lambda request: answer
    begun = time.monotonic()
    line = failure(server, timeout=0.4)
    assert "within 0.4 s" in line and 0.4 <= time.monotonic() - begun < 30


@pytest.mark.parametrize("where", ["/v1/chat/completions", "file:///etc/passwd", "http://[", "", None])
def test_a_redirect_that_leads_nowhere_is_followed_no_further(server: FakeEndpoint, where: str | None) -> None:
    server.then = lambda request: Answer(b"", 302, {} if where is None else {"Location": where})
    line = failure(server, key=KEY)
    assert "redirect" in line and "passwd" not in line and len(server.got) <= 12


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_stays_on_the_server(server: FakeEndpoint, status: int) -> None:
    server.answers = [Answer(b"", status, {"Location": "/v2/chat/completions"})]
    assert ask(server, key=KEY) == "a cat sleeps"
    assert server.got[1].path == "/v2/chat/completions" and server.got[1].parts == server.got[0].parts
    with endpoint() as other:
        server.answers = [Answer(b"", status, {"Location": f"{other.url}/chat/completions"})]
        line = failure(server, key=KEY)
        assert "redirect" in line and str(other.server_port) in line and not other.got


def test_a_call_is_interrupted_from_another_thread(server: FakeEndpoint) -> None:
    server.then = lambda request: Answer(completion("late"), wait=60)
    interrupts, lines = list[Any](), list[str]()

    @contextmanager
    def interrupting(interrupt: Any) -> Iterator[None]:
        interrupts.append(interrupt)
        yield

    def call() -> None:
        with pytest.raises(NoReply) as found:
            Endpoint(server.url, timeout=LONG).ask(FRAMES, CONTEXT, interrupting)
        lines.append(str(found.value))

    thread = threading.Thread(target=call)
    thread.start()
    wait_for(lambda: server.got)
    interrupts[0]()
    thread.join(60)
    assert not thread.is_alive() and "closed" in lines[0]


def test_the_key_is_sent_and_appears_nowhere(
    server: FakeEndpoint, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    found = Endpoint(server.url, "tiny", key=f" {KEY}\n", timeout=LONG)
    server.answers = [
        Answer({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401),
        Answer(f"bad key {KEY}".encode(), 500),
        Answer(f"bad key {KEY}".encode(), 500),
        Answer(completion(f"my key is {KEY}")),
    ]
    lines = []
    for _ in range(2):
        with pytest.raises(NoReply) as failed:
            found(FRAMES, CONTEXT)
        lines.append(f"{failed.value} {failed.value!r}")
    lines.append(repr(found(FRAMES, CONTEXT)))
    lines.append(repr(vars(found)))
    assert server.got[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in "".join([*lines, caplog.text, *capfd.readouterr()])
    assert "***" in lines[0]


@pytest.mark.parametrize("key", ["none", "EMPTY", "x", "ollama"])
def test_a_key_that_is_a_word_is_not_taken_out_of_answers(server: FakeEndpoint, key: str) -> None:
    server.answers = [Answer(completion(f"{key} of the boxes is open"))]
    assert ask(server, key=key) == f"{key} of the boxes is open"


def test_a_proxy_is_used_for_other_machines_and_its_password_is_not_shown(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://me:proxy-secret@127.0.0.1:{server.server_port}")
    assert Endpoint("http://far.invalid/v1")(FRAMES, CONTEXT).text == "a cat sleeps"
    assert server.got[0].path == "http://far.invalid/v1/chat/completions"
    server.answers = [Answer(b"no", 407)]
    with pytest.raises(NoReply) as refused:
        Endpoint("http://far.invalid/v1")(FRAMES, CONTEXT)
    monkeypatch.setenv("http_proxy", f"http://me:proxy-secret@127.0.0.1:{free_port()}")
    with pytest.raises(NoReply) as gone:
        Endpoint("http://far.invalid/v1", timeout=0.2)(FRAMES, CONTEXT)
    assert "secret" not in f"{refused.value} {gone.value}"
    assert ask(server) == "a cat sleeps"  # what listens on this machine needs none


def test_credentials_of_the_address_are_sent_and_appear_nowhere(server: FakeEndpoint) -> None:
    url = f"http://me:pass%20word@127.0.0.1:{server.server_port}/v1"
    server.answers = [Answer({"error": {"message": "no"}}, 400)]
    found = Endpoint(url)
    with pytest.raises(NoReply) as failed:
        found(FRAMES, CONTEXT)
    assert server.got[0].headers["Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    shown = f"{failed.value} {found.shown} {vars(found)!r}"
    assert "pass" not in shown and "bWU6cGFzcyB3b3Jk" not in shown


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", "\x07bell"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(VljEdgeError) as found:
        Endpoint("http://localhost/v1", key=key)
    assert key not in str(found.value) and "key" in str(found.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:11434",
        "ftp://a/v1",
        "http://",
        "http://a b/v1",
        "http://me:pw@[/v1",
        "//me:pw@host/v1",
        "host/v1?key=pw",
        "host:80/v1?a=1&key=pw",
        "ftp://host/v1?key=pw",
        "http://host:x/v1?key=pw",
        "http://me:${VLJ_EDGE_NOT_SET}@host/v1?key=pw",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(VljEdgeError) as found:
        Endpoint(url)
    assert "pw" not in str(found.value)


def test_a_failure_is_logged_once_and_so_is_its_end(server: FakeEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = Endpoint(server.url, "tiny")
    server.answers = [Answer(b"no", 400)] * 3 + [Answer(b"other", 400)]
    for _ in range(4):
        with pytest.raises(NoReply):
            found(FRAMES, CONTEXT)
    found(FRAMES, CONTEXT)
    found(FRAMES, CONTEXT)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and "other" in lines[1] and "4" in lines[2] and "again" in lines[2]


def test_a_failure_of_several_cameras_is_logged_once_and_names_one(
    server: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    found = Endpoint(server.url, "tiny")
    server.then = lambda request: Answer(b"no", 400)
    for camera in ("hall", "yard", "hall", ""):
        with pytest.raises(NoReply):
            found(FRAMES, replace(CONTEXT, camera=camera))
    assert [record.getMessage().split(" no ")[0] for record in caplog.records] == ["hall:"]


def test_reasons_that_differ_in_numbers_alone_are_logged_once(
    server: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    found = Endpoint(server.url, "tiny")
    for status, reason in (
        (400, "request a81f: try in 1.2 s"),
        (400, "request 9c: try in 3 s"),
        (422, "request 1: no"),
    ):
        server.answers.append(Answer({"error": reason}, status))
        with pytest.raises(NoReply):
            found(FRAMES, CONTEXT)
    assert [record.getMessage().count("a81f") for record in caplog.records] == [1, 0]
    assert "422" in caplog.records[1].getMessage()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": 5},
        {"url": b"http://h"},
        {"model": 5},
        {"key": b"abc"},
        {"prompt": ["a"]},
        {"timeout": "20"},
        {"timeout": None},
        {"timeout": float("nan")},
        {"timeout": 0},
        {"most_tokens": 2.5},
        {"most_tokens": True},
        {"schema": "{}"},
    ],
)
def test_what_an_endpoint_cannot_be_made_of_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(VljEdgeError):
        Endpoint(**({"url": "http://h/v1"} | wrong))


def test_a_server_that_calls_the_limit_otherwise_gets_it_so(server: FakeEndpoint) -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    server.answers = [Answer({"error": {"message": message, "param": "max_tokens"}}, 400)]
    found = Endpoint(server.url, most_tokens=50, timeout=LONG)
    assert found(FRAMES, CONTEXT).text == found(FRAMES, CONTEXT).text == "a cat sleeps"
    assert [request.body.get("max_completion_tokens") for request in server.got] == [None, 50, 50]
    assert "max_tokens" not in server.got[2].body


SCHEMA = {
    "type": "object",
    "properties": {"people": {"type": "integer", "minimum": 0}, "open": {"type": "boolean"}},
    "required": ["people"],
    "additionalProperties": False,
}


def test_an_answer_in_json_is_asked_for_and_passed_on(server: FakeEndpoint) -> None:
    server.answers = [Answer(completion('<think>2?</think>```json\n{"people": 2,\n "open": true}\n```'))]
    found = Endpoint(server.url, schema=SCHEMA)(FRAMES, CONTEXT)
    assert found.data == {"people": 2, "open": True} and json.loads(found.text) == found.data
    asked = server.got[0].body["response_format"]
    assert asked["type"] == "json_schema" and asked["json_schema"]["schema"] == SCHEMA
    assert '"people"' in server.got[0].text  # for servers that ignore response_format


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("two people", "not JSON"),
        ('{"people": 2', "not JSON"),
        ('{"people": NaN}', "not JSON"),
        ('{"people": 1e999}', "number"),
        (f'{{"people": {"[" * 200}{"]" * 200}}}', "deep"),
        ("[]", "no object"),
        ('{"open": true}', "people"),
        ('{"people": true}', "people"),
        ('{"people": "2"}', "people"),
        ('{"people": -1}', "minimum"),
        ('{"people": 1, "cats": 2}', "cats"),
    ],
)
def test_an_answer_that_is_not_as_asked_is_none(server: FakeEndpoint, text: str, why: str) -> None:
    server.answers = [Answer(completion(text, {"total_tokens": 77}))]
    with pytest.raises(NoReply) as found:
        Endpoint(server.url, schema=SCHEMA)(FRAMES, CONTEXT)
    assert why in str(found.value) and found.value.tokens == 77
