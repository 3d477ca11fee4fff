"""The synthetic endoscope: repeatable, moving, of any size, and labels that show in the lesion alone."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from gensoup.runtime.errors import UsageError
from gensoup.runtime.sources.lesions import PAINTERS
from gensoup.runtime.sources.mucosa import Canvas, Site, smooth_noise
from gensoup.runtime.sources.synthetic import LABELS, SyntheticEndoscope


def test_there_are_at_least_five_classes_and_one_is_healthy() -> None:
    assert len(LABELS) >= 5 and len(set(LABELS)) == len(LABELS)
    assert [label for label in LABELS if PAINTERS[label] is None] == ["normal"]


@pytest.mark.parametrize("label", LABELS)
def test_same_arguments_give_the_same_frames(label: str) -> None:
    first, second = (SyntheticEndoscope(5, label, 96, 120) for _ in range(2))
    second.frame(9.0)  # what was asked before must not matter
    for t in (0.0, 1.7, -2.5, 1e4):
        np.testing.assert_array_equal(first.frame(t), second.frame(t))


def test_threads_do_not_disturb_each_other() -> None:
    def film(seed: int) -> np.ndarray:
        return SyntheticEndoscope(seed, LABELS[seed % len(LABELS)], 96, 120).frame(0.5)

    alone = [film(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(film, range(8)))
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("height, width", [(32, 32), (101, 77), (288, 360), (333, 501), (1080, 1920), (1921, 1081)])
def test_frames_have_the_size_asked_for(height: int, width: int) -> None:
    frame = SyntheticEndoscope(1, "ulcer", height, width).frame(0.3)
    assert frame.shape == (height, width, 3) and frame.dtype == np.uint8 and frame.flags.c_contiguous
    assert 20 < frame.mean() < 220 and frame.std() > 10


def test_the_camera_moves_smoothly() -> None:
    endoscope = SyntheticEndoscope(2, "normal", 144, 180)

    def apart(t: float, u: float) -> float:
        pictures = [cv2.GaussianBlur(endoscope.frame(time), (0, 0), 2).astype(float) for time in (t, u)]
        return float(np.abs(pictures[0] - pictures[1]).mean())

    for t in (0.0, 3.0, 11.0):
        assert apart(t, t + 1 / 60) < 0.5 * apart(t, t + 1.5)
    assert apart(0.0, 1.5) > 2


def test_every_frame_is_a_new_array() -> None:
    endoscope = SyntheticEndoscope(2, "polyp", 64, 64)
    first = endoscope.frame(0.0)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(endoscope.frame(0.0), kept)


@pytest.mark.parametrize("label", [label for label in LABELS if label != "normal"])
@pytest.mark.parametrize("seed", range(4))
def test_a_label_shows_inside_the_view_and_leaves_border_and_mean_alone(label: str, seed: int) -> None:
    """Against the healthy scene of the same seed only the lesion differs: no border, no mean colour gives it away."""
    sick, healthy = (SyntheticEndoscope(seed, name, 288, 360) for name in (label, "normal"))
    for t in (0.0, 2.0, 7.7):
        change = sick.frame(t).astype(float) - healthy.frame(t)
        border = np.ones(change.shape[:2], bool)
        border[9:-9, 9:-9] = False
        assert np.abs(change[border]).mean() < 2
        assert np.abs(change.mean(axis=(0, 1))).max() < 2.5
        changed = np.abs(change).max(axis=2) > 12
        assert 0.01 < changed.mean() < 0.35


def test_the_lesion_is_the_same_at_every_resolution() -> None:
    """The draws do not depend on the number of pixels, so a 1080p scene is the small one, sharper."""
    small = SyntheticEndoscope(3, "ulcer", 240, 320).frame(0.0).astype(float)
    large = cv2.resize(SyntheticEndoscope(3, "ulcer", 480, 640).frame(0.0), (320, 240), interpolation=cv2.INTER_AREA)
    # Vessels are a whole number of pixels wide and speculars sharper: alike, not equal.
    smooth = [cv2.GaussianBlur(picture, (0, 0), 4) for picture in (small, large.astype(float))]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.97


def test_smooth_noise_has_unit_spread() -> None:
    noise = smooth_noise(np.random.default_rng(0), Canvas.covering(1.0, 1.0, 300.0), 0.03)
    assert abs(noise.mean()) < 0.1 and 0.7 < noise.std() < 1.3


def test_sites_stay_in_view() -> None:
    rng = np.random.default_rng(0)
    sites = [Site.drawn(rng, 1.25) for _ in range(500)]
    assert max(abs(site.y) + site.radius for site in sites) < 0.45
    assert max(abs(site.x) + site.radius for site in sites) < 0.55
    assert np.std([site.x for site in sites]) > 0.05 and np.std([site.y for site in sites]) > 0.05


@pytest.mark.parametrize(
    "arguments, named",
    [((0, "cat", 64, 64), "cat"), ((0, "polyp", 16, 64), "16"), ((-1, "polyp", 64, 64), "-1")],
)
def test_mistakes_are_named(arguments: tuple[int, str, int, int], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        SyntheticEndoscope(*arguments)
