"""Optimizers and their default learning rates, which the learning rate gene scales."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class OptimizerKind:
    """An optimizer's name in ``torch.optim``, its default learning rate and fixed arguments.

    decays: whether it knows weight decay. repeats: whether one step evaluates the loss several times.
    """

    factory: str
    learning_rate: float
    arguments: dict[str, Any] = field(default_factory=dict)
    decays: bool = True
    repeats: bool = False

    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """An optimizer over ``parameters``; weight decay reaches every one that has it."""
        import torch  # not above: settings are checked by these names before it is there

        decay = {"weight_decay": weight_decay} if self.decays else {}
        optimizer: torch.optim.Optimizer = getattr(torch.optim, self.factory)(
            parameters, lr=learning_rate, **decay, **self.arguments
        )
        return optimizer


# How all tensors are stepped, on CPUs and GPUs alike: in one kernel, where there is one, else in lists; measured on a
# CPU, AdamW's 142 tensors of MobileNetV3-Small take 2.4 ms in one kernel and 6.9 ms one by one, RAdam's 8.4 and 11.7.
_FUSED, _LISTS = {"fused": True}, {"foreach": True}

# The published reference's defaults for each, not torch's (a fixed table: torch's change between versions).
OPTIMIZERS: dict[str, OptimizerKind] = {
    "adam": OptimizerKind("Adam", 1e-3, _FUSED),
    "adamw": OptimizerKind("AdamW", 1e-3, _FUSED),
    "adamax": OptimizerKind("Adamax", 2e-3, _LISTS),
    "nadam": OptimizerKind("NAdam", 2e-3, _LISTS),
    "radam": OptimizerKind("RAdam", 1e-3, _LISTS),
    "rmsprop": OptimizerKind("RMSprop", 1e-2),
    "sgd": OptimizerKind("SGD", 1e-2, {"momentum": 0.9, **_FUSED}),
    "adagrad": OptimizerKind("Adagrad", 1e-2, _LISTS),  # in one kernel only newer versions step it on a GPU
    "asgd": OptimizerKind("ASGD", 1e-2),
    "rprop": OptimizerKind("Rprop", 1e-2, decays=False),
    "lbfgs": OptimizerKind("LBFGS", 1.0, decays=False, repeats=True),
}
# Made for whole batches of the data (L-BFGS, Rprop) or slow to get anywhere (ASGD, Adagrad): out by default.
DEFAULT_OPTIMIZERS = tuple(name for name in OPTIMIZERS if name not in ("adagrad", "asgd", "rprop", "lbfgs"))
