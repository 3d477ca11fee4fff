"""Training one network for some epochs: the inner loop of everything."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gensoup.train.astrocytes import AstrocyteCounts, Astrocytes, AstrocyteSettings
from gensoup.train.augment import augmented
from gensoup.train.genes import Recipe
from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import OPTIMIZERS

WARM_UP = 0.1  # share of the steps; the optimizer's state starts anew with every individual
GRADIENT_NORM = 5.0


class DivergedError(RuntimeError):
    """The loss is no number any more."""


@dataclass(frozen=True)
class Examples:
    """Images of one size, uint8 BGR [N, H, W, 3], and class indices [N]."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]
    classes: int

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Lesson:
    """What a training left behind. averaged: the exponential average of the weights, where asked for.

    astrocytes: what they did, where there were any.
    """

    images: int
    averaged: Mapping[str, Tensor] | None
    astrocytes: AstrocyteCounts | None = None


def train(
    model: nn.Module,
    examples: Examples,
    recipe: Recipe,
    *,
    epochs: float,
    batch_size: int,
    seed: int,
    device: torch.device,
    anneal: bool = False,
    average: bool = False,
    astrocytes: AstrocyteSettings | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Lesson:
    """Train ``model`` in place for ``epochs`` passes (fractions allowed) over ``examples``.

    anneal: cosine to zero instead of a constant learning rate, both after a warm-up. average: keep an exponential
    average of the weights over about the last fifth of the steps. astrocytes: scale active and silent filters while it
    trains; None does not. All randomness comes from ``seed``.
    Raises DivergedError when the loss is no number.
    """
    torch.manual_seed(seed)  # dropout and stochastic depth draw from the global generator
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(batch_size, len(examples))
    steps = max(1, round(len(examples) // batch_size * epochs))
    loss_of = LOSSES[recipe.loss]
    optimizer = OPTIMIZERS[recipe.optimizer].build(model.parameters(), recipe.learning_rate, recipe.weight_decay)
    averager = _Averager(model, steps) if average else None
    model.train().to(memory_format=torch.channels_last)
    watched: contextlib.AbstractContextManager[Astrocytes | None] = contextlib.nullcontext()
    if astrocytes is not None:
        watched = astrocytes.attach(model, seed)
    with watched as glia:
        for step, (planes, targets) in enumerate(_batches(examples, recipe, steps, batch_size, generator, device)):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _schedule(step, steps, anneal)
            loss = loss_of(model(planes), targets)
            value = loss.item()
            if not math.isfinite(value):
                raise DivergedError(f"the loss became {value} at step {step + 1} of {steps}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimizer.step()
            if glia is not None:
                glia.step()
            if averager is not None:
                averager.update(model)
            if on_step is not None:
                on_step(step + 1, steps)
    return Lesson(
        steps * batch_size,
        averager.weights if averager is not None else None,
        glia.counts() if glia is not None else None,
    )


def _batches(
    examples: Examples, recipe: Recipe, steps: int, batch_size: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches, each epoch in a new order. The next one is made by a thread of its own while one trains."""
    per_epoch = len(examples) // batch_size  # the rest of an epoch is left out: batch norm dislikes tiny batches
    order = torch.empty(0, dtype=torch.int64)

    def make(step: int) -> tuple[Tensor, Tensor]:
        nonlocal order
        position = step % per_epoch
        if position == 0:
            order = torch.randperm(len(examples), generator=generator)
        batch = np.sort(order[position * batch_size : (position + 1) * batch_size].numpy())
        frames = torch.from_numpy(examples.images[batch]).to(device)
        hot = functional.one_hot(torch.from_numpy(examples.targets[batch]), examples.classes).float().to(device)
        planes, targets = augmented(frames, hot, recipe.augmentation, generator)
        return planes.contiguous(memory_format=torch.channels_last), targets

    with ThreadPoolExecutor(1, thread_name_prefix="augment") as thread:
        following = thread.submit(make, 0)
        for step in range(steps):
            batch = following.result()
            if step + 1 < steps:
                following = thread.submit(make, step + 1)
            yield batch


def _schedule(step: int, steps: int, anneal: bool) -> float:
    """The share of the learning rate at ``step``: linear warm-up, then constant or a cosine to zero."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) if anneal else 1.0


class _Averager:
    """Exponential average of all float tensors, batch-norm statistics too; integers are copied."""

    def __init__(self, model: nn.Module, steps: int) -> None:
        self.decay = 1 - 1 / max(2.0, steps / 10)
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - self.decay)
            else:
                self.weights[name].copy_(value)
