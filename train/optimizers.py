"""Optimizers and their default learning rates, which the learning rate gene scales."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerKind:
    """An optimizer's class, its default learning rate and fixed arguments.

    decays: whether it knows weight decay. repeats: whether one step evaluates the loss several times.
    """

    factory: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    arguments: dict[str, Any] = field(default_factory=dict)
    decays: bool = True
    repeats: bool = False

    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """An optimizer over ``parameters``; weight decay reaches every one that has it."""
        decay = {"weight_decay": weight_decay} if self.decays else {}
        return self.factory(parameters, lr=learning_rate, **decay, **self.arguments)


# The published reference's defaults for each, not torch's (a fixed table: torch's change between versions).
OPTIMIZERS: dict[str, OptimizerKind] = {
    "adam": OptimizerKind(torch.optim.Adam, 1e-3),
    "adamw": OptimizerKind(torch.optim.AdamW, 1e-3),
    "adamax": OptimizerKind(torch.optim.Adamax, 2e-3),
    "nadam": OptimizerKind(torch.optim.NAdam, 2e-3),
    "radam": OptimizerKind(torch.optim.RAdam, 1e-3),
    "rmsprop": OptimizerKind(torch.optim.RMSprop, 1e-2),
    "sgd": OptimizerKind(torch.optim.SGD, 1e-2, {"momentum": 0.9}),
    "adagrad": OptimizerKind(torch.optim.Adagrad, 1e-2),
    "asgd": OptimizerKind(torch.optim.ASGD, 1e-2),
    "rprop": OptimizerKind(torch.optim.Rprop, 1e-2, decays=False),
    "lbfgs": OptimizerKind(torch.optim.LBFGS, 1.0, decays=False, repeats=True),
}
# Made for whole batches of the data (L-BFGS, Rprop) or slow to get anywhere (ASGD, Adagrad): out by default.
DEFAULT_OPTIMIZERS = tuple(name for name in OPTIMIZERS if name not in ("adagrad", "asgd", "rprop", "lbfgs"))
