"""Addresses with secrets from the environment or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlj_edge import VljEdgeError
from vlj_edge.variables import with_variables

SECRET = "p@ss/w?rd% [1]:#&=${x}"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOST": "cam:554", "USER_1": "me", "PW": SECRET, "DOOR": "rtsp://me:x@cam/1"}.items():
        monkeypatch.setenv(name, value)


ENCODED = "p%40ss%2Fw%3Frd%25%20%5B1%5D%3A%23%26%3D%24%7Bx%7D"


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("rtsp://${USER_1}:${PW}@${HOST}/1", f"rtsp://me:{ENCODED}@cam:554/1"),
        ("http://${HOST}/a?user=${USER_1}&pw=${PW}", f"http://cam:554/a?user=me&pw={ENCODED}"),
        ("${DOOR}", "rtsp://me:x@cam/1"),
        ("gst:rtspsrc location=rtsp://cam user-pw=${USER_1} ! a", "gst:rtspsrc location=rtsp://cam user-pw=me ! a"),
        ("films/${USER_1}.mp4", "films/${USER_1}.mp4"),
        ("rtsp://me:$PW@cam/$1/{x}", "rtsp://me:$PW@cam/$1/{x}"),
        ("rtsp://me:$${1x}@cam/", "rtsp://me:$${1x}@cam/"),
        ("0", "0"),
    ],
)
def test_what_is_inserted(address: str, found: str) -> None:
    assert with_variables(address) == found


def test_a_file_is_read_where_the_variable_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from a file\n")
    monkeypatch.setenv("DOOR_PASSWORD_FILE", str(tmp_path / "password"))
    assert with_variables("rtsp://me:${DOOR_PASSWORD}@cam/") == "rtsp://me:from%20a%20file@cam/"
    monkeypatch.setenv("DOOR_PASSWORD", "set")
    assert with_variables("rtsp://me:${DOOR_PASSWORD}@cam/") == "rtsp://me:set@cam/"
    monkeypatch.delenv("DOOR_PASSWORD")
    monkeypatch.setenv("DOOR_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(VljEdgeError, match="DOOR_PASSWORD_FILE"):
        with_variables("rtsp://me:${DOOR_PASSWORD}@cam/")


def test_what_is_not_set_is_named() -> None:
    with pytest.raises(VljEdgeError, match=r"NO_SUCH_VARIABLE is not set.*NO_SUCH_VARIABLE_FILE") as caught:
        with_variables("rtsp://me:x@cam/?a=${NO_SUCH_VARIABLE}")
    assert "me:x" not in str(caught.value)
