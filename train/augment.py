"""Augmentation of whole batches on the training device: one affine sample, one colour map, CutMix or Mixup.

Image for image it is, in distribution, torchvision's ``RandomResizedCrop`` (of a square), ``RandomRotation``, both
flips and ``ColorJitter``, and batch for batch its ``CutMix`` and ``MixUp``. But what a rotation brings in from outside
of a crop is the image itself and beyond it its mirror image, where torchvision's is black.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gensoup.export.graph import standardise, to_planes
from gensoup.export.transfer import constant, sent

MAX_ROTATION = math.pi / 2
MAX_CROP = 0.4  # a crop keeps at least this much less of a side
MAX_JITTER = 0.4
FLIP_RATE = 0.5
MIX_RATE = 0.5
LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue in torchvision's grey


def augmented(
    frames: Tensor, targets: Tensor, strength: float, generator: torch.Generator, *, mixing: bool = True
) -> tuple[Tensor, Tensor]:
    """uint8 BGR [N, H, W, 3] and soft targets [N, K] → network input float32 [N, 3, H, W] and soft targets.

    strength: 0 changes nothing; 1 is the thesis' setting (rotation to 90°, both flips, crop, jitter, mixing of half of
    the batches, unless ``mixing`` is off). Random numbers come from ``generator``, on the CPU, so that they do not
    depend on the device.
    """
    planes = to_planes(frames)
    if strength > 0:
        planes = _jittered(_moved(planes, strength, generator), strength, generator)
    planes = standardise(planes)
    if mixing and strength > 0 and _uniform(generator, 1).item() < MIX_RATE * strength:
        planes, targets = _mixed(planes, targets, generator)
    return planes, targets


def _uniform(generator: torch.Generator, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _moved(planes: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A square crop, rotated about its centre and flipped, in one bilinear sample; what lies outside is mirrored in."""
    count, _, height, width = planes.shape
    angle = _uniform(generator, count, -1, 1) * MAX_ROTATION * strength
    # A crop's area, not its side, is uniform.
    scale = torch.sqrt(1 - _uniform(generator, count) * (1 - (1 - MAX_CROP * strength) ** 2))
    shift = _uniform(generator, 2 * count, -1, 1).view(count, 2) * (1 - scale)[:, None]
    flips = 1 - 2 * (_uniform(generator, 2 * count).view(count, 2) < FLIP_RATE * strength).float()
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cos * flips[:, 0], -sin * flips[:, 1], shift[:, 0]], 1)]
    rows.append(torch.stack([sin * flips[:, 0], cos * flips[:, 1], shift[:, 1]], 1))
    matrix = sent(torch.stack(rows, 1), planes.device)
    # Not affine_grid: on a CPU it takes four times as long.
    grid = (_places(height, width, planes.device) @ matrix.transpose(1, 2)).view(count, height, width, 2)
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _places(height: int, width: int, device: torch.device) -> Tensor:
    """The centres of all pixels in [-1, 1], as (x, y, 1): [H · W, 3]."""
    rows, columns = ((2 * torch.arange(side, device=device) + 1) / side - 1 for side in (height, width))
    x, y = columns.expand(height, width), rows[:, None].expand(height, width)
    return torch.stack([x, y, torch.ones_like(x)], -1).view(-1, 3)


def _jittered(planes: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each scaled by up to ±40%.

    But for the clamping the three commute, so that one matrix of colours and one offset an image do all of them.
    """
    count, channels, height, width = planes.shape
    factors = (1 + _uniform(generator, 3 * count, -1, 1) * MAX_JITTER * strength).view(3, count, 1, 1)
    brightness, contrast, saturation = sent(factors, planes.device)
    luma = constant(LUMA, planes.device)
    grey = brightness * (planes.mean((2, 3)) @ luma).view(count, 1, 1)
    matrix = saturation * torch.eye(channels, device=planes.device) + (1 - saturation) * luma
    mapped = torch.baddbmm((1 - contrast) * grey, brightness * contrast * matrix, planes.reshape(count, channels, -1))
    return mapped.view(count, channels, height, width).clamp_(0, 255)


def _mixed(planes: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al. 2019) or Mixup (Zhang et al. 2018) with a uniform share, one draw a batch.

    CutMix' centre lies anywhere in the picture, and what reaches over its edges is cut off.
    """
    order = sent(torch.randperm(len(planes), generator=generator), planes.device)
    share = float(_uniform(generator, 1))
    if _uniform(generator, 1).item() < 0.5:
        height, width = planes.shape[2:]
        half = 0.5 * math.sqrt(1 - share)
        rows, columns = (_span(float(_uniform(generator, 1)), half, side) for side in (height, width))
        mixed = planes.clone()
        mixed[:, :, rows, columns] = planes[order][:, :, rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    else:
        mixed = share * planes + (1 - share) * planes[order]
    return mixed, share * targets + (1 - share) * targets[order]


def _span(centre: float, half: float, side: int) -> slice:
    """The pixels around ``centre`` on a side; centre and half as shares of it."""
    middle, reach = int(centre * side), int(half * side)
    return slice(max(0, middle - reach), min(side, middle + reach))
