"""Augmentation of whole batches on the training device: one affine sample, flips, colour jitter, CutMix or Mixup."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gensoup.export.graph import standardise, to_planes

MAX_ROTATION = math.pi / 2
MAX_CROP = 0.4  # a crop keeps at least this much less of a side
MAX_JITTER = 0.4
FLIP_RATE = 0.5
MIX_RATE = 0.5


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
    """Rotation, flips and a crop in one bilinear sample; what lies outside is mirrored in."""
    count = len(planes)
    angle = _uniform(generator, count, -1, 1) * MAX_ROTATION * strength
    scale = 1 - _uniform(generator, count) * MAX_CROP * strength
    shift = _uniform(generator, 2 * count, -1, 1).view(count, 2) * (1 - scale)[:, None]
    flips = 1 - 2 * (_uniform(generator, 2 * count).view(count, 2) < FLIP_RATE * strength).float()
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cos * flips[:, 0], -sin * flips[:, 1], shift[:, 0]], 1)]
    rows.append(torch.stack([sin * flips[:, 0], cos * flips[:, 1], shift[:, 1]], 1))
    matrix = torch.stack(rows, 1).to(planes.device)
    grid = functional.affine_grid(matrix, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _jittered(planes: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each scaled by up to ±40%."""
    count = len(planes)
    factors = (1 + _uniform(generator, 3 * count, -1, 1) * MAX_JITTER * strength).view(3, count, 1, 1, 1)
    brightness, contrast, saturation = factors.to(planes.device)
    planes = planes * brightness
    mean = planes.mean((1, 2, 3), keepdim=True)
    planes = mean + (planes - mean) * contrast
    grey = planes.mean(1, keepdim=True)
    return (grey + (planes - grey) * saturation).clamp(0, 255)


def _mixed(planes: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al. 2019) or Mixup (Zhang et al. 2018) with a uniform share, one draw a batch."""
    order = torch.randperm(len(planes), generator=generator).to(planes.device)
    share = float(_uniform(generator, 1))
    if _uniform(generator, 1).item() < 0.5:
        height, width = planes.shape[2:]
        side = math.sqrt(1 - share)
        top, left = (float(_uniform(generator, 1)) * (1 - side) for _ in range(2))
        rows = slice(int(top * height), int((top + side) * height))
        columns = slice(int(left * width), int((left + side) * width))
        mixed = planes.clone()
        mixed[:, :, rows, columns] = planes[order][:, :, rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    else:
        mixed = share * planes + (1 - share) * planes[order]
    return mixed, share * targets + (1 - share) * targets[order]
