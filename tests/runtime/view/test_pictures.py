from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from gensoup.runtime import Result
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.view.pictures import HEIGHT, WIDTH, Picture, Pictures

Make = Callable[..., Result]


@pytest.fixture
def pictures() -> Iterator[Pictures]:
    pictures = Pictures(rate_hz=10)
    yield pictures
    pictures.close()


class Viewer:
    """Waits for a picture."""

    def __init__(self) -> None:
        self.got: list[Picture] = []
        self._came = threading.Event()

    def take(self, picture: Picture) -> None:
        self.got.append(picture)
        self._came.set()

    def wait(self) -> Picture:
        assert self._came.wait(10)
        return self.got[-1]


def play(pictures: Pictures, make_result: Make, numbers: range, size: tuple[int, int] = (120, 160)) -> None:
    for number in numbers:
        pictures.expect(number, np.full((*size, 3), number % 200, np.uint8))
        pictures.add(make_result(number, time.monotonic()))


def test_nothing_is_kept_or_encoded_while_nobody_watches(pictures: Pictures, make_result: Make) -> None:
    play(pictures, make_result, range(50))
    time.sleep(0.05)
    assert pictures.encoded == 0 and not pictures._expected
    viewer = Viewer()
    pictures.withdraw(pictures.ask(viewer.take))
    play(pictures, make_result, range(50, 100))
    time.sleep(0.05)
    assert pictures.encoded == 0 and viewer.got == []


def test_a_picture_is_the_frame_of_its_result(pictures: Pictures, make_result: Make) -> None:
    viewer = Viewer()
    pictures.ask(viewer.take)
    play(pictures, make_result, range(100, 101))
    picture = viewer.wait()
    shown = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.frame_id == 100 and shown is not None
    assert shown.shape == (120, 160, 3)
    assert abs(float(shown.mean()) - 100) < 2


def test_many_viewers_share_one_picture_and_the_rate_holds(pictures: Pictures, make_result: Make) -> None:
    viewers = [Viewer() for _ in range(5)]
    for viewer in viewers:
        pictures.ask(viewer.take)
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 0.55:
        play(pictures, make_result, range(number, number + 1))
        number += 1
        for viewer in viewers:
            if viewer.got and len(pictures._waiting) < len(viewers):
                pictures.ask(viewer.take)
        time.sleep(0.002)
    assert 2 <= pictures.encoded <= 6
    assert all(viewer.got for viewer in viewers)


@pytest.mark.parametrize("size", [(2160, 3840), (1080, 1080), (480, 720), (4, 4000)])
def test_pictures_are_small(size: tuple[int, int], pictures: Pictures, make_result: Make) -> None:
    viewer = Viewer()
    pictures.ask(viewer.take)
    play(pictures, make_result, range(1), size)
    shown = cv2.imdecode(np.frombuffer(viewer.wait().jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    height, width = shown.shape[:2]
    assert height <= HEIGHT and width <= WIDTH
    if size[0] > 4:
        assert width / height == pytest.approx(size[1] / size[0], rel=0.01)


def test_a_classifier_that_hangs_fills_no_memory_and_dropped_frames_are_let_go(
    pictures: Pictures, make_result: Make
) -> None:
    pictures.ask(Viewer().take)
    for number in range(100):
        pictures.expect(number, np.zeros((8, 8, 3), np.uint8))
    assert len(pictures._expected) <= 3
    pictures.add(make_result(99, time.monotonic()))
    assert not pictures._expected


def test_saliency_is_drawn_where_a_result_has_it(make_result: Make) -> None:
    pictures = Pictures(Preprocess(32))
    try:
        viewer = Viewer()
        result = make_result(0, time.monotonic())
        assert result.prediction is not None
        saliency = np.zeros((8, 8), np.float32)
        saliency[:, 4:] = 1
        result = replace(result, prediction=replace(result.prediction, saliency=saliency))
        pictures.ask(viewer.take)
        pictures.expect(0, np.full((120, 160, 3), 60, np.uint8))
        pictures.add(result)
        shown = cv2.imdecode(np.frombuffer(viewer.wait().jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None
        assert abs(float(shown[:, :60].mean()) - 60) < 5
        assert abs(float(shown[:, 100:].mean()) - 60) > 20
    finally:
        pictures.close()


def test_a_frame_that_cannot_be_shown_is_left_out_and_told_once(make_result: Make) -> None:
    told: list[str] = []
    failed = threading.Event()

    def tell(reason: str) -> None:
        told.append(reason)
        failed.set()

    pictures = Pictures(rate_hz=1000, on_failure=tell)
    viewer = Viewer()
    pictures.ask(viewer.take)
    pictures.expect(0, np.zeros((0, 7, 3), np.uint8))
    pictures.add(make_result(0, time.monotonic()))
    assert failed.wait(10)
    time.sleep(0.01)
    play(pictures, make_result, range(1, 2))
    assert viewer.wait().frame_id == 1
    pictures.close()
    assert len(told) == 1 and told[0].startswith("a frame cannot be shown: ")
