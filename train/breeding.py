"""Who is in a generation: a pure function of the seed and of the generation before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gensoup.runtime.errors import GenSoupError
from gensoup.train.genes import Alphabet
from gensoup.train.ledger import Place, Record
from gensoup.train.operators import crossover, first_generation, mutate, pair, tournament
from gensoup.train.settings import Settings

# A fixed recipe that does well for fine-tuning as for random weights, in generation 0 of every architecture.
GOOD_RECIPE = {"learning_rate": 0.7, "weight_decay": 0.72, "augmentation": 0.3}
GOOD_LOSS, GOOD_OPTIMIZER = "label_smoothing", "adamw"


@dataclass(frozen=True)
class Plan:
    """An individual before it is trained. parents: the better one first; share: the better one's part in an average."""

    place: Place
    genes: dict[str, float]
    parents: tuple[Record, ...]
    share: float = 1.0


def generation_zero(settings: Settings, alphabet: Alphabet) -> list[Plan]:
    """Every architecture in turn, each once with the good recipe, the rest with random genes."""
    good = {
        **GOOD_RECIPE,
        "loss": alphabet.encode_choice("loss", GOOD_LOSS),
        "optimizer": alphabet.encode_choice("optimizer", GOOD_OPTIMIZER),
    }
    architectures = [alphabet.encode_choice("architecture", name) for name in alphabet.architectures]
    count = max(settings.population_of(0), len(architectures))
    genes = first_generation(count, architectures, good, rng_of(settings.seed, "genes", 0))
    return [Plan(("search", 0, index), child, ()) for index, child in enumerate(genes)]


def next_generation(settings: Settings, generation: int, ancestors: Sequence[Record]) -> list[Plan]:
    """Offspring of the complete ``ancestors`` (the last generation and the frozen elite).

    The best one's copy trains on; the rest come from tournament, pairing, crossover and mutation.
    Raises GenSoupError when there is no ancestor.
    """
    ranked = sorted(ancestors, key=lambda record: record.rank)
    if not ranked:
        raise GenSoupError(f"generation {generation}: no individual before it could be trained")
    rng = rng_of(settings.seed, "genes", generation)
    plans = [Plan(("search", generation, 0), dict(ranked[0].genes), (ranked[0],))]
    fitness = [record.mcc for record in ranked]
    offspring = settings.population_of(generation) - 1
    winners = tournament(range(len(ranked)), offspring, rng)
    for index, mating in enumerate(pair(winners, fitness, rng), 1):
        share = mating.share if mating.first <= mating.second else 1 - mating.share
        better, worse = sorted((mating.first, mating.second))
        genes = mutate(crossover(ranked[better].genes, ranked[worse].genes, share, rng), rng)
        parents = (ranked[better],) if better == worse else (ranked[better], ranked[worse])
        plans.append(Plan(("search", generation, index), genes, parents, share))
    return plans


def branch_genes(settings: Settings, ancestor: Record, index: int) -> dict[str, float]:
    """Genes of a continuation of the best: its own for the first, slightly mutated ones for the others."""
    if index == 0:
        return dict(ancestor.genes)
    rng = rng_of(settings.seed, "branch", index)
    child = mutate(ancestor.genes, rng)
    return {**child, **{name: ancestor.genes[name] for name in ("architecture", "loss", "optimizer")}}


def rng_of(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A random generator that depends on the run's seed, a purpose and a place alone."""
    return np.random.default_rng([seed, *purpose.encode(), *numbers])


def torch_seed(seed: int, place: Place) -> int:
    """The seed of batches and augmentation at a place."""
    phase, generation, index = place
    return int(rng_of(seed, phase, generation, index).integers(2**62))
