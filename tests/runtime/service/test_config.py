"""The configuration file and the saved settings of serve: valid ones are read, errors name the line."""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge import VljEdgeError
from vlj_edge.bundle import BudgetSettings, GateSettings, MeaningGateSettings
from vlj_edge.runtime.service.config import read_config, read_profile, save_profile, with_profile
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.systemd import notify, start_watchdog
from vlj_edge.runtime.video.part import Part

GOOD = """\
# a board in a corner
host = "0.0.0.0"
port = 8080
token_file = "/etc/vlj-edge/token"
mqtt = "mqtt://me:secret@broker/home"
log_bytes = 1000000

[[source]]
name = "door"
uri = "rtsp://me:secret@10.0.0.5/1"
query = "Describe the video."
labels = ["opens", "closes"]
[source.gates.meaning]
speak_below = 0.9
longest_wait = 2

[[source]]
name = "hall"
uri = "0"
"""


def write(path: Path, text: str) -> Path:
    (path / "serve.toml").write_text(text, encoding="utf-8")
    return path / "serve.toml"


def test_every_option_is_read(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, GOOD))
    assert config.options["port"] == 8080 and config.options["log_bytes"] == 10**6
    front = read_config(write(tmp_path, 'allowed_host = ["edge.example"]\ntrusted_proxy = ["::1"]\n' + GOOD))
    assert front.options["allowed_host"] == ("edge.example",) and front.options["trusted_proxy"] == ("::1",)
    door, hall = config.sources(GateSettings(), "asked")
    assert (
        door.labels == ("opens", "closes")
        and door.query == "Describe the video."
        and hall.query == "asked"
        and hall.gates is None
    )
    assert door.gates == GateSettings(meaning=replace(MeaningGateSettings(), speak_below=0.9, longest_wait=2))
    assert "secret" not in repr(config._parsed.source)


def test_a_source_has_a_budget_of_its_own(tmp_path: Path) -> None:
    text = """texts_per_hour = 20
[[source]]
name = "door"
uri = "0"
texts_per_hour = 6
[source.gates.budget]
encodes_per_minute = 30
[[source]]
name = "hall"
uri = "1"
[source.gates.budget]
texts_per_hour = 2
"""
    config = read_config(write(tmp_path, text))
    assert config.options == {"texts_per_hour": 20.0}
    door, hall = config.sources(GateSettings(budget=BudgetSettings(20)))
    assert door.gates == GateSettings(budget=BudgetSettings(6, 30)) and hall.gates == GateSettings(
        budget=BudgetSettings(2)
    )
    for wrong in (text.replace("= 6", "= -6"), text.replace("encodes_per_minute = 30", "texts_per_hour = 30")):
        with pytest.raises(VljEdgeError, match=r"serve.toml, line 5: .*texts_per_hour"):
            read_config(write(tmp_path, wrong))


def test_settings_that_were_saved_without_a_budget_are_read(tmp_path: Path) -> None:
    save_profile(tmp_path / "p.json", [SourceSettings("a", "0", gates=GateSettings(budget=BudgetSettings(6)))])
    raw = json.loads((tmp_path / "p.json").read_text())
    assert read_profile(tmp_path / "p.json")["a"].gates == GateSettings(budget=BudgetSettings(6))
    del raw["a"]["gates"]["budget"]
    (tmp_path / "p.json").write_text(json.dumps(raw))
    assert read_profile(tmp_path / "p.json")["a"].gates == GateSettings()


@pytest.mark.parametrize(
    ("line", "wrong", "at", "names"),
    [
        (3, 'port = "8080"', 3, "port"),
        (3, "port = true", 3, "port"),
        (3, "port = 65536", 3, "port"),
        (6, "log_bytes = 0", 6, "log_bytes"),
        (2, "host = 1", 2, "host"),
        (4, 'allowed_host = "edge.example"', 4, "allowed_host"),
        (4, "trusted_proxy = [1]", 4, "trusted_proxy"),
        (4, 'tokenfile = "x"', 4, "tokenfile"),
        (4, 'log_format = "xml"', 4, "log_format"),
        (9, "", 8, "name"),
        (9, "name = 1", 9, "name"),
        (9, 'name = ""', 9, "name"),
        (9, 'name = " "', 9, "name"),
        (9, 'name = ".."', 9, "name"),
        (9, r'name = "a\nb"', 9, "name"),
        (9, r'name = "a\u202eb"', 9, "name"),
        (12, "labels = 'opens'", 12, "labels"),
        (12, "labels = ['opens', 5]", 12, "labels"),
        (12, "labels = [' ']", 12, "labels"),
        (12, "labels = ['labels.txt']", 12, "labels.txt"),
        (12, "labels = ['opens', 'shuts', ' Opens']", 12, "Opens"),
        (11, 'question = "?"', 11, "question"),
        (13, "[source.gates.sense]", 13, "sense"),
        (14, "speak_under = 0.9", 14, "speak_under"),
        (14, 'speak_below = "low"', 14, "speak_below"),
        (15, "smoothing = 1.5", 15, "smoothing"),
        (18, 'name = "door"', 18, "door"),
        (19, "", 17, "uri"),
        (9, 'name = "door', 9, "TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, line: int, wrong: str, at: int, names: str) -> None:
    lines = GOOD.splitlines()
    lines[line - 1] = wrong
    with pytest.raises(VljEdgeError) as caught:
        read_config(write(tmp_path, "\n".join(lines)))
    message = str(caught.value)
    assert "serve.toml" in message and f"line {at}" in message and names in message
    assert "secret" not in message


@given(st.text(max_size=80))
def test_whatever_is_in_it_is_read_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("config") / "serve.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_config(path)
    except VljEdgeError as error:
        assert "\n" not in str(error)


def test_settings_are_saved_and_read_again(tmp_path: Path) -> None:
    gates = GateSettings(meaning=replace(MeaningGateSettings(), speak_below=0.8))
    save_profile(
        tmp_path / "p.json",
        [SourceSettings("a", "rtsp://me:secret@x", "what?", gates, ("x",)), SourceSettings("b", "0")],
    )
    assert "secret" not in (tmp_path / "p.json").read_text()
    saved = read_profile(tmp_path / "p.json")
    assert with_profile(SourceSettings("a", "1"), saved) == SourceSettings("a", "1", "what?", gates, ("x",))
    assert with_profile(SourceSettings("b", "1", "q"), saved) == SourceSettings("b", "1", "q")
    assert with_profile(SourceSettings("c", "1"), saved) == SourceSettings("c", "1")
    assert read_profile(tmp_path / "none.json") == {}
    save_profile(tmp_path / "p.json", [SourceSettings("a", "0")])
    saved = read_profile(tmp_path / "p.json")
    assert with_profile(SourceSettings("a", "0", labels=("x", "y")), saved).labels == (), "they were removed"
    (tmp_path / "p.json").write_text('{"a": {"query": "q"}}')
    saved = read_profile(tmp_path / "p.json")
    assert with_profile(SourceSettings("a", "0", labels=("x",)), saved).labels == ("x",), "they were not saved"
    before = SourceSettings("a", "0", "what?", gates, ("x", "y"))
    save_profile(tmp_path / "p.json", [replace(before, labels=())], {"a": before})
    saved = read_profile(tmp_path / "p.json")
    now = SourceSettings("a", "0", "what now?", None, ("z",))
    assert with_profile(now, saved) == replace(now, labels=()), "the rest was as configured, and follows it"
    for damage in ("{", "[]", '{"a": {"gates": {"sense": {}}}}', '{"a": {"gates": {"meaning": {"x": 1}}}}', '{"a": 3}'):
        (tmp_path / "p.json").write_text(damage)
        with pytest.raises(VljEdgeError, match=r"p\.json"):
            read_profile(tmp_path / "p.json")
    with pytest.raises(VljEdgeError, match=r"p\.json"):
        save_profile(tmp_path / "none" / "p.json", [])


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, abstract: bool
) -> None:
    address = f"@vlj-edge-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + address[1:] if abstract else address)
        systemd.settimeout(120)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
        assert start_watchdog(lambda: True, threading.Event()) is None, "it was not asked for"
        monkeypatch.setenv("WATCHDOG_USEC", "40000")
        healthy, stop = threading.Event(), threading.Event()
        healthy.set()
        thread = start_watchdog(healthy.is_set, stop)
        assert thread is not None and systemd.recv(100) == b"WATCHDOG=1" == systemd.recv(100)
        healthy.clear()
        systemd.settimeout(0.3)
        with pytest.raises(TimeoutError):
            while True:
                systemd.recv(100)
        stop.set()
        thread.join(120)
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
    [line] = [record.getMessage() for record in caplog.records]
    assert "READY=1" in line and "NOTIFY_SOCKET" in line, "nobody listened there any more"


def test_a_source_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('[[source]]\nname = "a"\nuri = "a.mp4"\nrotate = 270\n')
    assert [source.rotate for source in read_config(path).sources(GateSettings())] == [270]
    path.write_text('[[source]]\nname = "a"\nuri = "a.mp4"\nrotate = 45\n')
    with pytest.raises(VljEdgeError, match=r"line 4.*rotate.*270"):
        read_config(path)


def test_a_source_is_a_part(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    head = '[[source]]\nname = "a"\nuri = "a.mp4"\n'
    path.write_text(head + 'start = 60\nduration = 30.5\nfps = 8\ndecoder = "software"\n')
    [settings] = read_config(path).sources(GateSettings())
    assert settings.part == Part(60, 90.5, 8, "rate", "software")
    path.write_text(head + 'end = 5\nimage_times = "exif"\n')
    [settings] = read_config(path).sources(GateSettings())
    assert settings.part == Part(0, 5, None, "exif")
    for wrong, line in (
        ("start = -1", 4),
        ('start = "1:90"', 4),
        ("fps = 0", 4),
        ("start = 5\nend = 4", 5),
        ("end = 4\nduration = 4", 5),
        ('fps = 4\nimage_times = "file"', 5),
    ):
        path.write_text(f"{head}{wrong}\n")
        with pytest.raises(VljEdgeError, match=f"line {line}"):
            read_config(path)


def test_what_loops(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        'loop = true\n[[source]]\nname = "a"\nuri = "a.mp4"\n[[source]]\nname = "b"\nuri = "b.mp4"\nloop = false\n'
    )
    config = read_config(path)
    assert config.options["loop"] is True
    assert [source.loop for source in config.sources(GateSettings(), None, loop=True)] == [True, False]
    assert [source.loop for source in config.sources(GateSettings())] == [False, False]
    path.write_text('[[source]]\nname = "a"\nuri = "a.mp4"\nloop = 3\n')
    with pytest.raises(VljEdgeError, match=r"line 4.*loop"):
        read_config(path)


ONE = '[[source]]\nname = "hall"\nuri = "x.mp4"\n[[alert]]\nname = "first"\ntext = "a"\n'


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ('[alert]\nname = "x"\ntext = "y"\n', 1, ("[[alert]]",)),
        ('[source]\nname = "x"\nuri = "y"\n', 1, ("[[source]]",)),
        ('[[alerts]]\nname = "x"\ntext = "y"\n', 1, ("alerts", "did you mean alert?")),
        (f'{ONE}[[alerts]]\nname = "x"\ntext = "y"\n', 7, ("alerts", "did you mean alert?")),
        (f'{ONE}[[alert]]\nname = "door"\ntxt = "y"\n', 9, ("alert[1].txt", "did you mean text?", "2, 'door'")),
        (f'{ONE}[[alert]]\nname = "door"\ntext = "y"\nfore = "1s"\n', 10, ("alert[1].fore", "did you mean for?")),
        (f'{ONE}[[alert]]\nname = "door"\ntext = "y"\nfor = "soon"\n', 10, ("alert[1].for", "'soon'", "'door'")),
        (f'{ONE}[[alert]]\ntext = "y"\n', 7, ("alert[1]", "name", "[[alert]] 2")),
        (f'{ONE}[[alert]]\nname = "First"\ntext = "y"\n', 8, ("alert[1].name", "'First'", "[[alert]] 2")),
        (f'{ONE}[[alert]]\nname = "door"\n', 7, ("alert[1]", "nothing to watch for", "'door'")),
        (f'{ONE}[[alert]]\nname = "door"\ntext = "y"\ncamera = ["hall"]\n', 10, ("did you mean cameras?",)),
        ('webhok = "http://x"\n', 1, ("webhok", "did you mean webhook?")),
    ],
)
def test_an_error_of_an_alert_names_its_line_its_field_and_the_alert(
    tmp_path: Path, text: str, line: int, named: tuple[str, ...]
) -> None:
    path = tmp_path / "home.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(VljEdgeError) as caught:
        read_config(path)
    assert f"{path}, line {line}:" in str(caught.value) and all(each in str(caught.value) for each in named)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


def test_an_alert_of_a_camera_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "home.toml"
    path.write_text(f'{ONE}cameras = [\n  "hall",\n  "hal"]\n', encoding="utf-8")
    config = read_config(path)
    config.check_cameras(["hall", "hal"])
    with pytest.raises(VljEdgeError) as caught:
        config.check_cameras(["hall", "garden"])
    line = str(caught.value)
    assert f"{path}, line 7: alert[0].cameras" in line and "'hal'" in line and "name hall" in line and "'first'" in line


@pytest.mark.parametrize("written", ['"0:09"', '"9s"', "9", "9.0", '"0:00:09"', '"9000ms"', '"0.15min"'])
def test_times_of_alerts_are_written_as_everywhere(tmp_path: Path, written: str) -> None:
    path = tmp_path / "home.toml"
    path.write_text(f"{ONE}for = {written}\nagain_after = {written}\nkeep = {written}\n", encoding="utf-8")
    [alert] = read_config(path).alerts
    assert (alert.rule.hold, alert.rule.again_after, alert.keep) == (9.0, 9.0, 9.0)


@pytest.mark.parametrize(("encoding", "named"), [("utf-16", "UTF-16: save it as UTF-8"), ("latin-1", "UTF-8")])
def test_a_configuration_in_another_encoding_says_how_to_save_it(encoding: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('[[source]]\nname = "T\u00fcr"\nuri = "a.mp4"\n', encoding=encoding)
    with pytest.raises(VljEdgeError, match=rf"serve\.toml .*{named}"):
        read_config(path)
    path.write_text('[[source]]\nname = "a"\nuri = "a.mp4"\n', encoding="utf-8-sig")
    assert read_config(path).source_names == ["a"]
