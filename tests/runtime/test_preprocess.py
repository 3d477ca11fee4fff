"""From any camera frame to the network's input: geometry, exactness, and refusals."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError
from gensoup.runtime.preprocess import Fit, Preprocess, Resize

FITS: tuple[Fit, ...] = ("stretch", "crop", "letterbox")
METHODS: tuple[Resize, ...] = ("fast-area", "area")


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Waves at least a quarter of the picture long."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(6 * x / width + c) + np.cos(5 * y / height - c) for c in range(3)]
    return np.round(127.5 + 60 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1080, 1920), (97, 131), (64, 64), (30, 500), (500, 30), (1, 1), (1, 900), (7, 3)])
def test_every_frame_becomes_the_networks_input(fit: Fit, method: Resize, shape: tuple[int, int]) -> None:
    frame = noise(*shape)
    before = frame.copy()
    out = Preprocess(64, fit, resize=method)(frame)
    assert out.shape == (64, 64, 3)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert not np.shares_memory(out, frame)
    assert np.array_equal(frame, before)


@pytest.mark.parametrize("fit", FITS)
def test_a_frame_of_the_right_size_passes_unchanged(fit: Fit) -> None:
    frame = noise(64, 64)
    assert np.array_equal(Preprocess(64, fit)(frame), frame)


@pytest.mark.parametrize("fit", FITS)
def test_views_give_what_their_copies_give(fit: Fit) -> None:
    whole = noise(300, 400)
    for view in (whole[10:250, 5:333], whole[::2, ::3], whole[::-1], whole[:, :, ::-1], whole.transpose(1, 0, 2)):
        assert np.array_equal(Preprocess(64, fit)(view), Preprocess(64, fit)(np.ascontiguousarray(view)))
    read_only = whole.copy()
    read_only.setflags(write=False)
    assert np.array_equal(Preprocess(64, fit)(read_only), Preprocess(64, fit)(whole))


def test_area_is_the_mean_of_whole_blocks() -> None:
    frame = noise(64 * 5, 64 * 3)
    means = frame.reshape(64, 5, 64, 3, 3).mean((1, 3))
    assert np.abs(Preprocess(64, resize="area")(frame) - means).max() <= 1


@pytest.mark.parametrize("shape", [(1080, 1920), (480, 640), (241, 333), (129, 129)])
def test_fast_area_is_close_to_area_on_a_smooth_picture(shape: tuple[int, int]) -> None:
    frame = smooth(*shape)
    fast, exact = Preprocess(64)(frame).astype(int), Preprocess(64, resize="area")(frame)
    assert np.abs(fast - exact).max() <= 2


def test_fast_area_really_averages() -> None:
    frame = noise(128, 128)
    blocks = frame.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(Preprocess(64)(frame) - blocks).max() <= 1


def test_enlarging_keeps_a_flat_colour() -> None:
    for fit in FITS:
        out = Preprocess(64, fit)(np.full((3, 3, 3), (10, 100, 200), np.uint8))
        assert np.array_equal(np.unique(out.reshape(-1, 3), axis=0), [[10, 100, 200]])


def test_crop_takes_the_middle_square() -> None:
    frame = noise(100, 160)
    assert np.array_equal(Preprocess(32, "crop")(frame), Preprocess(32)(frame[:, 30:130]))
    tall = noise(161, 100)
    assert np.array_equal(Preprocess(32, "crop")(tall), Preprocess(32)(tall[30:130]))


def test_crop_box_cuts_fractions_before_the_fit() -> None:
    frame = noise(200, 400)
    box = (0.25, 0.1, 0.75, 0.9)
    assert np.array_equal(Preprocess(32, crop_box=box)(frame), Preprocess(32)(frame[20:180, 100:300]))
    assert np.array_equal(Preprocess(32, "crop", box)(frame), Preprocess(32)(frame[20:180, 120:280]))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 1)])
def test_a_crop_box_always_keeps_a_pixel(shape: tuple[int, int]) -> None:
    for box in ((0.0, 0.0, 0.01, 0.01), (0.99, 0.99, 1.0, 1.0), (0.5, 0.5, 0.500001, 0.500001)):
        assert Preprocess(16, crop_box=box)(noise(*shape)).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"), [((100, 200), (16, 48), (0, 64)), ((200, 50), (0, 64), (24, 40))]
)
def test_letterbox_centres_the_whole_frame_on_black(
    shape: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    out = Preprocess(64, "letterbox")(np.full((*shape, 3), 200, np.uint8))
    inside = np.zeros((64, 64), bool)
    inside[slice(*rows), slice(*columns)] = True
    assert (out[inside] == 200).all()
    assert (out[~inside] == 0).all()


def test_letterbox_keeps_the_aspect_ratio() -> None:
    frame = np.zeros((300, 500, 3), np.uint8)
    cv2.circle(frame, (250, 150), 100, (255, 255, 255), -1)
    y, x = np.nonzero(Preprocess(100, "letterbox")(frame)[..., 0] > 127)
    assert np.ptp(x) == pytest.approx(40, abs=1.5)
    assert np.ptp(y) == pytest.approx(40, abs=1.5)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8, 3), np.int8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
        [[[0, 0, 0]]],
        None,
        b"frame",
    ],
)
def test_refuses_what_is_no_frame(frame: Any) -> None:
    with pytest.raises(DataError, match="a frame must") as caught:
        Preprocess(64)(frame)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"size": 7},
        {"size": 4097},
        {"size": 64.5},
        {"size": "64"},
        {"size": 64, "fit": "squeeze"},
        {"size": 64, "resize": "cubic"},
        {"size": 64, "crop_box": (0.5, 0, 0.5, 1)},
        {"size": 64, "crop_box": (0, 0, 1, 1.1)},
        {"size": 64, "crop_box": (-0.1, 0, 1, 1)},
        {"size": 64, "crop_box": (float("nan"), 0, 1, 1)},
        {"size": 64, "crop_box": (0, 0, 1)},
    ],
)
def test_refuses_settings_that_make_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"size|fit|crop_box|unpack"):
        Preprocess(**values)


def test_survives_json() -> None:
    preprocess = Preprocess(96, "letterbox", (0.1, 0.0, 0.9, 0.8), "area")
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


def test_results_are_the_same_in_any_thread_count() -> None:
    frame, threads = noise(1080, 1920), cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = Preprocess(224)(frame)
        cv2.setNumThreads(4)
        assert np.array_equal(Preprocess(224)(frame), alone)
    finally:
        cv2.setNumThreads(threads)
