"""The state, settings and metrics of words from an endpoint."""

from __future__ import annotations

import itertools
import time

from tests.runtime.colours import NO_MEMORY
from tests.runtime.service.http.server import Camera, Serve, metric
from tests.runtime.tiny_bundle import BLUE, RED
from tests.runtime.words.endpoints import Answer, completion, endpoint
from tests.waiting import free_port, wait_for
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.words.settings import WordsSettings


def test_words_have_state_settings_and_metrics(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras |= {"cam": Camera([RED, BLUE]), "plain": Camera([RED])}
    numbers = itertools.count(1)
    with endpoint(lambda request: Answer(completion(f"text {next(numbers)}", {"total_tokens": 50}))) as server:
        url = server.url.replace("http://", "http://me:secret@")
        words = WordsSettings(url, "tiny", calls_per_hour=3600, tokens_per_day=10_000, key=None)
        served = serve(SourceSettings("cam", "cam", gates=NO_MEMORY, words=words), SourceSettings("plain", "plain"))
        channel = served.station.channels["cam"]
        wait_for(lambda: channel.counts()["calls"] >= 2)
        with served.client() as client:
            cam, plain = client.get("/api/state").json()["sources"]
            assert plain["words"] is None and cam["counts"]["calls"] >= 2
            assert cam["words"]["endpoint"] == f"tiny at http://127.0.0.1:{server.server_port}"
            assert cam["words"]["calls_per_hour"] == 3600 and cam["words"]["tokens_left"] <= 9_900
            changed = client.put("/api/sources/cam/settings", json={"calls_per_hour": 60})
            assert changed.status_code == 200
            wait_for(lambda: channel.words is not None and channel.words.state()["calls_per_hour"] == 60)
            assert client.put("/api/sources/plain/settings", json={"calls_per_hour": 60}).status_code == 422
            assert client.put("/api/sources/cam/settings", json={"calls_per_hour": -1}).status_code == 422
            assert "secret" not in client.get("/api/state").text + client.get("/metrics").text
        assert metric(served.url, "vlj_edge_calls_total", source="cam") >= 2
        assert metric(served.url, "vlj_edge_call_tokens_total", source="cam") >= 100
        assert metric(served.url, "vlj_edge_tokens_left", source="cam") <= 9_900


def test_an_endpoint_that_is_down_costs_no_calls_and_the_state_says_so(
    serve: Serve, cameras: dict[str, Source]
) -> None:
    cameras["cam"] = Camera([RED, BLUE])
    url = f"http://me:secret@127.0.0.1:{free_port()}/v1"
    words = WordsSettings(url, timeout=0.05, calls_per_hour=1)
    served = serve(SourceSettings("cam", "cam", gates=NO_MEMORY, words=words))
    channel = served.station.channels["cam"]
    wait_for(lambda: channel.counts()["calls_failed"] >= 2)
    with served.client() as client:
        state = client.get("/api/state").json()["sources"][0]["words"]
        assert state["calls_saved_up"] >= 1 and state["questions_saved_up"] == 3
        assert "refused" in state["problem"] and "secret" not in state["problem"] and state["asks_again_in"] >= 0
    assert metric(served.url, "vlj_edge_questions_saved_up", source="cam") == 3


def test_stopping_and_new_settings_wait_for_no_answer(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera([RED, BLUE])
    with endpoint(lambda request: Answer(completion("late"), wait=200)) as server:
        words = WordsSettings(server.url, timeout=200, calls_per_hour=0)
        served = serve(SourceSettings("cam", "cam", gates=NO_MEMORY, words=words))
        channel = served.station.channels["cam"]
        wait_for(lambda: server.got)
        first = channel.counts()["windows"]
        with served.client() as client:
            assert client.put("/api/sources/cam/settings", json={"calls_per_hour": 100}).status_code == 200
        wait_for(lambda: len(server.got) == 2)  # of the next run
        assert channel.counts()["windows"] > first
        begun = time.monotonic()
        served.station.stop()
        assert time.monotonic() - begun < 100  # the answer would take 200 s
        assert channel.state == "ended"
