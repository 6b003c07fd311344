"""Addresses of network sources: their credentials."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.network.address import network_address
from vlj_edge.runtime.video.uri import open_source


@given(user=st.text(min_size=1).filter(lambda text: text.isprintable()), password=st.text())
def test_what_is_encoded_comes_back(user: str, password: str) -> None:
    secret = f"{quote(user, safe='')}:{quote(password, safe='')}"
    found = network_address(f"rtsp://{secret}@cam:554/a/b?channel=1")
    assert (found.url, found.user, found.password) == ("rtsp://cam:554/a/b?channel=1", user, password)
    assert found.with_credentials() == f"rtsp://{secret}@cam:554/a/b?channel=1"
    assert found.shown == "rtsp://***@cam:554/a/b?channel=***"


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp", "rtmp"])
@pytest.mark.parametrize("where", ["ad{}min:hunter2@", "admin:hun{}ter2@", "admin:{}hunter2@", "admin:hunter2{}@"])
@pytest.mark.parametrize("character", list('@/?#%[] ":<>\\^`{|}'))
def test_what_must_be_encoded_is_named(scheme: str, where: str, character: str) -> None:
    if character == ":" and where == "ad{}min:hunter2@":
        where = "ad{}m:in:hunter2@"
    with pytest.raises(VljEdgeError, match="percent-encoded") as caught:
        open_source(f"{scheme}://{where.format(character)}cam.invalid/x")
    assert quote(character, safe="") in str(caught.value)
    assert "hun" not in str(caught.value) and "ter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_all_characters_are_named_at_once() -> None:
    with pytest.raises(VljEdgeError) as caught:
        open_source("http://ad#min:p@ss/w?rd%@cam/x")
    assert {code for code in ("%23", "%40", "%2F", "%3F", "%25") if code in str(caught.value)} == {
        "%23",
        "%40",
        "%2F",
        "%3F",
        "%25",
    }
    assert "min" not in str(caught.value) and "ss" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "address",
    [
        "http://nas:8080/@home/film.mp4",
        "http://host/photo@2x.jpg",
        "http://host/a?mail=me@there.org/x",
        "rtsp://host/live?user=a@b",
        "rtsp://[fe80::1]:554/x",
        "rtsp://me:it's-(a)!$&*+,;=~_.password@host/x",
        "rtsp://me:pass%2Fword@host/x@y",
        "udp://@:5000",
        "udp://@239.0.0.1:5000",
    ],
)
def test_addresses_that_are_right(address: str) -> None:
    assert network_address(address).url.partition("://")[0] == address.partition("://")[0]


@pytest.mark.parametrize("address", ["http:///a.mp4", "rtsp://", "rtsp://host:port/x", "http://[::1/x"])
def test_an_address_without_host_is_one_line(address: str) -> None:
    with pytest.raises(VljEdgeError, match="names no host"):
        network_address(address)
