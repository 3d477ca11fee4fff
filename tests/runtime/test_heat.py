"""A saliency map laid over the camera's frame: in the right place for every geometry, and never louder than it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gensoup.runtime.heat import draw_heat, spread
from gensoup.runtime.preprocess import Fit, Preprocess

GEOMETRIES = [
    pytest.param(fit, box, id=f"{fit}-{name}")
    for fit in ("stretch", "crop", "letterbox")
    for name, box in (("whole", (0.0, 0.0, 1.0, 1.0)), ("box", (0.3, 0.05, 0.95, 0.8)))
]


def brightness(network_input: NDArray[np.uint8], cells: int) -> NDArray[np.float32]:
    """A network that looks at what is bright: the mean of ``cells`` × ``cells`` parts of its input, in [0, 1]."""
    side = len(network_input) // cells
    parts = network_input.reshape(cells, side, cells, side, 3)
    return np.asarray(parts.mean((1, 3, 4)) / 255, np.float32)


@pytest.mark.parametrize(("fit", "box"), GEOMETRIES)
@pytest.mark.parametrize("shape", [(540, 960), (700, 400), (333, 517)])
def test_the_map_lies_where_the_camera_saw_it(
    fit: Fit, box: tuple[float, float, float, float], shape: tuple[int, int]
) -> None:
    height, width = shape
    preprocess = Preprocess(224, fit, box)
    left, top, right, bottom = preprocess.view(height, width)
    for across, down in ((0.3, 0.4), (0.55, 0.5), (0.7, 0.62)):
        column, row = round(left + across * (right - left)), round(top + down * (bottom - top))
        if not (0 <= column < width and 0 <= row < height):
            continue
        half = round(min(right - left, bottom - top) / 20)
        frame = np.zeros((height, width, 3), np.uint8)
        frame[max(0, row - half) : row + half, max(0, column - half) : column + half] = 255
        heat = spread(brightness(preprocess(frame), 14), preprocess, height, width)
        assert heat.shape == (height, width) and heat.dtype == np.float32
        rows, columns = np.mgrid[0:height, 0:width]
        centre = (float((heat * columns).sum() / heat.sum()), float((heat * rows).sum() / heat.sum()))
        cell = max(right - left, bottom - top) / 14
        assert abs(centre[0] - column) < 0.35 * cell and abs(centre[1] - row) < 0.35 * cell


@pytest.mark.parametrize(("fit", "box"), GEOMETRIES)
@pytest.mark.parametrize("shape", [(540, 960), (700, 400), (9, 300)])
def test_the_view_is_where_the_pixels_come_from(
    fit: Fit, box: tuple[float, float, float, float], shape: tuple[int, int]
) -> None:
    """Ramps over the camera's frame: what the network gets tells from which column and row it came."""
    height, width = shape
    preprocess = Preprocess(200, fit, box, resize="area")
    rows, columns = np.mgrid[0:height, 0:width]
    ramps = np.stack([255 * columns / width, 255 * rows / height, np.full((height, width), 255)], -1).round()
    got = preprocess(ramps.astype(np.uint8)).astype(float)
    left, top, right, bottom = preprocess.view(height, width)
    seen = got[..., 2] == 255  # not the letterbox's bars
    places = (np.arange(200) + 0.5) / 200
    x, y = left + places * (right - left), top + places * (bottom - top)
    expected = (
        np.broadcast_to(255 * (x - 0.5) / width, (200, 200)),
        np.broadcast_to(255 * (y - 0.5) / height, (200, 200)).T,
    )
    slack = 2 + 255 / height if height < 100 else 2.0
    assert np.abs(got[..., 0] - expected[0])[seen].max() < 2
    assert np.abs(got[..., 1] - expected[1])[seen].max() < slack
    x0, y0, x1, y1 = preprocess.used(height, width)
    bars = (x[None, :] < x0) | (x[None, :] >= x1) | (y[:, None] < y0) | (y[:, None] >= y1)
    assert (bars ^ ~seen).mean() < 0.02


@pytest.mark.parametrize(("fit", "box"), GEOMETRIES)
def test_where_the_network_sees_nothing_there_is_no_heat(fit: Fit, box: tuple[float, float, float, float]) -> None:
    preprocess = Preprocess(224, fit, box)
    heat = spread(np.ones((7, 7), np.float32), preprocess, 200, 400)
    x0, y0, x1, y1 = preprocess.used(200, 400)
    assert heat[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 0.999
    heat[y0:y1, x0:x1] = 0
    assert (heat == 0).all()


def test_the_map_is_never_rescaled() -> None:
    for level in (0.0, 0.05, 0.3, 1.0):
        saliency = np.zeros((7, 7), np.float32)
        saliency[3, 3] = level
        heat = spread(saliency, Preprocess(224), 350, 350)
        assert heat.max() == pytest.approx(level, abs=1e-3) and heat.min() >= 0
        assert heat.argmax() == 0 if level == 0 else 170 * 350 < heat.argmax() < 180 * 350


def test_drawing_leaves_the_frame_alone_where_nothing_is() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (210, 280, 3), dtype=np.uint8)
    before = frame.copy()
    assert (draw_heat(frame, np.zeros((7, 7), np.float32), Preprocess(224)) == before).all()
    saliency = np.zeros((7, 7), np.float32)
    saliency[0, 0] = 1
    drawn = draw_heat(frame, saliency, Preprocess(224))
    assert (frame == before).all()
    assert (drawn[120:, 160:] == before[120:, 160:]).all()
    assert (drawn[:15, :20] != before[:15, :20]).any(axis=2).mean() > 0.95


def test_strength_is_brightness_and_not_hue_alone() -> None:
    frame = np.full((100, 100, 3), (60, 60, 140), np.uint8)
    box = Preprocess(224)
    grey = [
        float(draw_heat(frame, np.full((5, 5), level, np.float32), box)[50, 50].mean())
        for level in (0.6, 0.7, 0.8, 0.9, 1)
    ]
    assert grey == sorted(grey) and grey[-1] - grey[0] > 10
    half = np.zeros((5, 5), np.float32)
    half[2, 2] = 0.9
    assert (draw_heat(frame, half, box) > 200).all(axis=2).sum() > 20  # a white line around what is over a half
    assert not (draw_heat(frame, half / 2, box) > 200).all(axis=2).any()
