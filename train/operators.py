"""The genetic operators: pure functions of their arguments and an explicit random generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gensoup.train.genes import NAMES, NUMBERS, Genes

CROSSOVER_RATE = 0.9
SHARE_BOUNDS = (0.2, 0.8)
MUTATION_SIGMA = 0.1
REDRAW_RATE = 0.05
# Categories that the weights depend on come with them from the better parent; a redraw of the architecture would
# throw the weights away, so it is left to generation 0.
REDRAWN = ("loss", "optimizer", *NUMBERS)


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


def crossover(better: Genes, worse: Genes, share_of_better: float, rng: Generator) -> dict[str, float]:
    """Offspring genes (alg. 2): with probability .9 the weighted mean of the numbers, else the better parent's.

    Categories come together from the better parent, as the weights do.
    """
    child = dict(better)
    if rng.random() < CROSSOVER_RATE:
        for name in NUMBERS:
            child[name] = share_of_better * better[name] + (1 - share_of_better) * worse[name]
    return child


def mutate(genes: Genes, rng: Generator) -> dict[str, float]:
    """Gaussian steps on the numbers, and a rare uniform redraw; never of the architecture."""
    child = dict(genes)
    for name in NUMBERS:
        child[name] = float(np.clip(child[name] + rng.normal(0, MUTATION_SIGMA), 0, 1))
    for name in REDRAWN:
        if rng.random() < REDRAW_RATE:
            child[name] = float(rng.random())
    return child


def first_generation(
    count: int, architecture_genes: Sequence[float], good: Genes, rng: Generator
) -> list[dict[str, float]]:
    """Genes of generation 0: architectures in turn, the first of each with the ``good`` recipe, the rest drawn."""
    population = []
    for index in range(count):
        drawn = {name: float(rng.random()) for name in NAMES}
        if index < len(architecture_genes):
            drawn = dict(good)
        drawn["architecture"] = architecture_genes[index % len(architecture_genes)]
        population.append(drawn)
    return population
