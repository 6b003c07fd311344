"""The live page in a real browser: video, narrations, settings, uploads, search, and a phone's screen."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from tests.runtime.colours import NO_MEMORY
from tests.runtime.service.http.server import Camera, Serve
from tests.runtime.sinks.events import Refuses
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.runtime.words.endpoints import Answer, completion, endpoint
from tests.waiting import free_port, wait_for
from vlj_edge.bundle import GateSettings, MeaningGateSettings
from vlj_edge.results import Narration
from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.alerts.settings import Alert
from vlj_edge.runtime.library import Store, index, local_encoder
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.http.app import Broadcaster
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.sinks.alert_event import AlertEvent
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.words.settings import WordsSettings

pytestmark = pytest.mark.slow

Film = Callable[..., Path]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
IMAGES = Path(__file__).parents[4] / "docs" / "images"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 120_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose console must stay empty: no error, and no breach of its content security policy."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    made, complaints = context.new_page(), list[str]()
    made.set_default_timeout(PATIENCE)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    made.on("console", heard)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.add_init_script("document.addEventListener('securitypolicyviolation', e => console.error(e.blockedURI))")
    yield made
    context.close()
    assert complaints == []


def moves(page: Page) -> bool:
    picture = page.locator("#video")
    first = picture.screenshot()
    return picture.screenshot() != first


def test_video_and_narrations_go_on_without_a_reload(serve: Serve, page: Page) -> None:
    served = serve()
    page.goto(served.url)
    wait_for(lambda: page.evaluate("document.getElementById('video').naturalWidth > 0"))
    wait_for(lambda: moves(page))
    lines = page.locator("#narrations li")
    expect(lines.first).to_be_visible(timeout=PATIENCE)
    page.evaluate("window.untouched = true")
    before = lines.count()
    wait_for(lambda: page.evaluate(f"document.querySelectorAll('#narrations li').length > {before}"))
    assert page.evaluate("window.untouched")
    expect(page.locator("#state")).to_contain_text("live, query: describe", timeout=PATIENCE)
    page.wait_for_selector("#similarity .similarity", state="attached")
    page.wait_for_selector("#similarity .threshold", state="attached")
    page.wait_for_selector("#similarity .narration", state="attached")
    expect(page.locator("#facts")).to_contain_text("encoder runs per minute")
    expect(page.locator("#library")).to_be_hidden()
    expect(page.locator("#save")).to_be_hidden()
    if os.environ.get("VLJ_EDGE_SCREENSHOTS") == "1":
        wait_for(lambda: page.evaluate("document.querySelectorAll('#similarity .narration').length > 4"))
        wait_for(lambda: page.evaluate("source(chosen).samples.length > 2"))
        picture_of(page, "serve-desktop.png")


def test_what_the_gates_decided_is_shown_for_the_last_minute(serve: Serve, page: Page) -> None:
    served = serve()
    page.goto(served.url)
    rows = page.locator("#decisions tr")
    expect(page.locator("#decisions tr.said").first).to_be_visible(timeout=PATIENCE)
    page.wait_for_selector("#strip .encoded", state="attached")
    page.wait_for_selector("#strip .narration", state="attached")
    before = rows.first.locator("td").first.text_content()
    wait_for(lambda: rows.first.locator("td").first.text_content() != before)
    wait_for(lambda: page.evaluate("document.getElementById('noise').naturalWidth === 128"))
    with served.client() as client:
        found = client.get("/api/sources/cam/gates").json()
    shown = page.locator("#thresholds li").all_text_contents()
    assert len(shown) == len(found["thresholds"]) and shown[0].startswith(found["thresholds"][0]["name"])
    expect(page.locator("#learned")).to_contain_text("camera shakes")
    said = next(text for text in reversed(found["texts"]) if text["told"])
    expect(page.locator("#decisions")).to_contain_text(said["text"], timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(serve: Serve, cameras: dict[str, Source], page: Page, scheme: Any) -> None:
    names = ["cam", "a-name-that-is-far-too-long-for-the-screen-of-a-phone-and-has-no-space.mp4", "door"]
    cameras.update({name: Camera() for name in names})
    served = serve(*(SourceSettings(name, name) for name in names))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(served.url)
    expect(page.locator("#sources button")).to_have_count(3, timeout=PATIENCE)
    expect(page.locator("#narrations li").first).to_be_visible(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    if os.environ.get("VLJ_EDGE_SCREENSHOTS") == "1" and scheme == "dark":
        wait_for(lambda: page.evaluate("document.querySelectorAll('#similarity .narration').length > 3"))
        picture_of(page, "serve-phone.png")


def test_each_source_has_its_own_narrations(serve: Serve, cameras: dict[str, Source], page: Page) -> None:
    cameras.update({"red": Camera([RED]), "blue": Camera([BLUE])})
    served = serve(SourceSettings("red", "red"), SourceSettings("blue", "blue"))
    page.goto(served.url)
    expect(page.locator("#now")).to_have_text("a red screen", timeout=PATIENCE)
    page.get_by_role("button", name="blue").click()
    expect(page.locator("#now")).to_have_text("blue", timeout=PATIENCE)
    expect(page.locator("#narrations li")).to_have_count(1)
    assert page.get_by_role("button", name="blue").get_attribute("aria-pressed") == "true"
    assert "/api/sources/blue/video.mjpg" in (page.locator("#video").get_attribute("src") or "")


def test_calls_for_words_and_what_is_left_of_their_limits_are_shown(
    serve: Serve, cameras: dict[str, Source], page: Page
) -> None:
    cameras.update({"hall": Camera([RED, BLUE]), "plain": Camera([RED])})
    with endpoint(lambda request: Answer(completion("a cat", {"total_tokens": 40}))) as server:
        words = WordsSettings(server.url, "tiny", calls_per_hour=6, tokens_per_day=5000)
        served = serve(SourceSettings("hall", "hall", gates=NO_MEMORY, words=words), SourceSettings("plain", "plain"))
        page.goto(served.url)
        facts, calls = page.locator("#facts"), page.locator("#settings input[name=calls_per_hour]")
        expect(facts).to_contain_text(f"1 to tiny at http://127.0.0.1:{server.server_port}", timeout=PATIENCE)
        expect(facts).to_contain_text("0, 6 an hour", timeout=PATIENCE)
        expect(facts).to_contain_text("4960 of 5000", timeout=PATIENCE)
        wait_for(lambda: "changes without a call0" not in (facts.text_content() or ""))
        expect(calls).to_have_value("6", timeout=PATIENCE)
        calls.fill("3600")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#settings-message")).to_have_text("applied", timeout=PATIENCE)
        expect(facts).to_contain_text("3600 an hour", timeout=PATIENCE)
        wait_for(lambda: len(server.got) >= 2)
        page.get_by_role("button", name="plain").click()
        expect(facts).not_to_contain_text("calls for words", timeout=PATIENCE)
        expect(calls).to_be_hidden(timeout=PATIENCE)


def test_four_cameras_of_which_one_dies_and_comes_back(serve: Serve, cameras: dict[str, Source], page: Page) -> None:
    colours = {"hall": [RED], "door": [BLUE], "yard": [GREEN], "shed": [RED, BLUE]}
    cameras.update({name: Camera(colour) for name, colour in colours.items()})
    served = serve(*(SourceSettings(name, name) for name in colours))
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(served.url)
    cards = page.locator("#sources button")
    expect(cards).to_have_count(4, timeout=PATIENCE)
    hall, door, yard = (cards.nth(number) for number in range(3))
    for card, words in ((hall, "a red screen"), (door, "blue"), (yard, "green light glows")):
        expect(card.locator(".words")).to_have_text(words, timeout=PATIENCE)
        expect(card.locator(".dot")).to_have_text("live", timeout=PATIENCE)
        wait_for(lambda card=card: card.locator("img").evaluate("image => image.naturalWidth > 0"))
    wait_for(lambda: page.locator("#timeline li img").count() > 0)
    expect(page.locator("#timeline")).to_contain_text("shed")
    camera = cameras["yard"]
    assert isinstance(camera, Camera)
    camera.set_state("reconnecting")
    camera.hold()
    expect(yard.locator(".dot")).to_have_text("reconnecting", timeout=PATIENCE)
    expect(door.locator(".dot")).to_have_text("live")
    camera.go_on()
    expect(yard.locator(".dot")).to_have_text("live", timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("button", name="door").click()
    with page.expect_download() as saved:
        page.locator("#export a", has_text="SRT").click()
    assert "blue" in saved.value.path().read_text()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[AlertJournal]:
    made = AlertJournal(tmp_path / "alerts")
    yield made
    made.close()


@contextmanager
def network_camera(port: int) -> Iterator[None]:
    """A camera in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "tests.soak.camera", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=Path(__file__).parents[4], stdout=quiet, stderr=quiet)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listens)
        yield
    finally:
        process.kill()
        process.wait()


def test_alerts_of_four_sources_of_which_one_really_dies_and_comes_back(
    journal: AlertJournal, serve: Serve, cameras: dict[str, Source], page: Page
) -> None:
    port = free_port()
    cameras.update({"hall": Camera([RED]), "door": Camera([RED, GREEN]), "shed": Camera([BLUE])})
    light = Alert("green light", ("green",), ("red", "blue"), rule=Rule(0.6, 0.4, 0.0, 0.0), keep=1.0)
    yard = SourceSettings("yard", f"http://127.0.0.1:{port}/video.mjpg")
    with network_camera(port):
        names = ("hall", "door", "shed")
        served = serve(*(SourceSettings(name, name) for name in names), yard, alerts=[light], journal=journal)
        page.goto(served.url)
        state = page.locator("#sources button").nth(3).locator(".dot")
        expect(state).to_have_text("live", timeout=PATIENCE)
        rows = page.locator("#alerts tbody tr")
        expect(rows).to_have_count(4, timeout=PATIENCE)
        expect(rows.filter(has_text="hall")).to_contain_text("never")
        expect(page.locator("#timeline .alert").first).to_contain_text("green light", timeout=PATIENCE)
        expect(page.locator("#alarm")).to_contain_text("green light", timeout=PATIENCE)
        page.get_by_label("Sound").check()
        expect(rows.filter(has_text="door")).to_contain_text("of 0.60", timeout=PATIENCE)
    expect(state).not_to_have_text("live", timeout=PATIENCE)
    clip = page.locator("#timeline .alert", has_text="door").locator("video").last
    expect(clip).to_be_visible(timeout=PATIENCE)
    clip.evaluate("video => { video.muted = true; video.play(); }")
    wait_for(lambda: clip.evaluate("video => video.currentTime > 0 && video.videoWidth === 80"))
    with network_camera(port):
        expect(state).to_have_text("live", timeout=PATIENCE)
        page.reload()
        expect(page.locator("#timeline .alert video").first).to_be_visible(timeout=PATIENCE)
        wait_for(lambda: page.locator("#timeline img").count() > 0)
        wait_for(lambda: page.locator("#timeline img").first.evaluate("image => image.naturalWidth > 0"))
        assert page.evaluate("document.documentElement.scrollWidth") <= DESKTOP["width"]
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_alerts_that_wait_for_a_key_are_shown_on_the_page(serve: Serve, page: Page) -> None:
    served = serve(sinks=[SinkQueue("webhook", Refuses(), retry=True)])
    served.station.sinks[0].put(AlertEvent("door", "cam", "start", "e" * 32, 5.0, 1.0, 0.9))
    page.goto(served.url)
    expect(page.locator("#refused")).to_contain_text("webhook: 1, HTTP 401", timeout=PATIENCE)


def test_another_query_changes_the_texts_and_is_saved(serve: Serve, cameras: dict[str, Source], page: Page) -> None:
    cameras["cam"] = Camera([RED])
    saved: list[list[SourceSettings]] = []
    silent = GateSettings(meaning=MeaningGateSettings(speak_below=-1, speak_below_at_rest=-1))
    served = serve(
        SourceSettings("cam", "cam", gates=silent), save=lambda sources: (saved.append(sources), "kitchen.toml")[1]
    )
    page.goto(served.url)
    lines = page.locator("#narrations li")
    expect(lines).to_have_count(1, timeout=PATIENCE)
    page.get_by_label("Query").fill("what colour is it")
    page.get_by_label("Minimum between texts, s").fill("0.25")
    page.get_by_label("Texts per hour at most (0: any)").fill("600")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#settings-message")).to_have_text("applied", timeout=PATIENCE)
    expect(lines).to_have_count(2, timeout=PATIENCE)
    expect(page.locator("#state")).to_contain_text("what colour is it", timeout=PATIENCE)
    expect(page.locator("#facts")).to_contain_text("changes left out", timeout=PATIENCE)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#settings-message")).to_have_text("saved in kitchen.toml", timeout=PATIENCE)
    kept = saved[0][0]
    assert kept.query == "what colour is it" and kept.gates is not None and kept.gates.meaning.least_hold == 0.25
    assert kept.gates.budget.texts_per_hour == 600


def test_a_clip_is_classified_and_asked(serve: Serve, make_video: Film, page: Page) -> None:
    served, clip = serve(), make_video([(GREEN, 3)])
    page.goto(served.url)
    page.get_by_label("Video file").set_input_files(clip)
    page.get_by_label("Labels, separated by commas").fill("red, green")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#clip-message")).to_have_text("green", timeout=PATIENCE)
    expect(page.locator("#clip-results li")).to_have_count(2)
    page.get_by_label("Action").select_option("ask")
    page.get_by_label("Question").fill("what colour is it")
    page.get_by_label("Choices, separated by commas").fill("green, blue")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#clip-results li")).to_contain_text(["green", "blue"], timeout=PATIENCE)


def test_the_library_is_searched(serve: Serve, model: Model, make_video: Film, page: Page, tmp_path: Path) -> None:
    uri, film = str(tmp_path / "store"), make_video([(BLUE, 4)], name="<img src=x>.avi")
    with Store(uri, model.manifest, write=True) as writing:
        list(index(writing, local_encoder(model, "describe"), [film]))
    served = serve(store=Store(uri, model.manifest))
    page.goto(served.url)
    page.get_by_label("Description").fill("blue")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#search-results li")).to_contain_text("<img src=x>.avi", timeout=PATIENCE)
    expect(page.locator("#search-results img")).to_have_js_property("naturalWidth", 64)


def test_a_lost_connection_is_shown_and_comes_back(serve: Serve, browser: Browser) -> None:
    first = serve()
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(first.url)
        expect(page.locator("#narrations li").first).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#lost")).to_be_hidden()
        first.stop()
        expect(page.locator("#lost")).to_be_visible(timeout=PATIENCE)
        serve(port=first.port)
        expect(page.locator("#lost")).to_be_hidden(timeout=PATIENCE)
        wait_for(lambda: moves(page))


def test_a_narration_is_never_taken_for_markup(serve: Serve, page: Page) -> None:
    served = serve()
    page.goto(served.url)
    expect(page.locator("#narrations li").first).to_be_visible(timeout=PATIENCE)
    event = served.station.channels["cam"].last_event
    assert event is not None and isinstance(served.broadcaster, Broadcaster)
    object.__setattr__(event.narration, "text", "<b id=bad onclick=alert(1)>bold</b>\n\nevent: state\ndata: {}")
    object.__setattr__(event, "number", 99)
    served.broadcaster.publish_event(event)
    expect(page.locator("#narrations li").filter(has_text="<b id=bad")).to_have_count(1, timeout=PATIENCE)
    assert page.locator("#bad").count() == 0


def test_what_stands_in_stays_until_its_own_answer(serve: Serve, page: Page) -> None:
    served = serve()
    page.goto(served.url)
    expect(page.locator("#narrations li").first).to_be_visible(timeout=PATIENCE)
    served.station.stop()  # nothing more comes of the camera
    texts = [(1, "near", True), (2, "nearer", True), (1, "a cat", False), (2, "a dog", False)]
    for number, (begins, text, stands_in) in enumerate(texts, 1000):
        narration = Narration(1e6 + begins, 1e6 + begins + 2, text, "words", stand_in=stands_in)
        served.broadcaster.publish_event(Event("cam", narration, 2e9 + number, number))
        expect(page.locator("#narrations li").first).to_contain_text(text, timeout=PATIENCE)
        expect(page.locator("#now")).to_have_text("nearer" if text == "a cat" else text, timeout=PATIENCE)


def test_the_link_with_the_token_opens_it(serve: Serve, page: Page) -> None:
    served = serve(token="right")
    page.goto(f"{served.url}/?token=right")
    assert page.url == f"{served.url}/"
    expect(page.locator("#narrations li").first).to_be_visible(timeout=PATIENCE)
    wait_for(lambda: moves(page))


def picture_of(page: Page, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / name).write_bytes(page.screenshot(full_page=True))


@pytest.mark.parametrize("own", [["Opening something", "Waving"], []])
def test_the_page_offers_what_the_model_can_be_asked(serve: Serve, page: Page, own: list[str]) -> None:
    served = serve()

    def another_model(route: Route) -> None:
        answer = route.fetch()
        state = answer.json() | {"store": True}
        state["model"] = {"takes_query": False, "takes_labels": False, "own_labels": own}
        route.fulfill(response=answer, json=state)

    page.goto(served.url)
    expect(page.locator("#settings [name=query]")).to_be_visible()
    expect(page.locator("#settings [name=labels]")).to_be_visible()
    page.route("**/api/state", another_model)
    page.reload()
    for hidden in ("#settings [name=query]", "#library", *(() if own else ("#settings [name=labels]", "#clip"))):
        expect(page.locator(hidden)).to_be_hidden()
    if own:
        labels = page.locator("#clip [name=labels]")
        expect(labels).to_have_attribute("placeholder", re.compile("Opening something"))
        assert not labels.evaluate("field => field.required"), "left empty, all of its own are ranked"
        page.locator("#clip [name=what]").select_option("ask")
        assert labels.evaluate("field => field.required")
