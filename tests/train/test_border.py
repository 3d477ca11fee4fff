"""What the frame's border alone tells."""

from __future__ import annotations

import numpy as np

from gensoup.train import border
from gensoup.train.border import BorderReading, border_strips, draw_sample, read_border, thumbnail

LABELS = ("a", "b", "few")


def test_strips_see_the_outer_tenth_and_nothing_else() -> None:
    image = np.full((100, 200, 3), 50, np.uint8)
    image[10:90, 20:180] = 255
    assert (border_strips(image) == 50).all()
    image[9] = 255
    assert (border_strips(image)[0] > 50).any()


def test_strips_are_top_right_bottom_left_and_run_along_their_side() -> None:
    rows, columns = np.mgrid[0:100, 0:200]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    top, right, bottom, left = border_strips(image).astype(int)
    assert top.shape == right.shape == bottom.shape == left.shape == (4, 32, 3)
    assert top[..., 0].max() < 10 and bottom[..., 0].min() >= 90
    assert left[..., 1].max() < 20 and right[..., 1].min() >= 180
    for side, channel in ((top, 1), (bottom, 1), (left, 0), (right, 0)):
        assert (np.diff(side[..., channel], axis=1) > 0).all()


def test_any_size_has_borders_and_a_thumbnail() -> None:
    for height, width in ((1, 1), (3, 500), (1080, 1920)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert border_strips(image).shape == (4, 4, 32, 3) and border_strips(image).dtype == np.uint8
        assert thumbnail(image).shape == (32, 32, 3)


def data(seed: int = 0, count: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Noise of two classes in groups of two, and of a third of two groups."""
    rng = np.random.default_rng(seed)
    targets = np.repeat([0, 1, 2], [count, count, 4])
    strips = rng.integers(0, 256, (len(targets), 4, 4, 32, 3), dtype=np.uint8)
    thumbnails = rng.integers(0, 256, (len(targets), 32, 32, 3), dtype=np.uint8)
    return strips, thumbnails, targets, [f"g{index // 2}" for index in range(len(targets))]


def test_a_mark_in_one_corner_is_found_there_and_noise_is_not() -> None:
    strips, thumbnails, targets, groups = data()
    calls: list[tuple[str, int, int]] = []
    noise = read_border(strips, thumbnails, targets, groups, LABELS, 0, lambda *call: calls.append(call))
    assert calls == [("border", number, 50) for number in range(1, 51)]
    assert isinstance(noise, BorderReading)
    assert noise.border.low < 0.2 and noise.border.low <= noise.border.mcc <= noise.border.high
    assert noise.left_out == ("few",) and noise.images == 40 and noise.majority_accuracy == 0.5
    strips[targets == 1, 2, :, 24:] = 255  # the right end of the bottom
    marked = read_border(strips, thumbnails, targets, groups, LABELS, 0, lambda *call: None)
    assert isinstance(marked, BorderReading)
    assert marked.border.low > 0.7 and marked.whole.low < 0.2
    assert set(marked.parts) == set(border._PARTS) and set(marked.classes) == {"a", "b"}
    assert marked.classes["b"].mcc == marked.classes["a"].mcc == marked.border.mcc  # two classes: one question
    assert marked.parts["bottom right"] == marked.parts["bottom"] == 1
    assert max(mcc for part, mcc in marked.parts.items() if "bottom" not in part) < 0.5


def test_a_mark_of_a_group_does_not_count_as_one_of_its_class() -> None:
    strips, thumbnails, targets, _ = data()
    groups = [f"{target}-{index % 6}" for index, target in enumerate(targets)]
    for number, group in enumerate(sorted(set(groups))):
        strips[[name == group for name in groups], :, :, number % 32] = number * 7
    reading = read_border(strips, thumbnails, targets, groups, LABELS[:2], 0, lambda *call: None)
    assert isinstance(reading, BorderReading) and reading.border.low < 0.2


def test_one_huge_group_leaves_every_image_scored() -> None:
    strips, thumbnails, targets, _ = data()
    groups = ["huge" if index < 16 else str(index) for index in range(len(targets))]
    reading = read_border(strips, thumbnails, targets, groups, LABELS, 0, lambda *call: None)
    assert isinstance(reading, BorderReading) and reading.images == 40 and reading.majority_accuracy == 0.5


def test_too_few_groups_say_so() -> None:
    strips, thumbnails, targets, groups = data(count=8)
    reading = read_border(strips, thumbnails, targets, groups, LABELS, 0, lambda *call: None)
    assert reading == "not measured: fewer than two classes have 5 groups"


def test_a_sample_is_bounded_sorted_and_fair() -> None:
    targets = np.repeat([0, 1, 2], [9000, 500, 30])
    sample = draw_sample(targets, 3)
    assert len(sample) == border.LARGEST_SAMPLE and (np.diff(sample) > 0).all()
    assert np.bincount(targets[sample]).tolist() == [5470, 500, 30]
    assert np.array_equal(sample, draw_sample(targets, 3)) and not np.array_equal(sample, draw_sample(targets, 4))
    assert draw_sample(targets[-40:], 0).tolist() == list(range(40))
