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

from gensoup.export.transfer import sent
from gensoup.runtime.device import usable_cores
from gensoup.train.allocator import keep_freed_memory
from gensoup.train.astrocytes import AstrocyteCounts, Astrocytes, AstrocyteSettings
from gensoup.train.augment import augmented
from gensoup.train.failure import DivergedError
from gensoup.train.genes import Recipe
from gensoup.train.images import Frames
from gensoup.train.losses import LOSSES
from gensoup.train.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Examples:
    """Images of one size, uint8 BGR [N, H, W, 3], in memory or a memory map's, and class indices [N]."""

    images: Frames
    targets: NDArray[np.int64]
    classes: int

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps: a linear warm-up, then a part of a cosine from 1 at 0 to 0 at 1.

    start, end: that part; both 0 is a constant rate. warm_up: share of the steps.
    """

    start: float = 0.0
    end: float = 0.0
    warm_up: float = 0.1

    def rate(self, step: int, steps: int) -> float:
        """The share of the learning rate at ``step``, from 0, of ``steps``."""
        warm = max(1, round(self.warm_up * steps)) if self.warm_up > 0 else 0
        done = max(0, step - warm) / max(1, steps - warm)
        cosine = 0.5 * (1 + math.cos(math.pi * (self.start + (self.end - self.start) * done)))
        return cosine * ((step + 1) / warm if step < warm else 1.0)


CONSTANT, ANNEALED = Schedule(), Schedule(end=1.0)


@dataclass(frozen=True)
class Course:
    """How long and how a network trains, beside its recipe.

    epochs: passes over the examples, fractions allowed. gradient_norm: gradients are clipped to it, 0: never. mixing:
    whether augmentation mixes images. average: keep an exponential average of the weights over about the last fifth of
    the steps. astrocytes: scale active and silent filters meanwhile; None does not.
    """

    epochs: float
    batch_size: int
    seed: int
    schedule: Schedule = CONSTANT
    gradient_norm: float = 5.0
    mixing: bool = True
    average: bool = False
    astrocytes: AstrocyteSettings | None = None


# Losses are looked at once in so many steps where looking means to wait for the device.
LOOK_EVERY = {"cpu": 1}
LOOK_ELSEWHERE = 32


@dataclass(frozen=True)
class Lesson:
    """What a training left behind. images: passes through the network, repeated ones too. averaged: the exponential
    average of the weights, where asked for. astrocytes: what they did, where there were any."""

    images: int
    averaged: Mapping[str, Tensor] | None
    astrocytes: AstrocyteCounts | None = None


def train(
    model: nn.Module,
    examples: Examples,
    recipe: Recipe,
    course: Course,
    device: torch.device,
    on_step: Callable[[int, int], None] | None = None,
    *,
    precision: torch.dtype | None = None,
    look_every: int | None = None,
) -> Lesson:
    """Train ``model`` in place. All randomness comes from the course's seed.

    precision: of the forward pass, see :func:`mixed_precision`, which decides where it is None. look_every: steps after
    which the losses are looked at. Raises DivergedError when one is no number.
    """
    keep_freed_memory()
    precision = precision or mixed_precision(device)
    torch.manual_seed(course.seed)  # dropout and stochastic depth draw from the global generator
    batch_size = min(course.batch_size, len(examples))
    steps = steps_of(examples, course.epochs, course.batch_size)
    loss_of = LOSSES[recipe.loss]
    kind = OPTIMIZERS[recipe.optimizer]
    # L-BFGS views gradients as vectors, which only contiguous ones are.
    layout = torch.contiguous_format if kind.repeats else torch.channels_last
    evaluations = 0
    model.train().to(memory_format=layout)
    # After that: a state that is laid out otherwise than its tensor is stepped slowly, or by one kernel not at all.
    optimizer = kind.build(model.parameters(), recipe.learning_rate, recipe.weight_decay)
    averager = _Averager(model, steps) if course.average else None
    losses = _Losses(steps, device, look_every or LOOK_EVERY.get(device.type, LOOK_ELSEWHERE))
    parameters = list(model.parameters())
    watched: contextlib.AbstractContextManager[Astrocytes | None] = contextlib.nullcontext()
    if course.astrocytes is not None:
        watched = course.astrocytes.attach(model, course.seed)
    with watched as glia:
        for step, (planes, targets) in enumerate(_batches(examples, recipe, course, steps, batch_size, device, layout)):

            def evaluate(planes: Tensor = planes, targets: Tensor = targets, step: int = step) -> Tensor:
                nonlocal evaluations
                evaluations += 1
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(device.type, precision, enabled=precision is not None):
                    logits = model(planes)
                loss = loss_of(logits.float(), targets)
                losses.note(step, loss)
                loss.backward()
                if course.gradient_norm:
                    nn.utils.clip_grad_norm_(parameters, course.gradient_norm)
                return loss.detach()

            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * course.schedule.rate(step, steps)
            optimizer.step(evaluate)  # type: ignore[arg-type]  # a closure's loss may be a tensor
            if glia is not None:
                glia.step()
            if averager is not None:
                averager.update()
            if on_step is not None:
                on_step(step + 1, steps)
        losses.look()
        counts = None if glia is None else glia.counts()
    return Lesson(evaluations * batch_size, averager.weights if averager is not None else None, counts)


def mixed_precision(device: torch.device) -> torch.dtype | None:
    """What the forward pass is computed in: bfloat16 on a GPU that has it, whose range needs no scaling of the loss.

    None, for float32, on CPUs: on one with bfloat16 instructions a step of MobileNetV3-Small took 2.1 × as long with
    it, of ShuffleNetV2 x1.0 1.3 ×.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return None


def steps_of(examples: Examples, epochs: float, batch_size: int) -> int:
    """Steps of so many passes, fractions allowed: whole batches alone, and one step at least."""
    return max(1, round(steps_of_a_pass(examples, batch_size) * epochs))


def steps_of_a_pass(examples: Examples, batch_size: int) -> int:
    """Whole batches in the examples; of fewer examples than a batch, one."""
    return len(examples) // min(batch_size, len(examples))


def _batches(
    examples: Examples,
    recipe: Recipe,
    course: Course,
    steps: int,
    batch_size: int,
    device: torch.device,
    layout: torch.memory_format = torch.channels_last,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches, each epoch in a new order. Where the training leaves cores free, or is on another device, the
    next one is made by a thread of its own while one trains."""
    per_epoch = len(examples) // batch_size  # the rest of an epoch is left out: batch norm dislikes tiny batches
    generator = torch.Generator().manual_seed(course.seed)
    order = torch.empty(0, dtype=torch.int64)

    def make(step: int) -> tuple[Tensor, Tensor]:
        nonlocal order
        position = step % per_epoch
        if position == 0:
            order = torch.randperm(len(examples), generator=generator)
        batch = np.sort(order[position * batch_size : (position + 1) * batch_size].numpy())
        frames = torch.as_tensor(examples.images[batch])
        hot = functional.one_hot(torch.from_numpy(examples.targets[batch]), examples.classes).float()
        frames, hot = (sent(values, device) for values in (frames, hot))
        planes, targets = augmented(frames, hot, recipe.augmentation, generator, mixing=course.mixing)
        return planes.contiguous(memory_format=layout), targets

    if device.type == "cpu" and torch.get_num_threads() >= usable_cores():
        # Two teams of threads would wait for each other, spinning, on the same cores.
        yield from map(make, range(steps))
        return
    with ThreadPoolExecutor(1, thread_name_prefix="augment") as thread:
        following = thread.submit(make, 0)
        for step in range(steps):
            batch = following.result()
            if step + 1 < steps:
                following = thread.submit(make, step + 1)
            yield batch


class _Losses:
    """The losses of all steps, kept on the device and looked at now and then, for each look waits for the device."""

    def __init__(self, steps: int, device: torch.device, every: int) -> None:
        self.every = every
        self._values = torch.zeros(steps, device=device)
        self._noted = self._seen = 0

    def note(self, step: int, loss: Tensor) -> None:
        """Raises DivergedError, naming the first step, once a look finds what is no number."""
        self._values[step] = loss.detach()
        self._noted = step + 1
        if self._noted - self._seen >= self.every or self.every == 1:
            self.look()

    def look(self) -> None:
        """At all losses since the last look."""
        values = self._values[self._seen : self._noted].tolist()
        for step, value in enumerate(values, self._seen + 1):
            if not math.isfinite(value):
                raise DivergedError(f"the loss became {value} at step {step} of {len(self._values)}")
        self._seen = max(0, self._noted - 1)  # a step that is evaluated again has another loss


class _Averager:
    """Exponential average of all float tensors, batch-norm statistics too; integers are copied."""

    def __init__(self, model: nn.Module, steps: int) -> None:
        """model: its tensors stay where they are from here on."""
        self.decay = 1 - 1 / max(2.0, steps / 10)
        followed = model.state_dict()
        self.weights = {name: value.detach().clone() for name, value in followed.items()}
        floating = [name for name, value in followed.items() if value.is_floating_point()]
        whole = [name for name in followed if name not in set(floating)]
        self._means, self._values = ([each[name] for name in floating] for each in (self.weights, followed))
        self._copies, self._originals = ([each[name] for name in whole] for each in (self.weights, followed))

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._means, self._values, 1 - self.decay)
        if self._copies:
            torch._foreach_copy_(self._copies, self._originals)
