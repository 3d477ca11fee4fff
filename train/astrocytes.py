"""Artificial astrocytes: while a network trains, they strengthen filters that stay active and weaken silent ones.

Algorithm 3. A filter is an output channel of a convolution (grouped and depthwise ones too) or an output unit of a
linear layer. Each training step is an iteration; it gives every filter f one value in [-1, 1] from its outputs
a[n, f, p] over the images n of the batch and the positions p:

    thesis   max_p tanh(sum_n a[n, f, p])
    mean     tanh(mean_{n, p} a[n, f, p])

"Global maximum" of the thesis is read as global max pooling, which leaves one value a filter; dividing by the layer's
largest value instead would turn the signs around in a layer of silent filters. The thesis' form saturates: measured
on three networks at 96 px and batch 32, the first round strengthens 62 to 87% of all filters and weakens 8 to 26%.
``mean``, the default, keeps the size of the activity; but the convolutions in front of batch norm have means near zero,
and of a network made of those (ShuffleNetV2, MobileNetV3) fewer than 1% of the filters pass the threshold.

Counters add the values up over ``iterations`` steps. Filters whose counter then lies beyond ``threshold`` have their
weights multiplied by ``strong``, below ``-threshold`` by ``weak``, and all counters start again. Weights alone, as the
algorithm says: the bias stays.

In front of batch norm a factor changes no output, only how far later gradients turn the filter; elsewhere it scales the
output itself. Either way it feeds back: a filter made stronger counts as active again. Unchecked, a factor of 1.5 every
fourth step overflows float32 after some 220 rounds, 900 steps. So what one training does to a filter stays within
[1/8, 8] (``guard``), in both forms; a factor that would lead out of it is not applied. The next training counts anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gensoup.runtime.errors import UsageError

Form = Literal["mean", "thesis"]
ITERATIONS = 4
THRESHOLD = 2.0
GUARD = 8.0


@dataclass(frozen=True)
class AstrocyteFactors:
    """What the weights of filters are multiplied by. strong: of active ones; weak: of silent ones.

    Any finite number: the genes have bounds of their own, the greedy schedule steps without.
    """

    strong: float
    weak: float

    def __post_init__(self) -> None:
        for name, value in (("strong", self.strong), ("weak", self.weak)):
            if not math.isfinite(value):
                raise UsageError(f"astrocytes: {name} is {value}: must be a finite number")

    @property
    def neutral(self) -> bool:
        """Whether no weight ever changes."""
        return self.strong == self.weak == 1.0


@dataclass(frozen=True)
class AstrocyteSettings:
    """How a training uses astrocytes; see the module and :class:`Astrocytes`."""

    factors: AstrocyteFactors
    form: Form = "mean"
    iterations: int = ITERATIONS
    threshold: float = THRESHOLD
    shuffled: bool = False
    guard: float | None = GUARD

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise UsageError(f"astrocytes: form is '{self.form}': must be one of {', '.join(get_args(Form))}")
        if self.iterations < 1:
            raise UsageError(f"astrocytes: iterations is {self.iterations}: must be at least 1")
        if not 0 <= self.threshold < self.iterations:
            raise UsageError(
                f"astrocytes: threshold is {self.threshold}: must lie between 0 and the iterations, "
                f"{self.iterations}, for a counter gains at most 1 in each"
            )
        if self.guard is not None and not 1 <= self.guard < math.inf:
            raise UsageError(f"astrocytes: guard is {self.guard}: must be a number from 1 on, or None for no guard")

    def attach(self, model: nn.Module, seed: int) -> Astrocytes:
        """Astrocytes on ``model`` until they are closed. seed: of the permutations, where ``shuffled``."""
        return Astrocytes(
            model,
            self.factors,
            form=self.form,
            iterations=self.iterations,
            threshold=self.threshold,
            shuffled=self.shuffled,
            seed=seed,
            guard=self.guard,
        )


@dataclass(frozen=True)
class AstrocyteCounts:
    """What astrocytes did. rounds: how often they compared the counters with the threshold; filters: under watch.

    potentiated, attenuated: filters multiplied by ``strong`` and ``weak``; held: left alone by the guard. All summed
    over the rounds, so at most rounds × filters together.
    """

    rounds: int
    filters: int
    potentiated: int
    attenuated: int
    held: int


class Astrocytes:
    """Watches the trainable ``nn.Conv2d`` and ``nn.Linear`` layers of a model, head included, and scales their filters.

    Call :meth:`step` after every ``optimizer.step()``. Outputs are seen by forward hooks, in training mode and where
    gradients are recorded; parameters keep their names, and :meth:`close` (or leaving the ``with`` block) leaves
    nothing behind in the model. With both factors at 1 training is the same to the last bit as without.
    """

    def __init__(
        self,
        model: nn.Module,
        factors: AstrocyteFactors,
        *,
        form: Form = "mean",
        iterations: int = ITERATIONS,
        threshold: float = THRESHOLD,
        shuffled: bool = False,
        seed: int = 0,
        guard: float | None = GUARD,
    ) -> None:
        """Hook into ``model``, which must be on its device already.

        shuffled: the control of an ablation, in which each layer's counters are permuted among its filters (random
        numbers from ``seed``) before they are compared: as many factors, on the wrong filters. guard: the bound of a
        filter's product of factors and of its reciprocal; None for no bound. Raises UsageError for settings that
        cannot be used.
        """
        self.settings = AstrocyteSettings(factors, form, iterations, threshold, shuffled, guard)
        self._generator = torch.Generator().manual_seed(seed) if shuffled else None
        self._steps = 0
        self._layers = [_Layer(module) for module in model.modules() if _is_watched(module)]
        self._handles = [layer.module.register_forward_hook(partial(self._see, layer)) for layer in self._layers]

    def __enter__(self) -> Astrocytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks out of the model; weights stay as they are. Closing twice is fine."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def step(self) -> None:
        """End an iteration; at the end of a round of them, scale the weights and start the counters again.

        Nothing is read back from the device, so the host does not wait for it.
        """
        self._steps += 1
        for layer in self._layers:
            layer.count()
        if self._steps % self.settings.iterations == 0:
            for layer in self._layers:
                layer.scale(self.settings, self._generator)

    def counts(self) -> AstrocyteCounts:
        """What has been done so far. Waits for the device: ask once, at the end."""
        done = [layer.done for layer in self._layers]
        potentiated, attenuated, held = torch.stack(done).sum(0).tolist() if done else (0, 0, 0)
        filters = sum(len(layer.counter) for layer in self._layers)
        return AstrocyteCounts(self._steps // self.settings.iterations, filters, potentiated, attenuated, held)

    def _see(self, layer: _Layer, module: nn.Module, inputs: Any, output: Tensor) -> None:
        # Without gradients nothing is learnt from this pass: statistics, or the first pass of checkpointing.
        if module.training and torch.is_grad_enabled():
            layer.see(filter_activity(output, self.settings.form, 1 if isinstance(module, nn.Conv2d) else -1))


def filter_activity(output: Tensor, form: Form, axis: int) -> Tensor:
    """One value in [-1, 1] a filter, float32 [C], from a layer's output whose filters lie along ``axis``.

    output: [N, C, H, W] of a convolution (axis 1), [N, C] or [N, ..., C] of a linear layer (axis -1).
    """
    planes = output.detach().movedim(axis, 1)
    if form == "thesis":
        return planes.sum(0, dtype=torch.float32).tanh().reshape(planes.shape[1], -1).amax(1)
    return planes.mean([0, *range(2, planes.dim())], dtype=torch.float32).tanh()


class _Layer:
    """One layer's counters, on the device of its weights."""

    def __init__(self, module: nn.Module) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        self.module = module
        self.counter = torch.zeros(len(weight), device=weight.device)
        self.product = torch.ones_like(self.counter)  # of all factors applied
        self.done = torch.zeros(3, dtype=torch.int64, device=weight.device)  # potentiated, attenuated, held
        self._seen: Tensor | None = None
        self._passes = 0

    def see(self, activity: Tensor) -> None:
        """Take in the activity [C] of one pass."""
        self._seen = activity if self._seen is None else self._seen + activity
        self._passes += 1

    def count(self) -> None:
        """Add the iteration's activity to the counters: the mean, where a shared layer or a closure made more passes
        than one, so that an iteration never counts for more than 1; nothing, where the layer had no part in it."""
        if self._seen is not None:
            self.counter += self._seen / self._passes
        self._seen, self._passes = None, 0

    def scale(self, settings: AstrocyteSettings, generator: torch.Generator | None) -> None:
        """Multiply the weights of filters beyond the threshold and start the counters again."""
        counter, factors = self.counter, settings.factors
        if generator is not None:
            counter = counter[torch.randperm(len(counter), generator=generator).to(counter.device)]
        active, silent = counter > settings.threshold, counter < -settings.threshold
        held = torch.zeros_like(active)
        if not factors.neutral:
            factor = torch.ones_like(counter).masked_fill_(active, factors.strong).masked_fill_(silent, factors.weak)
            if settings.guard is not None:
                reached = (self.product * factor).abs()
                held = (reached > settings.guard) | (reached < 1 / settings.guard)
                factor = torch.where(held, 1.0, factor)
            self.product *= factor
            weight = self.module.weight
            assert isinstance(weight, Tensor)
            weight.mul_(factor.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1)))
        self.done += torch.stack([(active & ~held).sum(), (silent & ~held).sum(), held.sum()])
        self.counter.zero_()


def _is_watched(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear) and module.weight.requires_grad
