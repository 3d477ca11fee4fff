"""Which genes mattered, held against chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gensoup.train.importance import FEWEST, categories, importance, numbers


def test_genes_are_named_by_what_they_stand_for(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics()[0]["individuals"]
    assert categories(individuals) == ["architecture", "loss", "optimizer"]
    assert numbers(individuals) == ["learning_rate", "weight_decay", "augmentation", "strong", "weak"]
    assert categories([]) == numbers([]) == []


def test_what_decides_is_told_from_chance_and_nothing_else(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics(generations=5, population=30)[0]["individuals"]
    found = importance(individuals)
    assert found["reason"] is None and found["individuals"] == 150
    genes = {gene["name"]: gene for gene in found["genes"]}
    assert set(genes) == {*categories(individuals), *numbers(individuals)}
    assert {gene["name"] for gene in found["genes"][:2]} == {"architecture", "learning_rate"}
    for name in ("architecture", "learning_rate"):
        assert genes[name]["value"] > genes[name]["chance"] and genes[name]["p"] < 0.02
    beyond = [name for name, gene in genes.items() if gene["value"] > gene["chance"]]
    assert len(beyond) <= 3  # of six that play no part, one in twenty passes by chance


def test_a_gain_over_the_generations_alone_is_no_importance(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics(generations=6, population=20)[0]["individuals"]
    rng = np.random.default_rng(3)
    for one in individuals:  # later generations inherit weights and drift in a gene that does nothing
        one["mcc"] = 0.1 * one["place"][1] + float(rng.normal(0, 0.01))
        one["genes"]["augmentation"] = min(1.0, 0.15 * one["place"][1] + 0.05 * float(rng.random()))
    genes = {gene["name"]: gene for gene in importance(individuals)["genes"]}
    assert genes["augmentation"]["p"] > 0.05


def test_the_same_individuals_give_the_same_numbers(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics()[0]["individuals"]
    np.random.seed(1)  # noqa: NPY002 - nothing may depend on the global generator
    first = importance(individuals)
    np.random.seed(2)  # noqa: NPY002
    assert importance(individuals) == first


def test_it_is_left_out_with_the_reason(make_metrics: Callable[..., Any]) -> None:
    few = make_metrics(generations=1, population=FEWEST - 1)[0]["individuals"]
    assert importance(few)["genes"] == [] and "19 complete individuals are too few" in importance(few)["reason"]
    individuals = make_metrics()[0]["individuals"]
    for one in individuals:
        one["mcc"] = 0.0
    assert "same MCC" in importance(individuals)["reason"]
    same = make_metrics()[0]["individuals"]
    for one in same:
        one["genes"], one["recipe"] = same[0]["genes"], same[0]["recipe"]
    assert "same genes" in importance(same)["reason"]


def test_failed_individuals_and_constant_genes_do_not_disturb(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics(architectures=1, failed=5)[0]["individuals"]
    found = importance(individuals)
    assert found["individuals"] == 27
    assert "architecture" not in {gene["name"] for gene in found["genes"]}
