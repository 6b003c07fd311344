"""Words from llama.cpp's own server, which serves a tiny model of random weights that takes pictures."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import run_here
from tests.needs import needs
from tests.runtime.lifetimes import nothing_runs
from tests.runtime.words.llama_server import llama_server
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.words.chat_call import NoReply
from vlj_edge.runtime.words.endpoint import Endpoint
from vlj_edge.runtime.words.prompt import WordsContext
from vlj_edge.runtime.words.words import Words

pytestmark = [pytest.mark.slow, needs("xllamacpp"), needs("gguf")]

DEMO = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"
KEY, TOKENS = "sk-tiny-llama", 12
CONTEXT = WordsContext(0.0, 2.0, 1.0)
DARK, NOISE = np.zeros((48, 64, 3), np.uint8), np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with llama_server(tmp_path, KEY) as url:
        yield url


def tokens_said(url: str) -> int:
    """Return how many tokens the server has answered with, as it counts them itself."""
    request = urllib.request.Request(url.replace("/v1", "/metrics"), headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        lines = response.read().decode().splitlines()
    [line] = [line for line in lines if line.startswith("llamacpp:tokens_predicted_total ")]
    return int(float(line.split()[1]))


def test_a_recording_is_narrated_in_the_servers_words(server: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    options = ("--words", server, "--words-key-file", key, "--words-max-tokens", TOKENS, "--words-timeout", "10m")
    done = run_here("narrate", DEMO, "--json", "--calls-per-hour", "0", *map(str, options))
    *events, last = map(json.loads, done.stdout.splitlines())
    totals = last["totals"]
    assert done.returncode == 0 and not done.stderr and totals["calls_failed"] == totals["calls_left_out"] == 0
    assert totals["calls"] >= 5 and tokens_said(server) == TOKENS * totals["calls"]
    pictures_and_prompt = totals["call_tokens"] - TOKENS * totals["calls"]
    assert pictures_and_prompt > 200 * totals["calls"]  # the default prompt has as many letters
    assert len(events) >= 5 and {event["origin"] for event in events} <= {"words", "memory"}
    assert all(event["text"].isascii() and 0 < len(event["text"]) <= TOKENS for event in events)
    nothing_runs()


def test_it_sees_the_pictures_and_their_order(server: str) -> None:
    asking = Endpoint(server, "any name", KEY, most_tokens=40, timeout=600)
    shown = ([DARK, NOISE], [NOISE, DARK], [DARK, DARK])
    replies = [asking(pictures, CONTEXT) for pictures in shown]
    assert len({reply.text for reply in replies}) == 3
    [tokens] = {reply.tokens for reply in replies}
    one = asking([DARK], CONTEXT).tokens
    assert tokens is not None and one is not None and tokens - one >= 16  # as many as a picture has


def test_an_answer_in_json_is_as_the_schema_says(server: str) -> None:
    schema = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
    schema["additionalProperties"] = False
    reply = Endpoint(server, key=KEY, schema=schema, timeout=600)([DARK, NOISE], CONTEXT)
    assert reply.data in ({"open": True}, {"open": False})


def test_its_refusals_are_told(server: str, tmp_path: Path) -> None:
    for asking, why in (
        (Endpoint(server, key="wrong"), "401"),
        (Endpoint(server, key=KEY, prompt="long " * 2000), "context"),
        (Endpoint(server.replace("/v1", "/v7"), key=KEY), "404"),
    ):
        with pytest.raises(NoReply, match=why) as found:
            asking([DARK], CONTEXT)
        assert KEY not in str(found.value) and "wrong" not in str(found.value)
    (tmp_path / "text").mkdir()
    with llama_server(tmp_path / "text", KEY, takes_pictures=False) as blind, pytest.raises(NoReply) as found:
        Endpoint(blind, key=KEY)([DARK], CONTEXT)
    assert "image input is not supported" in str(found.value)


def test_a_run_that_ends_in_a_call_leaves_the_server_to_others(server: str, nano: Model) -> None:
    long = Endpoint(server, key=KEY, most_tokens=600, timeout=600)
    for _ in range(2):
        for event in nano.narrate(DEMO, words=Words(long)):
            assert event.origin == "words"
            break
        nothing_runs()
    assert Endpoint(server, key=KEY, most_tokens=1, timeout=600)([DARK], CONTEXT).text
