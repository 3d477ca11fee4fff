"""Fusing networks of one ancestry into one: averaging, batch-norm statistics, the greedy soup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gensoup.export.graph import standardise, to_planes

Weights = Mapping[str, Tensor]
BATCH_NORM_BATCH = 64
BATCH_NORM_IMAGES = 512


def average(weights: Sequence[Weights], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of state dicts of one architecture (eq. 5.1); integer buffers are copied.

    Raises ValueError when the networks do not match or the shares do not sum to one.
    """
    first = weights[0]
    shapes = {name: value.shape for name, value in first.items()}
    if any({name: value.shape for name, value in other.items()} != shapes for other in weights[1:]):
        raise ValueError("only networks of one architecture can be averaged")
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must sum to one, got {sum(shares)}")
    mean = {}
    for name, value in first.items():
        if value.is_floating_point():
            total = sum(other[name].double() * share for other, share in zip(weights, shares, strict=True))
            assert isinstance(total, Tensor)
            mean[name] = total.to(value.dtype)
        else:
            mean[name] = value.clone()
    return mean


def reestimate_batch_norm(model: nn.Module, images: NDArray[np.uint8], device: torch.device) -> int:
    """Estimate batch-norm statistics again on clean training images (uint8 BGR [N, H, W, 3]), as an average fits none.

    At most BATCH_NORM_IMAGES, evenly spread. Returns how many images passed; 0 where there is no batch norm.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return 0
    kept = [(layer.momentum, layer.training) for layer in layers]
    training = model.training
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean over the batches
        layer.train()
    count = min(BATCH_NORM_IMAGES, len(images))
    chosen = np.linspace(0, len(images) - 1, count).round().astype(int)  # evenly: images come sorted by class
    order = np.random.default_rng(0).permutation(chosen)  # a batch must not be of one class alone
    with torch.inference_mode():
        for batch in np.array_split(order, -(-count // BATCH_NORM_BATCH)):  # of equal size, for each weighs the same
            model(standardise(to_planes(torch.from_numpy(images[np.sort(batch)]).to(device))))
    model.train(training)
    for layer, (momentum, was_training) in zip(layers, kept, strict=True):
        layer.momentum = momentum
        layer.train(was_training)
    return count


@dataclass(frozen=True)
class Ingredient:
    """A candidate of the soup: its name, weights and loss on ``search`` (what orders) and ``soup`` (what accepts)."""

    name: str
    weights: Weights
    search_loss: float
    soup_loss: float


@dataclass(frozen=True)
class SoupStep:
    """One trial of the greedy soup."""

    name: str
    loss: float
    accepted: bool


@dataclass(frozen=True)
class Soup:
    """The outcome: the ingredients' names, fused weights, their loss on ``soup`` and every trial made."""

    names: tuple[str, ...]
    weights: Weights
    loss: float
    steps: tuple[SoupStep, ...]


def greedy_soup(ingredients: Sequence[Ingredient], fuse: Callable[[Sequence[Weights]], tuple[Weights, float]]) -> Soup:
    """The greedy soup (Wortsman et al. 2022, alg. 1): from the best on, each is kept if the mean does not get worse.

    ingredients: of one ancestry. fuse: averages weights, repairs their statistics and returns them with their loss on
    ``soup``. The result is never worse on ``soup`` than the best single ingredient, which is returned alone otherwise.
    """
    ordered = sorted(ingredients, key=lambda ingredient: (ingredient.search_loss, ingredient.name))
    best = min(ordered, key=lambda ingredient: (ingredient.soup_loss, ingredient.name))
    kept = [ordered[0]]
    weights, loss = ordered[0].weights, ordered[0].soup_loss
    steps = [SoupStep(ordered[0].name, loss, True)]
    for candidate in ordered[1:]:
        fused, fused_loss = fuse([ingredient.weights for ingredient in [*kept, candidate]])
        accepted = fused_loss <= loss
        steps.append(SoupStep(candidate.name, fused_loss, accepted))
        if accepted:
            kept, weights, loss = [*kept, candidate], fused, fused_loss
    if best.soup_loss < loss:
        steps.append(SoupStep(f"{best.name} alone", best.soup_loss, True))
        kept, weights, loss = [best], best.weights, best.soup_loss
    return Soup(tuple(ingredient.name for ingredient in kept), weights, loss, tuple(steps))
