"""Words from an endpoint in a station: several cameras, settings that change, the API and the metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.words.endpoints import Answer, completion, endpoint
from vlj_edge.bundle import GateSettings
from vlj_edge.cli.part_options import PartOptions
from vlj_edge.cli.serve_settings import ServeSettings
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
    assert config.options["words_timeout"] == 30.0 and config.options["calls_per_hour"] == 20
    words = WordsSettings("http://localhost:11434/v1", "tiny", calls_per_hour=20)
    door, yard = (config.with_words(each, words).words for each in config.sources(GateSettings()))
    assert door is not None and (door.prompt, door.calls_per_hour) == ("Who is it?", 60)
    assert yard == words


@pytest.mark.parametrize("line", ["calls_per_hour = -1", "frames = 0", "words_key = 'abc'", "words_timeout = 'soon'"])
def test_a_wrong_line_of_a_configuration_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(f"port = 1\n{line}\n")
    with pytest.raises(VljEdgeError, match=r"line [12]"):
        read_config(path)


@pytest.mark.parametrize(
    ("written", "seconds"), [("20", 20.0), ("2.5", 2.5), ('"20s"', 20.0), ('"0:20"', 20.0), ('"500ms"', 0.5)]
)
def test_times_of_a_configuration_are_written_as_on_the_command_line(
    tmp_path: Path, written: str, seconds: float
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        f"""words_timeout = {written}
[[source]]
name = "door"
uri = "door.mp4"
start = {written}
duration = {written}
[source.gates.meaning]
longest_wait = {written}
"""
    )
    config = read_config(path)
    assert config.options["words_timeout"] == seconds
    [door] = config.sources(GateSettings())
    assert (door.part.start, door.part.end) == (seconds, 2 * seconds)
    assert door.gates is not None and door.gates.meaning.longest_wait == seconds


@pytest.mark.parametrize("wrong", ["0", "-1", '"-1s"', '"soon"', '"0:99"', "true", "[20]", "nan", "1e300", '""'])
@pytest.mark.parametrize("line", ["words_timeout = {}", "source[0].end = {}", "source[0].gates.meaning.settle = {}"])
def test_what_is_no_time_is_named(tmp_path: Path, wrong: str, line: str) -> None:
    if "gates" in line and wrong in ("0", "-1", "1e300"):
        return  # checked with the gates
    path, lines = tmp_path / "serve.toml", ["port = 1", "[[source]]", 'name = "a"', 'uri = "0"']
    key = line.removeprefix("source[0].").format(wrong)
    lines.insert(1 if line.startswith("words") else 4, key)
    path.write_text("\n".join(lines))
    with pytest.raises(VljEdgeError) as found:
        read_config(path)
    at = 2 if line.startswith("words") else 5
    assert f"serve.toml, line {at}: {line.split(' =')[0]}" in str(found.value)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("words", '"localhost:11434"', "http://"),
        ("words", '"http://me:hidden@host:x/v1"', "port"),
        ("words", '"http://me:${VLJ_EDGE_NOT_SET}@host/v1"', "VLJ_EDGE_NOT_SET"),
        ("prompt", '""', "empty"),
        ("prompt", '"Who is at {door}?"', "{camera}"),
        ("prompt", '"missing.txt"', "missing.txt"),
        ("source[0].prompt", '"Who is at {door}?"', "{camera}"),
        ("source[1].prompt", '"./missing"', "missing"),
        ("words_key_file", '"missing"', "missing"),
        ("words_schema", '"missing.json"', "missing.json"),
    ],
)
def test_what_words_cannot_be_made_of_is_named_with_file_line_and_key(
    tmp_path: Path, nano: Model, key: str, value: str, why: str
) -> None:
    lines = [
        "port = 1",
        'words = "http://h/v1"',
        'prompt = "What?"',
        "",
        "",
        "",
        "[[source]]",
        'name = "a"',
        'uri = "0"',
    ]
    lines += ["", "[[source]]", 'name = "b"', 'uri = "1"', ""]
    at = {"words": 2, "prompt": 3, "source[0].prompt": 10, "source[1].prompt": 14}.get(key, 5)
    lines[at - 1] = f"{key.rpartition('.')[2]} = {value}"
    path = tmp_path / "serve.toml"
    path.write_text("\n".join(lines))
    settings = ServeSettings((), path, {}, PartOptions())
    with pytest.raises(VljEdgeError) as found:
        settings.sources(nano, settings.options())
    assert f"serve.toml, line {at}: {key}: " in str(found.value) and why in str(found.value)
    assert "hidden" not in str(found.value) and "\n" not in str(found.value)


def test_an_option_of_the_command_line_is_named_as_one(tmp_path: Path, nano: Model) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('words = "http://h/v1"\n[[source]]\nname = "a"\nuri = "0"\n')
    settings = ServeSettings((), path, {"prompt": "{door}"}, PartOptions())
    with pytest.raises(VljEdgeError, match=r"^--prompt: "):
        settings.sources(nano, settings.options())


def test_an_alert_that_asks_leaves_tokens_for_its_questions(tmp_path: Path, nano: Model) -> None:
    path = tmp_path / "serve.toml"
    sources = "".join(f'[[source]]\nname = "{name}"\nuri = "0"\n' for name in ("hall", "yard"))
    alert = '[[alert]]\nname = "door"\ntext = "the door is open"\nconfirm = "Is it open?"\ncameras = ["hall"]\n'
    path.write_text(f'words = "http://h/v1"\n{sources}{alert}')
    settings = ServeSettings(("more=1",), path, {}, PartOptions())
    found = {each.name: each.words for each in settings.sources(nano, settings.options())}
    assert {name: words is not None and words.has_questions for name, words in found.items()} == {
        "more": False,
        "hall": True,
        "yard": False,
    }


def test_warnings_about_one_of_several_sources_name_it(caplog: pytest.LogCaptureFixture, nano: Model) -> None:
    """Both have the same address, which tells nobody which one is meant."""
    with endpoint(lambda request: Answer(b"no", 400)) as server:
        words = WordsSettings(server.url)
        part = Part(end=40.0, frames_per_second=1.0)
        station = Station(nano, [SourceSettings(name, DEMO, words=words, part=part) for name in ("door", "yard")])
        station.start()
        station.wait()
        station.stop()
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("frames a second" in line for line in lines) and any("no words" in line for line in lines)
    assert all(line.startswith(("door", "yard")) for line in lines), lines
