"""Who is in a generation: a pure function of the seed and of the generation before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gensoup.runtime.errors import GenSoupError
from gensoup.train.genes import CATEGORIES, Alphabet
from gensoup.train.ledger import Place, Record
from gensoup.train.operators import crossover, first_generation, mutate, pair, random_generation, tournament
from gensoup.train.settings import Settings

# A fixed recipe that does well for fine-tuning as for random weights, in generation 0 of every architecture of a race.
GOOD_RECIPE = {"learning_rate": 0.54, "weight_decay": 2.8e-3, "augmentation": 0.1}
GOOD_LOSS, GOOD_OPTIMIZER = "label_smoothing", "adamw"
# Steps of both factors that an astrocyte schedule tries each epoch (thesis, experiment 2 of ch. 4).
FACTOR_STEPS = (-0.25, 0.0, 0.25)


@dataclass(frozen=True)
class Plan:
    """An individual before it is trained. parents: the better one first; share: the better one's part in an average."""

    place: Place
    genes: dict[str, float]
    parents: tuple[Record, ...]
    share: float = 1.0


def generation_zero(settings: Settings, alphabet: Alphabet) -> list[Plan]:
    """The first individuals: a race of all architectures, all drawn, or the plain start of an astrocyte schedule."""
    rng = rng_of(settings.seed, "genes", 0)
    if settings.mode == "astrocyte-schedule":
        (genes,) = random_generation(1, alphabet.names, rng)
        neutral: dict[str, float] = {
            name: alphabet.scales[name].encode(1.0) for name in ("strong", "weak") if name in alphabet.numbers
        }
        first: dict[str, float] = {"architecture": alphabet.encode_choice("architecture", alphabet.architectures[0])}
        return _factor_steps(alphabet, {**genes, **first, **neutral}, 0, ())
    count = settings.beginners(len(alphabet.architectures))
    if settings.start == "drawn":
        population = random_generation(count, alphabet.names, rng)
    else:
        architectures = [alphabet.encode_choice("architecture", name) for name in alphabet.architectures]
        population = first_generation(count, alphabet.names, architectures, good_genes(alphabet), rng)
    return [Plan(("search", 0, index), child, ()) for index, child in enumerate(population)]


def good_genes(alphabet: Alphabet) -> dict[str, float]:
    """The genes of the good fixed recipe, as far as the alphabet has its loss and optimizer."""
    genes = {name: alphabet.scales[name].encode(value) for name, value in GOOD_RECIPE.items()}
    if GOOD_LOSS in alphabet.losses:
        genes["loss"] = alphabet.encode_choice("loss", GOOD_LOSS)
    if GOOD_OPTIMIZER in alphabet.optimizers:
        genes["optimizer"] = alphabet.encode_choice("optimizer", GOOD_OPTIMIZER)
    return genes


def next_generation(settings: Settings, alphabet: Alphabet, generation: int, ancestors: Sequence[Record]) -> list[Plan]:
    """Offspring of the complete ``ancestors`` (the last generation and the frozen elite).

    Where weights are inherited the best one's copy trains on; the rest come from tournament, pairing, crossover and
    mutation. Raises GenSoupError when there is no ancestor.
    """
    ranked = sorted(ancestors, key=lambda record: record.rank(settings.judge))
    if not ranked:
        raise GenSoupError(f"generation {generation}: no individual before it could be trained")
    if settings.mode == "astrocyte-schedule":  # greedy: from the best of the last epoch, be an earlier one better
        last = max(record.place[1] for record in ranked)
        before = next(record for record in ranked if record.place[1] == last)
        return _factor_steps(alphabet, before.genes, generation, (before,))
    rng = rng_of(settings.seed, "genes", generation)
    plans = []
    if settings.inherit != "none":
        plans = [Plan(("search", generation, 0), dict(ranked[0].genes), (ranked[0],))]
    fitness = [record.mcc for record in ranked]
    winners = tournament(range(len(ranked)), settings.population_of(generation) - len(plans), rng)
    for index, mating in enumerate(pair(winners, fitness, rng), len(plans)):
        share = mating.share if mating.first <= mating.second else 1 - mating.share
        better, worse = sorted((mating.first, mating.second))
        mixed = crossover(ranked[better].genes, ranked[worse].genes, share, settings.crossover_rate, rng)
        genes = mutate(mixed, settings.mutation_sigma, settings.redraw, rng)
        parents = (ranked[better],) if better == worse else (ranked[better], ranked[worse])
        plans.append(Plan(("search", generation, index), genes, parents, share))
    return plans


def branch_genes(settings: Settings, ancestor: Record, index: int) -> dict[str, float]:
    """Genes of a continuation of the best: its own for the first, slightly mutated ones for the others."""
    if index == 0:
        return dict(ancestor.genes)
    rng = rng_of(settings.seed, "branch", index)
    redraw = {name: rate for name, rate in settings.redraw.items() if name not in CATEGORIES}
    return mutate(ancestor.genes, settings.mutation_sigma, redraw, rng)


def rng_of(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A random generator that depends on the run's seed, a purpose and a place alone."""
    return np.random.default_rng([seed, *purpose.encode(), *numbers])


def torch_seed(seed: int, place: Place) -> int:
    """The seed of batches and augmentation at a place."""
    phase, generation, index = place
    return int(rng_of(seed, phase, generation, index).integers(2**62))


def _factor_steps(
    alphabet: Alphabet, genes: dict[str, float], generation: int, parents: tuple[Record, ...]
) -> list[Plan]:
    """Nine children: every step of both factors from where the parent stands, without bounds; the control, whose
    factors are fixed, trains nine plain repeats."""
    plans = []
    for index, (strong, weak) in enumerate((one, other) for one in FACTOR_STEPS for other in FACTOR_STEPS):
        child = dict(genes)
        for name, step in (("strong", strong), ("weak", weak)):
            if name in alphabet.numbers:
                scale = alphabet.scales[name]
                child[name] += step / (scale.high - scale.low)
        plans.append(Plan(("search", generation, index), child, parents))
    return plans
