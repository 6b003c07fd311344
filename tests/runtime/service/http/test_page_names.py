"""Odd names of cameras and alerts on the live page, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.runtime.service.http.server import Camera, Serve
from tests.runtime.service.http.test_page import DESKTOP, PATIENCE, PHONE, browser, journal, page
from tests.runtime.tiny_bundle import GREEN, RED
from tests.waiting import wait_for
from vlj_edge.names import problem_of_name
from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.alerts.settings import Alert
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.video.source import Source

__all__ = ["browser", "journal", "page"]
pytestmark = pytest.mark.slow

CAMERAS = [
    "a \"quoted\" 'name' & <b id=bad>bold</b>",
    "hall/1st floor 100% 50%2F ?x=1#top",
    "🚪👨\u200d👩\u200d👧 door",
    "x" * 80,
    "שלום, קומה 1 (left)",
]
ALERTS = ['<img id=bad src=x onerror=alert(1)> & "it\'s" open', "🔥/smoke %41", "w" * 80, "דלת פתוחה 2!"]


def test_odd_names_are_shown_as_they_are_and_lead_to_their_pictures(
    journal: AlertJournal, serve: Serve, cameras: dict[str, Source], page: Page
) -> None:
    assert not any(map(problem_of_name, [*CAMERAS, *ALERTS]))
    cameras.update({str(number): Camera([RED, GREEN], speed=1) for number in range(len(CAMERAS))})
    rule = Rule(0.6, 0.4, 0.0, 0.0)
    alerts = [
        Alert(name, ("green",), ("red", "blue"), rule=rule, keep=1.0, cameras=(camera,))
        for name, camera in zip(ALERTS, CAMERAS, strict=False)
    ]
    settings = [SourceSettings(name, str(number)) for number, name in enumerate(CAMERAS)]
    page.goto(serve(*settings, alerts=alerts, journal=journal).url)
    buttons = page.locator("#sources button")
    expect(buttons).to_have_count(len(CAMERAS), timeout=PATIENCE)
    assert [button.locator("span").first.text_content() for button in buttons.all()] == CAMERAS
    rows = page.locator("#alerts tbody tr")
    expect(rows).to_have_count(len(ALERTS), timeout=PATIENCE)
    shown = {(row.locator(".name").text_content(), row.locator(".source").text_content()) for row in rows.all()}
    assert shown == set(zip(ALERTS, CAMERAS, strict=False))
    for number, name in enumerate(CAMERAS):
        picture = buttons.nth(number).locator("img")
        wait_for(lambda picture=picture: picture.evaluate("image => image.naturalWidth > 0"))
        buttons.nth(number).click()
        wait_for(lambda: page.evaluate("document.getElementById('video').naturalWidth > 0"))
        expect(page.locator("#now")).not_to_be_empty(timeout=PATIENCE)
        expect(page.get_by_role("button", name=name, exact=True, pressed=True)).to_have_count(1)
        links = (
            "[...document.querySelectorAll('#export a')].map(link => fetch(link.href).then(answer => answer.status))"
        )
        assert page.evaluate(f"Promise.all({links})") == [200] * 3
        page.locator("#settings [name=texts_per_hour]").fill(str(number + 1))
        page.locator("#settings button.main").click()
        expect(page.locator("#settings-message.good")).not_to_be_empty(timeout=PATIENCE)
    for name, camera in zip(ALERTS, CAMERAS, strict=False):
        event = page.locator("#timeline .alert").filter(has_text=name).filter(has_text=camera)
        expect(event.locator("video").first).to_be_attached(timeout=PATIENCE)
        clip = event.locator("video").first
        wait_for(lambda clip=clip: clip.evaluate("v => { v.muted = true; v.play(); return v.currentTime > 0; }"))
    assert page.locator("#bad").count() == 0
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        cells = page.locator("#alerts td.name, #alerts td.source")
        assert all(cell.evaluate("cell => cell.getBoundingClientRect().right <= innerWidth") for cell in cells.all())
