"""Parsing into dataclasses: valid values are converted, invalid ones are refused with their path."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.schema import Count, Positive, Range, SchemaError, parse


@dataclass(frozen=True)
class Camera:
    uri: str
    port: Annotated[int, Range(1, 65535)] = 554
    labels: tuple[str, ...] = ()
    mode: Literal["live", "file"] = "live"
    rate: Positive | None = None
    size: tuple[Count, Count] = (640, 480)
    mirrored: bool = False
    extra: Any = None


@dataclass(frozen=True)
class House:
    cameras: dict[str, Camera] = field(default_factory=dict)


def test_what_fits_is_returned_typed() -> None:
    raw = {"cameras": {"door": {"uri": "rtsp://door", "rate": 5, "labels": ["open", "shut"], "size": [8, 6]}}}
    camera = parse(House, raw).cameras["door"]
    assert camera == Camera("rtsp://door", labels=("open", "shut"), rate=5.0, size=(8, 6))
    assert type(camera.rate) is float
    assert parse(dict[str, Camera], raw["cameras"]) == {"door": camera}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"port": "80"}, ("port",)),
        ({"port": True}, ("port",)),
        ({"port": 80.0}, ("port",)),
        ({"port": 0}, ("port",)),
        ({"port": 65536}, ("port",)),
        ({"port": None}, ("port",)),
        ({"rate": 0}, ("rate",)),
        ({"rate": float("nan")}, ("rate",)),
        ({"rate": float("inf")}, ("rate",)),
        ({"rate": 10**400}, ("rate",)),
        ({"labels": "open"}, ("labels",)),
        ({"labels": ["open", 3]}, ("labels", 1)),
        ({"size": [640]}, ("size",)),
        ({"size": [640, 0]}, ("size", 1)),
        ({"mode": "both"}, ("mode",)),
        ({"mirrored": 1}, ("mirrored",)),
        ({"url": "x"}, ("url",)),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_its_place(raw: dict[str, Any], path: tuple[str | int, ...]) -> None:
    with pytest.raises(SchemaError) as caught:
        parse(House, {"cameras": {"door": {"uri": "rtsp://door"} | raw}})
    assert caught.value.path == ("cameras", "door", *path)
    assert str(caught.value).startswith("cameras.door." + str(path[0]))


@pytest.mark.parametrize("number", [10**400, 1 << 20_000], ids=["no float", "no text"])  # Python writes 4300 digits
def test_a_whole_number_of_any_length_is_refused_wherever_it_is(number: int) -> None:
    for name, raw in (("port", number), ("rate", -number), ("size[1]", [640, number]), ("size", number),
                      ("labels", {"x": number}), ("mode", number), ("mirrored", number)):  # fmt: skip
        with pytest.raises(SchemaError, match=f"^{re.escape(name)} ") as refused:
            parse(Camera, {"uri": "x", name.partition("[")[0]: raw})
        assert len(str(refused.value)) < 200


def test_a_missing_field_is_named() -> None:
    with pytest.raises(SchemaError, match="uri") as caught:
        parse(Camera, {"port": 80})
    assert caught.value.path == ()


@pytest.mark.parametrize("raw", [None, 3, "x", [], [["uri", "x"]]], ids=str)
def test_what_is_no_table_is_refused(raw: object) -> None:
    with pytest.raises(SchemaError):
        parse(Camera, raw)


def test_fields_of_no_interest_are_skipped_on_request() -> None:
    assert parse(Camera, {"uri": "x", "colour": "red"}, ignore_unknown=True) == Camera("x")


@given(
    st.builds(
        Camera,
        st.text(),
        st.integers(1, 65535),
        st.lists(st.text()).map(tuple),
        st.sampled_from(["live", "file"]),
        st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
        st.tuples(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1)),
        st.booleans(),
    )
)
def test_every_dataclass_is_read_back(camera: Camera) -> None:
    assert parse(Camera, asdict(camera)) == camera
