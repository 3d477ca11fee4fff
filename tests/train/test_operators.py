"""Selection, crossover and mutation."""

from __future__ import annotations

import numpy as np
import pytest

from gensoup.train.genes import CATEGORIES
from gensoup.train.operators import (
    SHARE_BOUNDS,
    crossover,
    first_generation,
    mutate,
    normalised,
    pair,
    random_generation,
    share_of_first,
    tournament,
)

NUMBERS = ("augmentation", "learning_rate", "strong", "weight_decay")
NAMES = (*CATEGORIES, *NUMBERS)
REDRAW = dict.fromkeys(("loss", "optimizer", *NUMBERS), 0.05)
BETTER = dict.fromkeys(NAMES, 0.9)
WORSE = dict.fromkeys(NAMES, 0.1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_fitness_is_normalised_to_zero_and_one() -> None:
    np.testing.assert_allclose(normalised([0.2, 0.6, 0.4, -0.2]), [0.5, 1.0, 0.75, 0.0])


@pytest.mark.parametrize("value", [0.0, -0.3, 1.0])
def test_equal_fitness_gives_equal_weights_and_halves(value: float) -> None:
    scaled = normalised([value] * 4)
    np.testing.assert_array_equal(scaled, np.ones(4))
    assert share_of_first(scaled[0], scaled[1]) == 0.5


def test_the_best_always_wins_its_turn_and_the_worst_only_against_itself() -> None:
    ranks = [3, 0, 2, 1]
    drawn = [tournament(ranks, 4, rng(seed)) for seed in range(400)]
    assert all(1 in winners for winners in drawn)  # position 1 is the best: it has a turn, and nobody wins against it
    worst = sum(0 in winners for winners in drawn)
    assert worst == pytest.approx(100, abs=40)  # the worst survives when it draws itself, one time in four


def test_everyone_may_have_a_turn_though_fewer_are_wanted() -> None:
    winners = {winner for seed in range(2000) for winner in tournament(range(5), 2, rng(seed))}
    assert winners == set(range(5))


def test_everyone_has_a_turn_and_more_winners_than_individuals_go_round() -> None:
    assert len(tournament([0, 1, 2], 7, rng())) == 7
    # Alone against itself, everyone wins its own turn.
    assert tournament([0], 3, rng()) == [0, 0, 0]


def test_shares_follow_fitness_within_their_bounds() -> None:
    assert share_of_first(0.6, 0.4) == pytest.approx(0.6)
    assert share_of_first(1.0, 0.0) == SHARE_BOUNDS[1]
    assert share_of_first(0.0, 1.0) == SHARE_BOUNDS[0]
    assert share_of_first(0.0, 0.0) == 0.5


def test_pairs_are_of_different_winners_wherever_there_are_two() -> None:
    winners = [0, 0, 1, 0]
    for seed in range(20):
        matings = pair(winners, [0.9, 0.3], rng(seed))
        assert [mating.first for mating in matings] == winners
        assert all(mating.first != mating.second for mating in matings)
        for mating in matings:
            assert mating.share == (SHARE_BOUNDS[1] if mating.first == 0 else SHARE_BOUNDS[0])
    (alone,) = pair([0], [0.5], rng())
    assert (alone.first, alone.second) == (0, 0)


def test_crossover_averages_numbers_and_takes_categories_from_the_better() -> None:
    mixed = 0
    for seed in range(1000):
        child = crossover(BETTER, WORSE, 0.75, 0.9, rng(seed))
        assert {name: child[name] for name in CATEGORIES} == dict.fromkeys(CATEGORIES, 0.9)
        if child["learning_rate"] != 0.9:
            mixed += 1
            assert all(child[name] == pytest.approx(0.75 * 0.9 + 0.25 * 0.1) for name in NUMBERS)
        else:
            assert child == BETTER
    assert mixed / 1000 == pytest.approx(0.9, abs=0.04)
    assert dict.fromkeys(NAMES, 0.9) == BETTER  # arguments are left alone


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_mutation_stays_in_range_and_never_touches_the_architecture(value: float) -> None:
    genes = dict.fromkeys(NAMES, value)
    children = [mutate(genes, 0.1, REDRAW, rng(seed)) for seed in range(500)]
    assert all(0 <= gene <= 1 for child in children for gene in child.values())
    assert all(child["architecture"] == value for child in children)
    assert all(set(child) == set(NAMES) for child in children)
    assert genes == dict.fromkeys(NAMES, value)
    moved = [np.mean([child[name] != value for child in children]) for name in NUMBERS]
    assert min(moved) > 0.4  # at a bound every second step is cut off


def test_mutation_steps_are_small_and_redraws_rare() -> None:
    children = [mutate(dict.fromkeys(NAMES, 0.5), 0.1, REDRAW, rng(seed)) for seed in range(2000)]
    steps = np.array([child["learning_rate"] - 0.5 for child in children])
    assert np.median(np.abs(steps)) == pytest.approx(0.0674 * 1.03, abs=0.01)  # a Gaussian of σ .1, a little widened
    redrawn = np.mean([child["loss"] != 0.5 for child in children])
    assert redrawn == pytest.approx(0.05, abs=0.015)


def test_operators_depend_on_the_generator_alone() -> None:
    assert mutate(BETTER, 0.1, REDRAW, rng(3)) == mutate(BETTER, 0.1, REDRAW, rng(3))
    assert mutate(BETTER, 0.1, REDRAW, rng(3)) != mutate(BETTER, 0.1, REDRAW, rng(4))
    assert tournament(range(9), 9, rng(3)) == tournament(range(9), 9, rng(3))
    assert tournament(range(9), 9, rng(3)) != tournament(range(9), 9, rng(4))
    assert pair([0, 1, 2, 3, 4, 5], list(range(6)), rng(3)) == pair([0, 1, 2, 3, 4, 5], list(range(6)), rng(3))


def test_generation_zero_takes_architectures_in_turn_each_once_with_the_good_recipe() -> None:
    good = {"learning_rate": 0.8, "weight_decay": 0.7, "augmentation": 0.3, "loss": 0.3, "optimizer": 0.2}
    population = first_generation(7, NAMES, [0.25, 0.75], good, rng(1))
    assert [genes["architecture"] for genes in population] == [0.25, 0.75] * 3 + [0.25]
    for genes in population[:2]:
        assert {name: genes[name] for name in good} == good
        assert 0 <= genes["strong"] <= 1  # what the recipe leaves open is drawn
    drawn = [genes["learning_rate"] for genes in population[2:]]
    assert len(set(drawn)) == 5
    assert all(set(genes) == set(NAMES) for genes in population)


def test_the_thesis_mutation_redraws_at_its_rates_and_steps_nothing() -> None:
    rates = {"architecture": 0.4, "loss": 0.4, "learning_rate": 0.2}
    children = [mutate(dict.fromkeys(NAMES, 0.5), 0.0, rates, rng(seed)) for seed in range(2000)]
    for name in NAMES:
        moved = np.mean([child[name] != 0.5 for child in children])
        assert moved == pytest.approx(rates.get(name, 0.0), abs=0.035 if name in rates else 0)


def test_the_order_of_genes_plays_no_part() -> None:
    backwards = dict(reversed(BETTER.items()))
    assert mutate(BETTER, 0.1, REDRAW, rng(3)) == mutate(backwards, 0.1, REDRAW, rng(3))
    assert crossover(BETTER, WORSE, 0.3, 0.9, rng(3)) == crossover(backwards, WORSE, 0.3, 0.9, rng(3))


def test_a_drawn_generation_covers_the_range() -> None:
    drawn = np.array([list(genes.values()) for genes in random_generation(400, NAMES, rng())])
    assert drawn.shape == (400, len(NAMES))
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.06)
    np.testing.assert_allclose(drawn.std(0), 1 / np.sqrt(12), atol=0.03)
