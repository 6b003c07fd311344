"""Names with characters that mean something in an address: every address of the API, and the page."""

from __future__ import annotations

import http.client
from urllib.parse import quote, urlsplit

import pytest

from tests.runtime.service.http.server import Camera, Serve
from tests.runtime.tiny_bundle import RED
from tests.waiting import wait_for
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.video.source import Source

NAMES = [
    "hall/left", "yard/left", "/lead", "trail/", "what?", "c#1", "100%", "50%2F", "front door", "Tür", "门", "a&b=c",
    "back\\slash", 'quo"te', "<b>", "x/settings", "x/picture.jpg", "semi;colon", "plus+", "it's", "..x", "a/../b", "🚪",
    "👨\u200d👩\u200d👧", "שלום", "x" * 100,
]  # fmt: skip


def test_every_address_of_every_name_leads_to_its_source(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras.update({str(number): Camera([RED], speed=1) for number in range(len(NAMES))})
    served = serve(*(SourceSettings(name, str(number)) for number, name in enumerate(NAMES)))
    wait_for(lambda: all(each.latest_image() is not None for each in served.station.channels.values()))
    with served.client() as client:
        listed = client.get("/api/state").json()["sources"]
    assert [each["name"] for each in listed] == NAMES
    for name in NAMES:
        quoted = f"/api/sources/{quote(name, safe='')}"  # as encodeURIComponent() writes it
        found = [_status(served.url, f"{quoted}/{what}") for what in ("picture.jpg", "texts.csv", "gates", "noise.png")]
        assert found == [200] * 4, name
        with served.client() as client:
            changed = client.put(f"{quoted}/settings", json={"texts_per_hour": 5})
            assert changed.status_code == 200 and changed.json()["name"] == name
    gates = [each.settings.gates for each in served.station.channels.values()]
    assert [each.budget.texts_per_hour for each in gates if each is not None] == [5] * len(NAMES)


def _status(url: str, path: str) -> int:
    """The answer to a path that no client has rewritten."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("uri", ["line\nfeed.mp4", ".", "..", "bell\x07.mp4"])
def test_a_source_that_nobody_named_has_a_name_that_addresses_can_have(
    serve: Serve, cameras: dict[str, Source], uri: str
) -> None:
    cameras[uri] = Camera([RED])
    served = serve(SourceSettings(uri, uri))
    [channel] = served.station.channels.values()
    wait_for(lambda: channel.latest_image() is not None)
    with served.client() as client:
        [listed] = client.get("/api/state").json()["sources"]
    assert _status(served.url, f"/api/sources/{quote(listed['name'], safe='')}/picture.jpg") == 200
