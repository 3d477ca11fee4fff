"""Who is in a generation."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.runtime.errors import GenSoupError
from gensoup.train.breeding import Plan, branch_genes, generation_zero, next_generation, torch_seed
from gensoup.train.genes import DEFAULT_SCALES, Alphabet, Scale
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
        plans = next_generation(settings(), ALPHABET, generation, records(plans))
        assert [plan.place for plan in plans] == [
            ("search", generation, index) for index in range(settings().population_of(generation))
        ]


@pytest.mark.parametrize(("size", "generations"), [(32, 3), (48, 2), (96, 4), (128, 6), (224, 7), (304, 20), (128, 1)])
def test_sizes_grow_in_multiples_of_16_to_the_deploy_size(size: int, generations: int) -> None:
    sizes = [settings(sizes=(size,), generations=generations).size_of(number, size) for number in range(generations)]
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
    elite = next_generation(settings(), ALPHABET, 1, before)[0]
    assert elite.genes == before[-1].genes  # ties in MCC go by likelihood
    assert [parent.name for parent in elite.parents] == [before[-1].name]


def test_parents_come_better_first_and_give_the_architecture() -> None:
    before = records(generation_zero(settings(), ALPHABET))
    plans = next_generation(settings(population_step=0), ALPHABET, 1, before)[1:]
    assert any(len(plan.parents) == 2 for plan in plans)
    for plan in plans:
        assert plan.genes["architecture"] == plan.parents[0].genes["architecture"]
        assert 0.2 <= plan.share <= 0.8
        if len(plan.parents) == 2:
            assert plan.parents[0].rank() < plan.parents[1].rank()
            assert plan.share >= 0.5  # the fitter one's share


def test_the_same_seed_gives_the_same_plans_and_another_others() -> None:
    first, again = (generation_zero(settings(seed=3), ALPHABET) for _ in range(2))
    other = generation_zero(settings(seed=4), ALPHABET)
    assert first == again
    assert first != other
    before = records(first)
    assert next_generation(settings(seed=3), ALPHABET, 1, before) == next_generation(
        settings(seed=3), ALPHABET, 1, before
    )
    assert next_generation(settings(seed=3), ALPHABET, 1, before) != next_generation(
        settings(seed=4), ALPHABET, 1, before
    )
    assert next_generation(settings(seed=3), ALPHABET, 1, before) == next_generation(
        settings(seed=3), ALPHABET, 1, before[::-1]
    )


def test_one_ancestor_is_enough_and_none_is_an_error() -> None:
    alone = records(generation_zero(settings(), ALPHABET))[:1]
    assert len(next_generation(settings(), ALPHABET, 1, alone)) == settings().population_of(1)
    with pytest.raises(GenSoupError, match="generation 1"):
        next_generation(settings(), ALPHABET, 1, [])


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


def test_without_inheritance_nobody_is_copied() -> None:
    alone = settings(inherit="none", population_step=0)
    before = records(generation_zero(alone, ALPHABET))
    plans = next_generation(alone, ALPHABET, 1, before)
    assert [plan.place[2] for plan in plans] == list(range(8))
    assert all(plan.genes != before[-1].genes for plan in plans)


def test_by_correlation_alone_ties_go_to_the_earlier() -> None:
    before = records(generation_zero(settings(), ALPHABET))
    elite = next_generation(settings(judge="mcc"), ALPHABET, 1, before)[0]
    assert elite.genes == before[-2].genes


def test_a_drawn_start_has_no_recipe_for_everyone() -> None:
    plans = generation_zero(settings(start="drawn", population=40), ALPHABET)
    assert len({plan.genes["loss"] for plan in plans}) == 40
    assert {ALPHABET.decode(plan.genes).architecture for plan in plans} == {"one", "two", "three"}


FACTORS = {"strong": Scale("linear", 0.5, 1.5), "weak": Scale("linear", 0.5, 1.5)}


def test_an_astrocyte_schedule_tries_nine_steps_around_where_it_stands_without_bounds() -> None:
    alphabet = Alphabet(("one", "two"), scales={**DEFAULT_SCALES, **FACTORS})
    chosen = settings(mode="astrocyte-schedule")
    plans = generation_zero(chosen, alphabet)
    recipes = [alphabet.decode(plan.genes) for plan in plans]
    grid = {(one, other) for one in (0.75, 1.0, 1.25) for other in (0.75, 1.0, 1.25)}
    assert {(recipe.strong, recipe.weak) for recipe in recipes} == grid
    assert len({(recipe.architecture, recipe.learning_rate, recipe.loss) for recipe in recipes}) == 1
    assert recipes[0].architecture == "one"
    best = plans[-1]
    for generation in range(1, 5):
        record = Record(best.place, best.genes, {}, (), "", 64, 1, 1, 1.0, mcc=0.5)
        plans = next_generation(chosen, alphabet, generation, [record])
        assert all(plan.parents == (record,) for plan in plans)
        best = plans[-1]
    last = alphabet.decode(best.genes)
    assert (last.strong, last.weak) == (2.25, 2.25)


def test_the_control_of_a_schedule_is_nine_plain_repeats() -> None:
    plans = generation_zero(settings(mode="astrocyte-schedule"), ALPHABET)
    assert len(plans) == 9
    assert all(plan.genes == plans[0].genes for plan in plans)
    assert len({torch_seed(0, plan.place) for plan in plans}) == 9


def test_a_schedule_goes_on_from_the_last_epoch_though_an_earlier_one_was_better() -> None:
    alphabet = Alphabet(("one",), scales={**DEFAULT_SCALES, **FACTORS})
    chosen = settings(mode="astrocyte-schedule")
    plans = generation_zero(chosen, alphabet)
    earlier = Record(("search", 0, 3), plans[3].genes, {}, (), "", 64, 1, 1, 1.0, mcc=0.9)
    later = [Record(("search", 1, n), plans[n].genes, {}, (), "", 64, 1, 1, 1.0, mcc=0.1 * n) for n in range(3)]
    plans = next_generation(chosen, alphabet, 2, [*later, earlier])
    assert {parent.name for plan in plans for parent in plan.parents} == {later[2].name}
