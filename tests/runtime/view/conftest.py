"""What tests of the live view share: results made by hand, a running view, a real browser."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gensoup.runtime import Prediction, Result, State
from gensoup.runtime.view import About, View, parse_address

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LABELS = ("normal", "polyp", "ulcer")


@pytest.fixture(scope="session")
def about() -> About:
    return About(LABELS, "colon.gensoup", "camera 0", sha256="ab" * 32, thresholds={"polyp": 0.6})


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    """Makes results: (frame_id, captured_at, took_ms=5, winner=0, error="", state=None, drops=0, engine=…) → Result."""

    def make(
        frame_id: int,
        captured_at: float,
        took_ms: float = 5.0,
        winner: int = 0,
        error: str = "",
        state: State | None = None,
        drops: int = 0,
        engine: str = "onnxruntime-cpu",
        share: float = 0.8,
    ) -> Result:
        probabilities = np.full(3, (1 - share) / 2, np.float32)
        probabilities[winner] = share
        prediction = None if error else Prediction(LABELS[winner], winner, share, probabilities, 1.0, 2.0)
        judged = State.FAILED if error else State.LATE if took_ms > 15.625 else State.OK
        done_at = captured_at + took_ms / 1e3
        times = (captured_at, captured_at, captured_at, done_at)
        return Result(frame_id, *times, drops, state or judged, prediction, engine, error)

    return make


class Feeder:
    """Plays the stream: frames and results at 30 Hz from a thread of its own, until told to pause.

    winner: index of the label that results name. error: makes them FAILED. took_ms: from capture to result.
    """

    def __init__(self, view: View, make_result: Callable[..., Result]) -> None:
        self.winner, self.error, self.took_ms, self.share = 0, "", 5.0, 0.8
        self.paused_at = 0.0
        self._view = view
        self._make_result = make_result
        self._running = threading.Event()
        self._running.set()
        self._over = False
        self._thread = threading.Thread(target=self._feed)
        self._thread.start()

    def pause(self) -> None:
        """The camera stops."""
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def close(self) -> None:
        self._over = True
        self._running.set()
        self._thread.join()

    def _feed(self) -> None:
        number = 0
        while True:
            self._running.wait()
            if self._over:
                return
            frame = np.full((270, 480, 3), (40, 60, number % 200), np.uint8)
            self._view.expect(number, frame)
            captured_at = time.monotonic() - self.took_ms / 1e3
            self._view.add(
                self._make_result(number, captured_at, self.took_ms, self.winner, self.error, share=self.share)
            )
            number += 1
            time.sleep(1 / 30)


@pytest.fixture
def view(about: About) -> Iterator[View]:
    """A view for this machine alone, on a free port."""
    with View(parse_address("0"), about) as view:
        yield view


@pytest.fixture
def feeder(view: View, make_result: Callable[..., Result]) -> Iterator[Feeder]:
    """Feeds ``view``."""
    feeder = Feeder(view, make_result)
    yield feeder
    feeder.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system, without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("the browser tests need chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        arguments: Any = {"executable_path": path, "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**arguments)
        yield browser
        browser.close()
