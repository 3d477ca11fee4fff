"""The page in a real browser, Chromium without a window, fed by a thread that plays the stream."""

from __future__ import annotations

import colorsys
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from gensoup.runtime import Prediction, Result
from gensoup.runtime.overlay import STATE_COLORS
from gensoup.runtime.view import About, View, parse_address

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Feeder = Any
Opened = Callable[..., "Page"]

# What a point of the picture shows, as [red, green, blue].
POINT = (
    "(id) => { const c = document.getElementById(id); return [...c.getContext('2d').getImageData(5, 5, 1, 1).data]; }"
)
# Pixels of a chart that are not the colour behind it.
INK = """(id) => {
  const c = document.getElementById(id), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"""
# Keeps when the page turned to each state.
WATCH = """() => {
  window.turned = {};
  const note = () => { window.turned[document.body.dataset.state] ??= Date.now(); };
  new MutationObserver(note).observe(document.body, { attributes: true, attributeFilter: ["data-state"] });
}"""
# WCAG 2's contrast of every visible text against what lies behind it, at least; 99 where nothing is solid.
CONTRAST = """() => {
  const parts = (css) => css.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  const light = (c) => .2126 * linear(c[0] / 255) + .7152 * linear(c[1] / 255) + .0722 * linear(c[2] / 255);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > .8) return c; } return [0, 0, 0]; };
  let worst = [99, ""];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.checkVisibility() || e.closest(".hidden, noscript")) continue;
    const a = light(parts(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, e.outerHTML];
  }
  return worst;
}"""


@pytest.fixture
def opened(browser: Browser, view: View) -> Iterator[Opened]:
    """Opens the page: (width=1280, height=800) → page. What its console complained of fails the test at the end."""
    complaints: list[str] = []
    pages: list[Page] = []

    def open_page(width: int = 1280, height: int = 800) -> Page:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(20_000)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(view.url)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def wait_for(page: Page, state: str) -> None:
    page.wait_for_function("(state) => document.body.dataset.state === state", arg=state)


def quickest(page: Page, stop: Callable[[], object], state: str, mend: Callable[[], object]) -> float:
    """Seconds from ``stop()`` until the page is in ``state``, by its own clock; the best of three on a busy machine."""
    page.evaluate(WATCH)
    best = 99.0
    for _ in range(3):
        wait_for(page, "OK")
        page.evaluate("() => { window.turned = {}; }")
        began = time.time()
        stop()
        wait_for(page, state)
        best = min(best, page.evaluate("(state) => window.turned[state]", state) / 1e3 - began)
        if best < 1:
            break
        mend()
    return best


def shares(page: Page) -> list[str]:
    return page.locator("#classes li > :last-child").all_inner_texts()


def test_the_page_shows_label_probabilities_picture_and_charts(opened: Opened, feeder: Feeder) -> None:
    page = opened()
    wait_for(page, "OK")
    page.wait_for_function("() => document.getElementById('label').textContent === 'normal'")
    assert shares(page) == ["80%", "10%", "10%"]
    assert page.inner_text("#bundle") == "colon.gensoup"
    assert page.inner_text("#engine") == "onnxruntime-cpu, fp32"
    assert float(page.inner_text("#p50")) == pytest.approx(5, abs=0.2)
    page.wait_for_function("() => document.getElementById('picture').dataset.frame > 0")
    _, green, blue, _ = page.evaluate(POINT, "picture")
    assert abs(green - 60) < 8 and abs(blue - 40) < 8
    first = int(page.locator("#picture").get_attribute("data-frame") or 0)
    page.wait_for_function("(n) => document.getElementById('picture').dataset.frame > n + 10", arg=first)
    drawn = page.evaluate(INK, "latency")
    feeder.winner, feeder.share, feeder.took_ms = 1, 0.5, 40
    page.wait_for_function("() => document.getElementById('label').textContent === '? uncertain'")
    wait_for(page, "LATE")
    assert shares(page) == ["25%", "50%", "25%"]
    assert page.inner_text("#caption-label") == "? uncertain"  # and no number: of what would it be?
    detail = page.inner_text("#detail")
    assert detail.startswith("this frame: polyp 50%, answered in 40") and detail.endswith("; under its threshold")
    page.wait_for_function("() => document.getElementById('spoken').textContent === 'uncertain'")
    feeder.share = 0.7
    page.wait_for_function("() => document.getElementById('label').textContent === 'polyp'")
    page.wait_for_function("() => document.getElementById('caption-label').textContent === 'polyp  70%'")
    page.wait_for_timeout(500)
    assert page.evaluate(INK, "latency") != drawn
    assert "polyp – LATE" in page.title()


def test_when_frames_stop_the_page_says_so_within_a_second(opened: Opened, feeder: Feeder) -> None:
    page = opened()
    wait_for(page, "OK")
    assert quickest(page, feeder.pause, "STALE", feeder.resume) < 1
    assert page.inner_text("#label") == "No current result"
    assert shares(page) == ["–", "–", "–"]
    assert page.locator(".veil").is_visible() and not page.locator(".caption").is_visible()
    assert page.inner_text("#alert") == "STALE: the newest result is old"
    assert "polyp" not in page.title() and "normal" not in page.title()
    feeder.resume()
    wait_for(page, "OK")
    assert not page.locator(".veil").is_visible()
    assert "no result for" in page.inner_text("#events")
    feeder.error = "the engine went away"
    wait_for(page, "FAILED")
    assert "the engine went away" in page.inner_text("#detail")
    assert page.inner_text("#label") == "No current result"


def test_when_the_server_dies_the_page_says_so_within_a_second(
    browser: Browser, view: View, feeder: Feeder, about: About
) -> None:
    """Not by ``opened``: a browser itself writes into the console when a server is away."""
    page = browser.new_page()
    page.goto(view.url)
    wait_for(page, "OK")
    swallow = "() => { window.sent ??= WebSocket.prototype.send; WebSocket.prototype.send = () => {}; }"
    again = "() => { WebSocket.prototype.send = window.sent; }"  # it is connected anew meanwhile
    took = quickest(page, lambda: page.evaluate(swallow), "DISCONNECTED", lambda: page.evaluate(again))
    assert took < 1
    assert page.inner_text("#label") == "No current result"
    assert page.inner_text("#state") == "NO CONNECTION"
    page.reload()
    wait_for(page, "OK")
    port = view.address
    view.close("unplugged")
    wait_for(page, "ENDED")
    assert "unplugged" in page.inner_text("#veil-reason")
    with View(port, about) as later:  # it comes back by itself when there is a new run
        page.wait_for_function("() => document.body.dataset.state === 'WAITING'")
        assert later.board.now().state == "WAITING"
        page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(width: int, opened: Opened, feeder: Feeder, tmp_path: Path) -> None:
    page = opened(width, 844)
    wait_for(page, "OK")
    page.wait_for_function("() => document.getElementById('picture').dataset.frame > 0")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.body.scrollWidth <= innerWidth")
    for name in ("#video", "#label", "#classes", "#probabilities", "#latency", "#state", "#window-button"):
        box = page.locator(name).bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width, name
        assert box["width"] > 40 and box["height"] > 10, name
    page.mouse.wheel(0, 400)
    assert page.locator("#state").is_visible()  # on a phone too, wherever one has scrolled to
    state = page.locator("#state").bounding_box()
    assert state is not None and state["y"] >= 0


GRADES = tuple(f"ulcerative-colitis-grade-{number}, of the whole transverse colon {number}" for number in range(23))


def test_of_many_long_labels_the_strongest_is_seen_and_they_can_be_told_apart(
    browser: Browser, about: About, make_result: Callable[..., Result]
) -> None:
    with View(parse_address("0"), replace(about, labels=GRADES, source="rtsp://cart.ward/" + "x" * 80)) as view:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(view.url)
        wait_for(page, "WAITING")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert not page.locator("#empty").is_visible()  # under the word WAITING it could not be read
        probabilities = np.full(23, 0.01, np.float32)
        probabilities[21] = 0.78
        first = "() => document.querySelector('#classes .name').title"
        deadline = time.monotonic() + 20
        while page.evaluate(first) != GRADES[21] and time.monotonic() < deadline:
            result = make_result(0, time.monotonic())
            prediction = Prediction(GRADES[21], 21, 0.78, probabilities, 1.0, 2.0)
            view.add(replace(result, prediction=prediction))
            page.wait_for_timeout(30)
        assert page.evaluate(first) == GRADES[21]
        assert page.inner_text("#order") == "23 labels, the strongest first"
        assert page.locator("#classes li").count() == 23
        ends = page.locator("#classes .name > :last-child")
        assert ends.nth(0).inner_text().endswith("colon 21") and ends.nth(0).is_visible()
        box, list_box = ends.nth(0).bounding_box(), page.locator("#classes").bounding_box()
        assert box is not None and list_box is not None
        assert list_box["y"] <= box["y"] < list_box["y"] + list_box["height"] - 10
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.close()


def test_states_look_as_in_videos(view: View) -> None:
    """The page's colours are the overlay's, lightened where its dark ground asks for it: each has its hue."""
    script, style = (httpx.get(view.url + name, trust_env=False).text for name in ("charts.js", "view.css"))
    found = re.search(r"STATE_COLORS = \{ (.*?) \}", script)
    assert found is not None
    colors = dict(re.findall(r'(\w+): "#(\w{6})"', found[1]))
    assert set(colors) == {state.value for state in STATE_COLORS}
    hues = {
        state.value: colorsys.rgb_to_hsv(*(part / 255 for part in bgr[::-1]))[0] for state, bgr in STATE_COLORS.items()
    }
    for state, color in colors.items():
        assert f'[data-state="{state}"] {{ --state: #{color}; }}' in style
        hue = colorsys.rgb_to_hsv(*(int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)))[0]
        assert min(hues, key=lambda other: min(abs(hues[other] - hue), 1 - abs(hues[other] - hue))) == state


def test_all_text_has_contrast(opened: Opened, feeder: Feeder) -> None:
    page = opened()
    for state in ("OK", "LATE", "FAILED", "STALE"):
        feeder.took_ms, feeder.error = (40 if state == "LATE" else 5), ("gone" if state == "FAILED" else "")
        if state == "STALE":
            wait_for(page, "OK")
            feeder.pause()
        wait_for(page, state)
        ratio, where = page.evaluate(CONTRAST)
        assert ratio >= 4.5, (state, where)


def test_everything_can_be_done_with_keys_and_an_unseen_video_is_not_encoded(
    opened: Opened, feeder: Feeder, view: View
) -> None:
    page = opened()
    wait_for(page, "OK")
    page.wait_for_function("() => document.getElementById('picture').dataset.frame > 0")
    page.keyboard.press("v")
    assert page.locator("#video-button").get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(300)
    encoded = view.pictures.encoded
    page.wait_for_timeout(500)
    assert view.pictures.encoded == encoded
    wait_for(page, "OK")  # only the video is off
    page.keyboard.press("v")
    page.wait_for_function("() => document.getElementById('empty').hidden")
    assert view.pictures.encoded > encoded
    page.keyboard.press("w")
    assert page.inner_text("#window") == "120 s"
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement?.id === 'video'")
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement === null")
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"video-button", "full-button", "window-button"} <= reached
