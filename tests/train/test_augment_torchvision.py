"""Augmentation against torchvision's own transforms: the same images, the same distributions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from gensoup.train import augment

COUNT, SIDE = 500, 32
ALPHA = 0.01  # the seeds are fixed: a test that passes goes on passing
BILINEAR = InterpolationMode.BILINEAR
CROP = v2.RandomResizedCrop(SIDE, scale=(0.36, 1.0), ratio=(1.0, 1.0), interpolation=BILINEAR, antialias=False)
TURN = v2.RandomRotation(90, interpolation=BILINEAR)
FLIPS = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
JITTER = v2.ColorJitter(0.4, 0.4, 0.4)


def picture() -> Tensor:
    """Ramps, one a channel, so that an image's means tell where it was taken from, and a bright corner; [3, H, W].

    Grey levels from which no jitter leaves 0…255, and colours that a wrong grey would change.
    """
    ramp = torch.linspace(0, 1, SIDE)
    planes = torch.stack([40 + 60 * ramp.expand(SIDE, SIDE), 40 + 50 * ramp[:, None].expand(SIDE, SIDE)])
    third = torch.full((1, SIDE, SIDE), 45.0)
    third[:, : SIDE // 3, : SIDE // 3] = 95.0
    return torch.cat([planes, third])


def disc() -> Tensor:
    """The pixels that no rotation brings in from outside."""
    places = torch.arange(SIDE) - (SIDE - 1) / 2
    return places[:, None] ** 2 + places**2 <= (SIDE / 2 - 1.5) ** 2


def traits(planes: Tensor) -> dict[str, Tensor]:
    """Of each image [N, 3, H, W]: every channel's mean, spread and slopes within the disc."""
    weight = disc().float() / disc().sum()
    ramp = torch.linspace(-1, 1, SIDE)
    mean = (planes * weight).sum((2, 3))
    apart = (planes - mean[..., None, None]) * weight
    found = {"mean": mean, "spread": (apart * planes).sum((2, 3)).clamp(min=0).sqrt()}
    found |= {"across": (apart * ramp).sum((2, 3)), "down": (apart * ramp[:, None]).sum((2, 3))}
    return {f"{name} {'RGB'[channel]}": values[:, channel] for name, values in found.items() for channel in range(3)}


def different(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """Traits whose distributions a Kolmogorov–Smirnov test tells apart, each with its p, after Bonferroni."""
    one, other = traits(ours), traits(theirs)
    # A rounding error is no distribution: what does not vary is compared as a number.
    found = {}
    for name, mine in one.items():
        if max(float(mine.std()), float(other[name].std())) < 1e-3:
            if abs(float(mine.mean() - other[name].mean())) > 1e-2:
                found[name] = 0.0
        elif (p := float(ks_2samp(mine.numpy(), other[name].numpy()).pvalue)) * len(one) < ALPHA:
            found[name] = p
    return found


def batch() -> Tensor:
    return picture().expand(COUNT, 3, SIDE, SIDE).contiguous()


def by_torchvision(transform: Callable[[Tensor], Tensor]) -> Tensor:
    """In grey levels, as floats of [0, 1] within: integers would be rounded between transforms."""
    torch.manual_seed(0)
    return torch.stack([transform(picture() / 255) for _ in range(COUNT)]) * 255


def by_us(*parts: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    for part, constant in {"crop": "MAX_CROP", "turn": "MAX_ROTATION", "flips": "FLIP_RATE"}.items():
        if part not in parts:
            monkeypatch.setattr(augment, constant, 0.0)
    generator = torch.Generator().manual_seed(1)
    planes = augment._moved(batch(), 1.0, generator) if {"crop", "turn", "flips"} & set(parts) else batch()
    return augment._jittered(planes, 1.0, generator) if "jitter" in parts else planes


@pytest.mark.parametrize(
    ("parts", "transform"),
    [
        (("crop",), CROP),
        (("turn",), TURN),
        (("flips",), FLIPS),
        (("jitter",), JITTER),
        (("crop", "turn", "flips", "jitter"), v2.Compose([CROP, TURN, FLIPS, JITTER])),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_as_torchvision(
    parts: tuple[str, ...], transform: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert different(by_us(*parts, monkeypatch=monkeypatch), by_torchvision(transform)) == {}


@pytest.mark.parametrize(
    ("parts", "transform"),
    [
        (("crop",), v2.RandomResizedCrop(SIDE, (0.45, 1.0), (1.0, 1.0), antialias=False)),
        (("turn",), v2.RandomRotation(75, interpolation=BILINEAR)),
        (("flips",), v2.RandomHorizontalFlip()),
        (("jitter",), v2.ColorJitter(0.4, 0.4, 0.25)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_other_settings_would_be_told_apart(
    parts: tuple[str, ...], transform: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert different(by_us(*parts, monkeypatch=monkeypatch), by_torchvision(transform)) != {}


def test_a_grey_of_equal_parts_would_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "LUMA", (1 / 3, 1 / 3, 1 / 3))
    assert different(by_us("jitter", monkeypatch=monkeypatch), by_torchvision(JITTER)) != {}


def test_mixing_as_torchvision() -> None:
    """Who is mixed in is another: ours are sorted by class, so a random partner stands for torchvision's neighbour."""
    planes = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, SIDE, SIDE).contiguous()
    hot = torch.eye(2)
    torch.manual_seed(0)
    shares: dict[str, list[float]] = {"cut": [], "mix": [], "our cut": [], "our mix": []}
    for name, transform in (("cut", v2.CutMix(num_classes=2)), ("mix", v2.MixUp(num_classes=2))):
        for _ in range(COUNT):
            mixed, labels = transform(planes, torch.arange(2))
            shares[name].append(float(labels[0, 0]))
            assert float(mixed[0].mean()) == pytest.approx(float(labels[0, 1]), abs=1e-5)
    generator = torch.Generator().manual_seed(1)
    while min(len(shares["our cut"]), len(shares["our mix"])) < COUNT:
        state = generator.get_state()
        swapped = torch.randperm(2, generator=generator)[0] == 1
        generator.set_state(state)
        mixed, labels = augment._mixed(planes, hot, generator)
        if swapped:
            whole = bool((mixed == mixed.round()).all()) and not 0 < float(mixed[0, 0, 0, 0]) < 1
            shares["our cut" if whole else "our mix"].append(float(labels[0, 0]))
            assert float(mixed[0].mean()) == pytest.approx(float(labels[0, 1]), abs=1e-5)
    for name in ("cut", "mix"):
        assert ks_2samp(shares[name], shares[f"our {name}"][:COUNT]).pvalue > ALPHA
