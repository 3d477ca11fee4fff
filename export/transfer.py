"""From the host's memory to a device's without waiting for what that device is just computing."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """``values`` on ``device``; to a GPU through pinned memory, so that the host goes on meanwhile.

    A plain copy waits for everything that was queued before it. PyTorch keeps the pinned memory until it has been read.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A few numbers [N] on ``device``, to be read alone; elsewhere than on the CPU they are sent once and kept."""
    return torch.tensor(values, device=device) if device.type == "cpu" else _kept(values, device)


@cache
def _kept(values: tuple[float, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what is made in it could not serve a training
        return torch.tensor(values, device=device)
