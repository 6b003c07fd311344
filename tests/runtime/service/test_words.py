"""Words from an endpoint in a station: several cameras, settings that change, the API and the metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.words.endpoints import Answer, completion, endpoint
from vlj_edge.bundle import GateSettings
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.config import read_config
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.words.settings import WordsSettings

DEMO = str(Path(__file__).parents[3] / "examples" / "media" / "demo.mp4")


def test_each_camera_has_words_and_a_budget_of_its_own(nano: Model) -> None:
    events: list[Event] = []
    with endpoint(lambda request: Answer(completion(f"at the {request.text}", {"total_tokens": 7}))) as server:
        words = WordsSettings(server.url, prompt="{camera}", calls_per_hour=1)
        sources = [SourceSettings(name, DEMO, words=words, part=Part(end=20.0)) for name in ("door", "yard")]
        station = Station(nano, sources, on_event=events.append)
        station.start()
        station.wait()
        station.stop()
    for name, channel in station.channels.items():
        said = [event.narration for event in events if event.source == name]
        counts = channel.counts()
        assert 1 <= counts["calls"] <= 3 and counts["calls_left_out"] and counts["call_tokens"] == 7 * counts["calls"]
        assert {each.text for each in said if not each.stand_in} == {f"at the {name}"}
        assert channel.words is not None and channel.words.state()["calls_per_hour"] == 1


def test_a_configuration_names_words_for_all_and_for_one(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        """words = "http://localhost:11434/v1"
words_model = "tiny"
words_timeout = "30s"
calls_per_hour = 20
[[source]]
name = "door"
uri = "rtsp://door/1"
prompt = "Who is it?"
calls_per_hour = 60
[[source]]
name = "yard"
uri = "rtsp://yard/1"
"""
    )
    config = read_config(path)
    assert config.options["words_timeout"] == "30s" and config.options["calls_per_hour"] == 20
    words = WordsSettings("http://localhost:11434/v1", "tiny", calls_per_hour=20)
    door, yard = (config.with_words(each, words).words for each in config.sources(GateSettings()))
    assert door is not None and (door.prompt, door.calls_per_hour) == ("Who is it?", 60)
    assert yard == words


@pytest.mark.parametrize("line", ["calls_per_hour = -1", "frames = 0", "words_key = 'abc'", "words_timeout = 3"])
def test_a_wrong_line_of_a_configuration_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(f"port = 1\n{line}\n")
    with pytest.raises(VljEdgeError, match=r"line [12]"):
        read_config(path)
