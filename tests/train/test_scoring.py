"""Scoring a network on one role."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gensoup.export.graph import MEAN, STD
from gensoup.train.scoring import fit_temperature, fitness_of, fitness_on, predict_logits, probabilities

CPU = torch.device("cpu")


def drawn(temperature: float, count: int = 20000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is known: the labels are drawn from their softmax."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (count, classes))
    shares = probabilities(logits.astype(np.float32), 1.0)
    targets = (shares.cumsum(1) > rng.random((count, 1))).argmax(1)
    return (logits * temperature).astype(np.float32), targets


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0, 8.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, targets = drawn(temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.05)


def test_temperature_stays_in_bounds_when_nothing_is_known() -> None:
    logits = 5 * np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    assert 10 < fit_temperature(logits, np.array([1, 2, 0, 2])) < 21
    assert np.isfinite(fit_temperature(np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])))


@pytest.mark.parametrize("count", [6, 30, 300])
def test_images_that_are_all_right_leave_the_doubt_of_their_number(count: int) -> None:
    targets = np.arange(count) % 3
    logits = 5 * np.eye(3, dtype=np.float32)[targets]
    sure = probabilities(logits, fit_temperature(logits, targets)).max(1)
    np.testing.assert_allclose(sure, (count + 1) / (count + 2), rtol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_the_worst(value: float) -> None:
    logits = np.eye(3, dtype=np.float32)
    logits[1, 1] = value
    targets = np.array([0, 1, 2])
    assert fit_temperature(logits, targets) == 1.0
    fitness = fitness_of(logits, targets, 1.0)
    assert (fitness.mcc, fitness.nll) == (0.0, float("inf"))


def test_fitness_of_known_logits() -> None:
    logits = np.log(np.array([[0.7, 0.3], [0.4, 0.6], [0.8, 0.2], [0.9, 0.1]], np.float32))
    fitness = fitness_of(logits, np.array([0, 1, 0, 1]), 1.0)
    assert fitness.nll == pytest.approx(-np.log([0.7, 0.6, 0.8, 0.1]).mean(), rel=1e-5)
    assert fitness.mcc == pytest.approx((2 * 1 - 0 * 1) / np.sqrt(3 * 2 * 2 * 1), rel=1e-6)
    assert fitness.images == 4


class Means(nn.Module):
    """The mean of each colour plane, in grey levels, and whether it is in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return planes.mean((2, 3)) * torch.tensor(STD) + torch.tensor(MEAN)


def test_logits_of_every_image_in_order_in_eval_mode() -> None:
    images = np.zeros((150, 8, 8, 3), np.uint8)
    images[..., 2] = np.arange(150)[:, None, None]  # red, last in BGR and first in the network
    model = Means().train()
    logits = predict_logits(model, images, CPU)
    assert logits.shape == (150, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits[:, 0], np.arange(150), atol=1e-3)
    np.testing.assert_allclose(logits[:, 1:], 0, atol=1e-3)
    assert not any(model.modes) and len(model.modes) == 3


def test_fitness_on_images_fits_its_own_temperature() -> None:
    images = np.zeros((20, 8, 8, 3), np.uint8)
    targets = np.arange(20) % 3
    for number, target in enumerate(targets):
        images[number, ..., 2 - target] = 50
    fitness = fitness_on(Means(), images, targets, CPU)
    logits = predict_logits(Means(), images, CPU)
    assert fitness.mcc == pytest.approx(1.0)
    assert fitness.temperature == fit_temperature(logits, targets)
