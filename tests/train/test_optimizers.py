"""Optimizers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gensoup.train.optimizers import OPTIMIZERS


def stepped(name: str, weight_decay: float) -> float:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = OPTIMIZERS[name].build([parameter], 1e-2, weight_decay)
    for _ in range(10):
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return float(parameter.detach().norm())


@pytest.mark.parametrize("name", [name for name, kind in OPTIMIZERS.items() if kind.decays])
def test_weight_decay_reaches_it(name: str) -> None:
    started = 5**0.5
    assert stepped(name, 0.0) == pytest.approx(started, abs=1e-4)  # ASGD has a little of its own
    assert stepped(name, 0.1) < started - 2e-4


@pytest.mark.parametrize("name", [name for name, kind in OPTIMIZERS.items() if not kind.decays])
def test_one_without_weight_decay_is_built_without(name: str) -> None:
    optimizer = OPTIMIZERS[name].build([nn.Parameter(torch.zeros(1))], 1e-2, 0.1)
    assert "weight_decay" not in optimizer.param_groups[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_is_the_one_asked_for_and_it_learns(name: str) -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    kind = OPTIMIZERS[name]
    optimizer = kind.build([parameter], kind.learning_rate, 0.0)
    assert [group["lr"] for group in optimizer.param_groups] == [kind.learning_rate]

    def loss() -> float:
        optimizer.zero_grad()
        value = (parameter**2).sum()
        value.backward()
        return float(value.detach())

    for _ in range(20):
        optimizer.step(loss)
    assert float(parameter.detach()) < 3.0


def test_sgd_has_momentum() -> None:
    optimizer = OPTIMIZERS["sgd"].build([nn.Parameter(torch.zeros(1))], 1e-2, 0.0)
    assert optimizer.param_groups[0]["momentum"] == 0.9
