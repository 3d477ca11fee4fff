"""Losses against an independent calculation in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gensoup.train.losses import LOSSES

Array = NDArray[np.float64]


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def cross_entropy(logits: Array, targets: Array) -> float:
    return float(-(targets * log_softmax(logits)).sum(1).mean())


def label_smoothing(logits: Array, targets: Array) -> float:
    return cross_entropy(logits, 0.9 * targets + 0.1 / logits.shape[1])


def logit_penalty(logits: Array, targets: Array) -> float:
    return cross_entropy(logits, targets) + 0.01 * 0.5 * float((logits**2).sum(1).mean())


def logit_normalisation(logits: Array, targets: Array) -> float:
    norm = np.maximum(np.sqrt((logits**2).sum(1, keepdims=True)), 1e-7)
    return cross_entropy(logits / norm / 0.1, targets)


def sigmoid_cross_entropy(logits: Array, targets: Array) -> float:
    logits = logits - np.log(logits.shape[1] - 1)
    total = 0.0
    for row, truth in zip(logits, targets, strict=True):
        for value, share in zip(row, truth, strict=True):
            total += share * np.logaddexp(0, -value) + (1 - share) * np.logaddexp(0, value)
    return total / len(logits)


EXPECTED: dict[str, Callable[[Array, Array], float]] = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "logit_penalty": logit_penalty,
    "logit_normalisation": logit_normalisation,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
}


def soft_targets(rows: int, classes: int, seed: int = 0) -> Array:
    """Half hard, half mixed by two classes, as CutMix and Mixup make them."""
    rng = np.random.default_rng(seed)
    one, two = (np.eye(classes)[rng.integers(0, classes, rows)] for _ in range(2))
    share = np.where(np.arange(rows) % 2, 1.0, rng.random(rows))[:, None]
    return np.asarray(share * one + (1 - share) * two)


def test_every_loss_is_covered() -> None:
    assert LOSSES.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (6, 3), (32, 11)])
def test_equals_numpy(name: str, rows: int, classes: int) -> None:
    logits = np.random.default_rng(1).normal(0, 3, (rows, classes))
    targets = soft_targets(rows, classes)
    got = LOSSES[name](torch.tensor(logits), torch.tensor(targets))
    assert float(got) == pytest.approx(EXPECTED[name](logits, targets), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_finite_with_finite_gradients_for_extreme_logits(name: str, scale: float) -> None:
    logits = torch.tensor([[-1.0, 0.0, 1.0], [1.0, -1.0, 1.0]]) * scale
    logits.requires_grad_()
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.7, 0.0]])
    loss = LOSSES[name](logits, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_right_logits_cost_less_than_wrong_ones(name: str) -> None:
    targets = torch.eye(4)
    assert LOSSES[name](3 * torch.eye(4), targets) < LOSSES[name](3 * (1 - torch.eye(4)), targets)
