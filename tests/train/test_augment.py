"""Augmentation of whole batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gensoup.export.graph import MEAN, STD
from gensoup.train import augment
from gensoup.train.augment import augmented

COUNT, SIDE, CLASSES = 16, 24, 3


@pytest.fixture
def frames() -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture
def targets() -> Tensor:
    return functional.one_hot(torch.arange(COUNT) % CLASSES, CLASSES).float()


def grey_levels(planes: Tensor) -> Tensor:
    return planes * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_strength_zero_only_standardises(frames: Tensor, targets: Tensor) -> None:
    planes, labels = augmented(frames, targets, 0.0, generator())
    rgb = frames.numpy()[..., ::-1].transpose(0, 3, 1, 2).astype(np.float64)
    expected = (rgb - np.array(MEAN).reshape(1, 3, 1, 1)) / np.array(STD).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(planes.numpy(), expected, atol=1e-5)
    assert torch.equal(labels, targets)


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_shapes_finite_and_labels_sum_to_one(frames: Tensor, targets: Tensor, strength: float) -> None:
    before = frames.clone()
    for seed in range(20):
        planes, labels = augmented(frames, targets, strength, generator(seed))
        assert planes.shape == (COUNT, 3, SIDE, SIDE) and planes.dtype == torch.float32
        assert torch.isfinite(planes).all()
        levels = grey_levels(planes)
        assert levels.min() > -0.1 and levels.max() < 255.1
        assert (labels >= 0).all()
        torch.testing.assert_close(labels.sum(1), torch.ones(COUNT))
    assert torch.equal(frames, before)


def test_the_same_generator_gives_the_same_batch_and_another_another(frames: Tensor, targets: Tensor) -> None:
    first, again, other = (augmented(frames, targets, 1.0, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_about_half_of_the_batches_are_mixed_at_full_strength(frames: Tensor, targets: Tensor) -> None:
    mixed = [bool((augmented(frames, targets, 1.0, generator(seed))[1] % 1 != 0).any()) for seed in range(200)]
    assert np.mean(mixed) == pytest.approx(0.5, abs=0.12)


def corner_marked() -> Tensor:
    """Black planes with a bright square in the upper left corner."""
    planes = torch.zeros(64, 3, SIDE, SIDE)
    planes[:, :, :6, :6] = 200.0
    return planes


def brightest_corner(planes: Tensor) -> list[int]:
    half = SIDE // 2
    quarters = planes.mean(1).unfold(1, half, half).unfold(2, half, half).mean((3, 4)).flatten(1)
    return [int(number) for number in quarters.argmax(1)]


def test_flips_move_the_mark_to_every_corner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "MAX_ROTATION", 0.0)
    monkeypatch.setattr(augment, "MAX_CROP", 0.0)
    corners = brightest_corner(augment._moved(corner_marked(), 1.0, generator()))
    counts = [corners.count(number) for number in range(4)]
    assert sum(counts) == 64 and min(counts) > 5


def test_flips_are_exact_mirror_images(monkeypatch: pytest.MonkeyPatch, frames: Tensor) -> None:
    monkeypatch.setattr(augment, "MAX_ROTATION", 0.0)
    monkeypatch.setattr(augment, "MAX_CROP", 0.0)
    planes = frames.permute(0, 3, 1, 2).float()
    moved = augment._moved(planes, 1.0, generator())
    for before, after in zip(planes, moved, strict=True):
        mirrors = [before, before.flip(1), before.flip(2), before.flip(1, 2)]
        assert min(float((after - mirror).abs().max()) for mirror in mirrors) < 0.01


def test_rotation_reaches_ninety_degrees_and_keeps_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "FLIP_RATE", 0.0)
    monkeypatch.setattr(augment, "MAX_CROP", 0.0)
    angles = iter([torch.tensor([-1.0, 1.0])])  # the first draw; every other is at its middle

    def drawn(generator: torch.Generator, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return next(angles, torch.full((count,), (low + high) / 2))

    monkeypatch.setattr(augment, "_uniform", drawn)
    planes = torch.rand(2, 3, SIDE, SIDE)
    moved = augment._moved(planes, 1.0, generator())
    turns = {way: planes.rot90(way, (2, 3)) for way in (-1, 1)}
    ways = [min(turns, key=lambda way, n=n: float((moved[n] - turns[way][n]).abs().max())) for n in (0, 1)]
    assert sorted(ways) == [-1, 1]
    torch.testing.assert_close(moved, torch.stack([turns[way][n] for n, way in enumerate(ways)]), atol=1e-4, rtol=0)


def test_crops_enlarge_what_lies_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "FLIP_RATE", 0.0)
    monkeypatch.setattr(augment, "MAX_ROTATION", 0.0)
    planes = torch.zeros(32, 3, SIDE, SIDE)
    planes[:, :, 9:15, 9:15] = 1.0
    moved = augment._moved(planes, 1.0, generator())
    area = moved.sum((1, 2, 3)) / planes.sum((1, 2, 3))
    assert area.min() > 0.95 and area.max() > 1.8  # a side keeps at least .6: up to 2.8 times the area


def test_jitter_changes_brightness_each_image_by_its_own() -> None:
    planes = torch.full((COUNT, 3, 4, 4), 100.0)
    means = augment._jittered(planes, 1.0, generator()).mean((1, 2, 3))
    assert len(set(means.tolist())) == COUNT
    assert means.min() >= 59.9 and means.max() <= 140.1


def test_cutmix_share_is_the_area_that_was_pasted(targets: Tensor) -> None:
    seen = 0
    planes = torch.arange(COUNT, dtype=torch.float32).view(-1, 1, 1, 1).expand(COUNT, 3, SIDE, SIDE).contiguous()
    for seed in range(40):
        mixed, labels = augment._mixed(planes, targets, generator(seed))
        order = torch.randperm(COUNT, generator=generator(seed))
        if not (mixed == mixed.round()).all():
            continue  # Mixup
        seen += 1
        own = (mixed[:, 0] == planes[:, 0]).float().mean((1, 2))
        for number in range(COUNT):
            if order[number] != number:
                expected = own[number] * targets[number] + (1 - own[number]) * targets[order[number]]
                torch.testing.assert_close(labels[number], expected, atol=1e-5, rtol=0)
    assert seen > 8


def test_mixup_mixes_pictures_and_labels_alike(targets: Tensor) -> None:
    seen = 0
    planes = targets.view(COUNT, CLASSES, 1, 1).expand(COUNT, CLASSES, 8, 8).contiguous()
    for seed in range(40):
        mixed, labels = augment._mixed(planes, targets, generator(seed))
        if (mixed == mixed.round()).all():
            continue  # CutMix
        seen += 1
        torch.testing.assert_close(mixed.mean((2, 3)), labels)
    assert seen > 8
