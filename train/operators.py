"""The genetic operators: pure functions of their arguments and an explicit random generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gensoup.train.genes import CATEGORIES, Genes

SHARE_BOUNDS = (0.2, 0.8)


@dataclass(frozen=True)
class Mating:
    """Which two parents make an offspring (positions in the parents' generation) and the first's share of it."""

    first: int
    second: int
    share: float


def normalised(fitness: Sequence[float]) -> NDArray[np.float64]:
    """Fitness scaled to [0, 1] inside one generation (eq. 3.4); all equal gives all ones."""
    values = np.asarray(fitness, np.float64)
    low, high = values.min(), values.max()
    return np.ones_like(values) if high == low else (values - low) / (high - low)


def tournament(ranks: Sequence[int], winners: int, rng: Generator) -> list[int]:
    """Positions of ``winners`` winners (alg. 1): everyone, in turn, meets a uniformly drawn opponent, the better wins.

    ranks: of each individual, 0 the best, no two equal.
    """
    count = len(ranks)
    order = rng.permutation(count)  # with fewer winners than individuals, who gets a turn is drawn
    chosen = []
    for turn in range(winners):
        challenger, opponent = int(order[turn % count]), int(rng.integers(count))
        chosen.append(challenger if ranks[challenger] <= ranks[opponent] else opponent)
    return chosen


def share_of_first(fitness_first: float, fitness_second: float) -> float:
    """The first parent's weight in a fitness-weighted mean (eq. 3.5), clipped so that both are heard."""
    total = fitness_first + fitness_second
    share = 0.5 if total <= 0 else fitness_first / total
    return float(np.clip(share, *SHARE_BOUNDS))


def pair(winners: Sequence[int], fitness: Sequence[float], rng: Generator) -> list[Mating]:
    """Mate each winner with another uniformly drawn winner (itself, where there is no other)."""
    scaled = normalised(fitness)
    matings = []
    for first in winners:
        others = [other for other in winners if other != first] or [first]
        second = others[int(rng.integers(len(others)))]
        matings.append(Mating(first, second, share_of_first(float(scaled[first]), float(scaled[second]))))
    return matings


def crossover(better: Genes, worse: Genes, share_of_better: float, rate: float, rng: Generator) -> dict[str, float]:
    """Offspring genes (alg. 2): with probability ``rate`` the weighted mean of the numbers, else the better parent's.

    Categories come together from the better parent, as the weights do.
    """
    child = dict(better)
    if rng.random() < rate:
        for name in _numbers(better):
            child[name] = share_of_better * better[name] + (1 - share_of_better) * worse[name]
    return child


def mutate(genes: Genes, sigma: float, redraw: Mapping[str, float], rng: Generator) -> dict[str, float]:
    """Gaussian steps of standard deviation ``sigma`` on the numbers, then a uniform redraw of each gene at its rate.

    Genes that ``redraw`` does not name are never redrawn. Random numbers are drawn for every gene whatever the rates.
    """
    child = dict(genes)
    for name in _numbers(genes):
        child[name] = float(np.clip(child[name] + rng.normal(0, sigma), 0, 1))
    for name in sorted(genes):  # not in their order of insertion, which a ledger does not keep
        chance, drawn = rng.random(2)
        if chance < redraw.get(name, 0.0):
            child[name] = float(drawn)
    return child


def first_generation(
    count: int, names: Sequence[str], architecture_genes: Sequence[float], good: Genes, rng: Generator
) -> list[dict[str, float]]:
    """Genes of a race: architectures in turn, the first of each with the ``good`` recipe, the rest drawn."""
    population = []
    for index, drawn in enumerate(random_generation(count, names, rng)):
        if index < len(architecture_genes):
            drawn = {name: good.get(name, drawn[name]) for name in names}
        drawn["architecture"] = architecture_genes[index % len(architecture_genes)]
        population.append(drawn)
    return population


def random_generation(count: int, names: Sequence[str], rng: Generator) -> list[dict[str, float]]:
    """``count`` individuals, every gene drawn uniformly."""
    return [{name: float(rng.random()) for name in names} for _ in range(count)]


def _numbers(genes: Genes) -> list[str]:
    return [name for name in sorted(genes) if name not in CATEGORIES]
