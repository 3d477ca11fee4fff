"""Fusing networks of one ancestry into one: averaging, the greedy soup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Weights = Mapping[str, Tensor]


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
