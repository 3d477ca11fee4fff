from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from gensoup.runtime.scene_cut import CUT_DISTANCE, SIDE, SceneCut, cut_distance, structure_distance, thumbnail
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope

SEEDS = range(4)


@pytest.fixture(scope="module")
def scenes() -> list[SyntheticEndoscope]:
    return [SyntheticEndoscope(seed, LABELS[seed % len(LABELS)], 120, 160) for seed in SEEDS]


@pytest.mark.parametrize("rate", [60.0, 15.0, 4.0])
def test_motion_of_the_camera_is_no_cut(scenes: list[SyntheticEndoscope], rate: float) -> None:
    for scene in scenes:
        cut = SceneCut()
        assert not any(cut(scene.frame(number / rate), number / rate) for number in range(25))


def test_another_scene_is_a_cut(scenes: list[SyntheticEndoscope]) -> None:
    for one in scenes:
        for other in scenes:
            cut = SceneCut()
            told = [cut(one.frame(0.2), 0.0), cut(one.frame(0.25), 0.05), cut(other.frame(3.0), 0.1)]
            assert told == [False, False, one is not other]


@pytest.mark.parametrize("gain", [0.4, 0.7, 1.2])
def test_a_change_of_exposure_is_no_cut(scenes: list[SyntheticEndoscope], gain: float) -> None:
    frame = scenes[0].frame(0.0)
    cut = SceneCut()
    cut(frame, 0.0)
    assert not cut(np.clip(frame * gain, 0, 255).astype(np.uint8), 0.02)


def test_a_fast_pan_is_no_cut_where_the_pictures_alone_would_say_so(scenes: list[SyntheticEndoscope]) -> None:
    found = []
    for scene in scenes:
        texture = cv2.resize(scene.frame(0.0), (640, 480))
        texture = cv2.add(
            texture, cv2.resize(np.random.default_rng(3).integers(0, 90, (30, 40, 3), np.uint8), (640, 480))
        )
        one, other = thumbnail(texture[60:420, 60:540]), thumbnail(texture[60:420, 90:570])
        found.append((structure_distance(one, other), cut_distance(one, other)))
    assert min(plain for plain, _ in found) >= CUT_DISTANCE
    assert max(panned for _, panned in found) < CUT_DISTANCE


def test_black_and_plain_pictures(scenes: list[SyntheticEndoscope]) -> None:
    rng = np.random.default_rng(0)
    black = [rng.integers(0, 4, (120, 160, 3)).astype(np.uint8) for _ in range(4)]
    frame = scenes[0].frame(0.0)
    cut = SceneCut()
    told = [cut(picture, at) for at, picture in enumerate([*black, np.zeros_like(black[0]), frame, frame, black[1]])]
    assert told == [False] * 5 + [True, False, True]
    assert np.isfinite(cut_distance(thumbnail(black[0]), thumbnail(np.full((50, 50, 3), 255, np.uint8))))


def test_right_after_a_cut_only_a_clear_one_counts(scenes: list[SyntheticEndoscope]) -> None:
    frames = [scene.frame(0.0) for scene in scenes]
    distances = [[cut_distance(thumbnail(a), thumbnail(b)) for b in frames] for a in frames]
    near = np.argmin([[value if value >= CUT_DISTANCE else 9 for value in row] for row in distances])
    one, other = frames[near // len(frames)], frames[near % len(frames)]
    black = np.zeros_like(one)
    cut = SceneCut()
    assert [cut(black, 0.0), cut(one, 0.1), cut(other, 0.2), cut(one, 0.5), cut(black, 0.52)] == [
        False,
        True,
        False,  # the like scene, so soon
        True,
        True,  # black is clear
    ]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (480, 640), (1080, 1920)])
def test_frames_of_any_size_give_a_thumbnail(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), (10, 20, 30), np.uint8)
    small = thumbnail(frame)
    assert small.shape == (SIDE, SIDE, 3) and small.dtype == np.float32
    assert (small == (10, 20, 30)).all()


def test_it_takes_tenths_of_a_millisecond() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (1080, 1920, 3), np.uint8) for _ in range(2)]
    cut = SceneCut()
    took = []
    for number in range(30):
        started = time.perf_counter()
        cut(frames[number % 2], number)
        took.append(time.perf_counter() - started)
    assert min(took) < 1e-3  # some .1 ms here; the bound is for busy machines
