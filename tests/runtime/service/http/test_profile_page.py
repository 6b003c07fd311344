"""The profile page in a real browser: it shows the values of --json and loads nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from tests.runtime.service.http.test_page import DESKTOP, PHONE, browser
from vlj_edge.bundle import nano_bundle
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.profiling import report as views
from vlj_edge.runtime.profiling.probe import Probe
from vlj_edge.runtime.profiling.profile import Profile, profile

pytestmark = pytest.mark.slow
__all__ = ["browser"]  # a fixture
DEMO = Path(__file__).parents[4] / "examples" / "media" / "demo.mp4"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Profile, Probe, float]:
    probe = Probe()
    model = Model(nano_bundle(), probe=probe)
    found = profile(model, DEMO, probe)
    path = tmp_path_factory.mktemp("profile") / "page.html"
    threshold = model.manifest.gates.meaning.speak_below
    path.write_text(views.page(found, probe, threshold), encoding="utf-8")
    return path, found, probe, threshold


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, measured: Any, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport=DESKTOP, color_scheme=request.param)  # type: ignore[arg-type]
    made, complaints, asked = context.new_page(), list[str](), list[str]()

    def heard(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    def wanted(ask: Request) -> None:
        asked.append(ask.url)

    made.on("console", heard)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("request", wanted)
    made.goto(measured[0].as_uri())
    yield made
    context.close()
    assert complaints == [] and asked == [measured[0].as_uri()]


def test_its_table_shows_the_profile(page: Page, measured: Any) -> None:
    _, found, _, _ = measured
    rows = [row.inner_text().split("\t") for row in page.locator("#stages tr").all()[1:]]
    stages = json.loads(json.dumps(found.as_dict()))["stages"]
    assert [row[0] for row in rows] == [stage["stage"] for stage in stages]
    for row, stage in zip(rows, stages, strict=True):
        assert int(row[1]) == stage["calls"]
        names = ("min", "mean", "sd", "p50", "p90", "p95", "p99", "max")
        assert [float(cell) for cell in row[2:10]] == [round(stage[name], 3) for name in names]
    facts = dict(fact.inner_text().split("\n") for fact in page.locator("#facts > div").all())
    summary = found.as_dict()["summary"]
    assert facts["peak memory, MB"] == f"{summary['peak_megabytes']:.0f}"
    assert facts["frame age, p95 ms"] == "unknown", "of a file"
    assert facts["decoder runs per minute of video"] == f"{summary['decodes_a_minute']:.1f}"


def test_it_draws_what_was_measured(page: Page, measured: Any) -> None:
    _, found, probe, threshold = measured
    lanes = page.locator("#timeline svg > text").all_text_contents()
    for lane in ("capture", "vision_encoder", "predictor", "meaning gate", "decoder, first"):
        assert lane in lanes
    assert page.locator("#timeline rect").count() == len(views._timeline(probe.spans))
    assert page.locator("#latency circle").count() == sum(len(values) for values in views._samples(probe).values())
    assert page.locator("#cosine circle").count() == len(found.texts)
    assert f"{threshold}" in page.locator("#cosine").inner_html()
    hovered = [title.inner_html() for title in page.locator("#cosine title").all()]
    assert any(text in " ".join(hovered) for _, text in found.texts)


def test_nothing_lies_over_anything_else(page: Page) -> None:
    """Labels of the lanes, and the page on a phone: it does not scroll sideways, its drawings do."""
    boxes = [text.bounding_box() for text in page.locator("#timeline svg > text").all()]
    rows = sorted((box["y"], box["y"] + box["height"]) for box in boxes if box is not None)
    assert all(above[1] <= below[0] + 4 for above, below in pairwise(rows) if above[0] != below[0])
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
