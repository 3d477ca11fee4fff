"""Losses on logits [N, K] and soft targets [N, K] (rows that sum to one, for CutMix and Mixup).

PyTorch is imported where it computes: settings are checked by these names before it is there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor"], "Tensor"]

LABEL_SMOOTHING = 0.1
LOGIT_PENALTY = 1e-2  # weight of the squared norm of the logits (Kornblith et al. 2021, "Why do better losses lead…")
LOGIT_TEMPERATURE = 0.1  # of normalised logits (Wei et al. 2022 use .04 on CIFAR, Kornblith .05)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy."""
    from torch.nn import functional

    return functional.cross_entropy(logits, targets)


def label_smoothing(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with a tenth of the mass spread over all classes."""
    from torch.nn import functional

    return functional.cross_entropy(logits, targets, label_smoothing=LABEL_SMOOTHING)


def logit_penalty(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy plus a penalty on the logits' squared norm."""
    from torch.nn import functional

    return functional.cross_entropy(logits, targets) + LOGIT_PENALTY * 0.5 * logits.square().sum(1).mean()


def logit_normalisation(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits of unit norm over a temperature."""
    from torch.nn import functional

    return functional.cross_entropy(functional.normalize(logits, dim=1, eps=1e-7) / LOGIT_TEMPERATURE, targets)


def sigmoid_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of each class by itself, summed over classes. Its biased start, log K, keeps early steps
    from being spent on pushing every class down (Beyer et al. 2020)."""
    from torch.nn import functional

    bias = math.log(logits.shape[1] - 1)  # as a number: a tensor would be sent to the device, which is to wait for it
    return functional.binary_cross_entropy_with_logits(logits - bias, targets, reduction="none").sum(1).mean()


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "logit_penalty": logit_penalty,
    "logit_normalisation": logit_normalisation,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
}
