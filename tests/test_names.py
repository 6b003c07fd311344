"""Names of sources and alerts: each is refused with its line, or stands in every address and topic as it is."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge import VljEdgeError
from vlj_edge.cli.part_options import PartOptions
from vlj_edge.cli.source_names import parse_sources
from vlj_edge.errors import WrongCall
from vlj_edge.names import LONGEST, problem_of_name
from vlj_edge.runtime.service.config import Config, read_config
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.sinks.mqtt import _slug
from vlj_edge.runtime.sinks.notify import _header

TAKEN = [
    "hall", "hall/left", "/lead", "trail/", "a//b", "...", "..x", "x..", "a/...", "100%", "50%2F", "%2e%2e", "what?",
    "c#1", 'quo"te', "it's", "<b>", "&amp;", "front door", " hall ", "Tür", "门", "שלום", "🚪",
    "👨\u200d👩\u200d👧", "a=b/c", "back\\slash",
    "-x", "x" * LONGEST, "🚪" * LONGEST, "rtsp://door/1", "state", "alert/x",
]  # fmt: skip
REFUSED = [
    "", " ", ".", "..", "a/../b", "../a", "a/..", "./a", "a/.", "a\\..\\b", "a/ .. /b", "a\nb",
    "a\tb", "bell\x07", "a\x00b", "a\x7fb",
    "\u202egnp", "a\u2028b", "x" * (LONGEST + 1), "x" * 300, "🚪" * 300, "rtsp://me:secret@door/1", "me:secret@door/1",
    "http://door/?token=secret",
]  # fmt: skip
texts = st.text(max_size=40) | st.lists(st.sampled_from([".", "..", "a", "%2e", "", " ", "🚪"])).map("/".join)


def toml(name: str) -> str:
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in name) + '"'


def of_source(name: str) -> str:
    return f'[[source]]\nuri = "x.mp4"\nname = {toml(name)}\n'


def of_alert(name: str) -> str:
    return f'[[alert]]\ntext = "a door opens"\nname = {toml(name)}\n'


def read(folder: Path, text: str) -> Config:
    path = folder / "home.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


@pytest.mark.parametrize("name", TAKEN)
def test_names_that_are_taken_stay_as_they_are(tmp_path: Path, name: str) -> None:
    config = read(tmp_path, of_source(name) + of_alert(name))
    assert config.source_names == [name] and config.alerts[0].name == name
    assert_stands_everywhere(name)


@pytest.mark.parametrize("table", [of_source, of_alert])
@pytest.mark.parametrize("name", REFUSED)
def test_names_that_are_refused_are_named_with_file_line_and_key(
    tmp_path: Path, name: str, table: Callable[[str], str]
) -> None:
    with pytest.raises(VljEdgeError) as caught:
        read(tmp_path, f"# one\n{table(name)}")
    line = str(caught.value)
    assert "home.toml, line 4: " in line and "name" in line and "\n" not in line and "secret" not in line


@given(texts)
def test_whatever_is_taken_stands_in_every_address(name: str) -> None:
    if problem_of_name(name) is None:
        assert_stands_everywhere(name)


def assert_stands_everywhere(name: str) -> None:
    """As encodeURIComponent() writes it, also where a proxy tidies the path; in topics, JSON and headers."""
    address = f"/api/sources/{quote(name, safe='')}/picture.jpg"
    assert unquote(address.split("/")[3]) == name == json.loads(json.dumps(name))
    tidied = posixpath.normpath(unquote(address).replace("\\", "/"))
    assert [step for step in tidied.split("/") if step] == [
        step for step in unquote(address).replace("\\", "/").split("/") if step
    ]
    assert re.fullmatch(r"[a-z0-9-]{1,100}", _slug(name))
    assert SourceSettings(name, "0").name == name
    _header(name).encode("ascii")


@pytest.mark.parametrize("name", ["a/../b", "bell\x07", "x" * 300, "a\nb"])
def test_a_name_on_the_command_line_is_refused_too(name: str) -> None:
    with pytest.raises(WrongCall, match="NAME=SOURCE") as caught:
        parse_sources((f"{name}=rtsp://door/1",), None, PartOptions())
    assert "\n" not in str(caught.value)


def test_an_address_without_a_name_may_be_long() -> None:
    [settings] = parse_sources((f"rtsp://door/{'x' * 2000}",), None, PartOptions())
    assert len(_slug(settings.name)) <= 100 and _slug(settings.name) != _slug(settings.name + "y")
