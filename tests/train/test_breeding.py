"""Who is in a generation."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import Plan, branch_genes, generation_zero, next_generation, torch_seed
from gensoup.train.genes import Alphabet
from gensoup.train.ledger import Record
from gensoup.train.settings import Settings

ALPHABET = Alphabet(("one", "two", "three"))


def settings(**changes: object) -> Settings:
    values = {"population": 8, "population_step": 2, "population_min": 3, "generations": 5}
    return Settings(data="data", **{**values, **changes})  # type: ignore[arg-type]


def records(plans: list[Plan]) -> list[Record]:
    """Outcomes that get better with the index; of the last two, alike in MCC, the later has the better likelihood."""
    found = []
    for plan in plans:
        index = plan.place[2]
        mcc = min(index, len(plans) - 2) / 10
        recipe = ALPHABET.decode(plan.genes).to_dict()
        found.append(Record(plan.place, plan.genes, recipe, (), "", 64, 1, 1, 1.0, mcc=mcc, nll=2 - index / 10))
    return found


def test_population_shrinks_by_steps_to_the_least() -> None:
    assert [settings().population_of(generation) for generation in range(5)] == [8, 6, 4, 3, 3]
    plans = generation_zero(settings(), ALPHABET)
    assert len(plans) == 8
    for generation in (1, 2, 3):
        plans = next_generation(settings(), generation, records(plans))
        assert [plan.place for plan in plans] == [
            ("search", generation, index) for index in range(settings().population_of(generation))
        ]


@pytest.mark.parametrize(("size", "generations"), [(32, 3), (48, 2), (96, 4), (128, 6), (224, 7), (304, 20), (128, 1)])
def test_sizes_grow_in_multiples_of_16_to_the_deploy_size(size: int, generations: int) -> None:
    sizes = [settings(size=size, generations=generations).size_of(number) for number in range(generations)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == size
    assert all(value % 16 == 0 and 32 <= value <= size for value in sizes)
    if generations > 1:
        assert sizes[0] == pytest.approx(max(32, size * 2 / 3), abs=8)


def test_generation_zero_has_every_architecture_even_when_the_population_is_smaller() -> None:
    plans = generation_zero(settings(population=2), ALPHABET)
    recipes = [ALPHABET.decode(plan.genes) for plan in plans]
    assert [recipe.architecture for recipe in recipes] == ["one", "two", "three"]
    assert {(recipe.loss, recipe.optimizer) for recipe in recipes} == {("label_smoothing", "adamw")}
    assert all(plan.parents == () for plan in plans)


def test_the_best_is_copied_to_place_zero_and_trains_on() -> None:
    before = records(generation_zero(settings(), ALPHABET))
    elite = next_generation(settings(), 1, before)[0]
    assert elite.genes == before[-1].genes  # ties in MCC go by likelihood
    assert [parent.name for parent in elite.parents] == [before[-1].name]


def test_parents_come_better_first_and_give_the_architecture() -> None:
    before = records(generation_zero(settings(), ALPHABET))
    plans = next_generation(settings(population_step=0), 1, before)[1:]
    assert any(len(plan.parents) == 2 for plan in plans)
    for plan in plans:
        assert plan.genes["architecture"] == plan.parents[0].genes["architecture"]
        assert 0.2 <= plan.share <= 0.8
        if len(plan.parents) == 2:
            assert plan.parents[0].rank < plan.parents[1].rank
            assert plan.share >= 0.5  # the fitter one's share


def test_the_same_seed_gives_the_same_plans_and_another_others() -> None:
    first, again = (generation_zero(settings(seed=3), ALPHABET) for _ in range(2))
    other = generation_zero(settings(seed=4), ALPHABET)
    assert first == again
    assert first != other
    before = records(first)
    assert next_generation(settings(seed=3), 1, before) == next_generation(settings(seed=3), 1, before)
    assert next_generation(settings(seed=3), 1, before) != next_generation(settings(seed=4), 1, before)
    assert next_generation(settings(seed=3), 1, before) == next_generation(settings(seed=3), 1, before[::-1])


def test_one_ancestor_is_enough_and_none_is_an_error() -> None:
    alone = records(generation_zero(settings(), ALPHABET))[:1]
    assert len(next_generation(settings(), 1, alone)) == settings().population_of(1)
    with pytest.raises(GenSoupError, match="generation 1"):
        next_generation(settings(), 1, [])


def test_branches_keep_the_best_ones_categories() -> None:
    ancestor = records(generation_zero(settings(), ALPHABET))[-1]
    assert branch_genes(settings(), ancestor, 0) == ancestor.genes
    others = [branch_genes(settings(), ancestor, index) for index in (1, 2)]
    assert others[0] != others[1]
    for genes in others:
        assert genes != ancestor.genes
        assert {name: genes[name] for name in ("architecture", "loss", "optimizer")} == {
            name: ancestor.genes[name] for name in ("architecture", "loss", "optimizer")
        }


def test_seeds_differ_by_run_phase_generation_and_index(tmp_path: Path) -> None:
    places = [("search", 0, 0), ("search", 0, 1), ("search", 1, 0), ("branch", 0, 0)]
    seeds = {torch_seed(run, place) for run in (0, 1) for place in places}
    assert len(seeds) == 8
    assert torch_seed(0, ("search", 2, 3)) == torch_seed(0, ("search", 2, 3))
