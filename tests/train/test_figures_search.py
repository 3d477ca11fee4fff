"""Figures of the search, for runs of every shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from gensoup.train import figures_search
from gensoup.train.importance import categories, numbers
from gensoup.train.summary import pareto_front

SHAPES: dict[str, dict[str, Any]] = {
    "one individual": {"generations": 1, "population": 1, "architectures": 1},
    "a failed generation": {"generations": 2, "population": 3, "failed": 2},
    "timed": {"timed": True},
    "thirty generations of all": {"generations": 30, "population": 20, "architectures": 11},
}


def words(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES.keys())
def individuals(request: pytest.FixtureRequest, make_metrics: Callable[..., Any]) -> list[dict[str, Any]]:
    return list(make_metrics(**request.param)[0]["individuals"])


def test_convergence_names_generations_phases_and_architectures(individuals: list[dict[str, Any]]) -> None:
    shown = words(figures_search.convergence(individuals, 0.5))
    for expected in ("generation", "MCC on search", "best so far", "median", "branches", "final network"):
        assert expected in shown
    assert len({one["recipe"]["architecture"] for one in individuals}) <= 7 or re.search(r"others \(\d\)", shown)


def test_shares_have_a_panel_for_each_choice_that_fills_it(individuals: list[dict[str, Any]]) -> None:
    svg = figures_search.shares(individuals, categories(individuals))
    shown = words(svg)
    assert shown.count("100%") == 3
    for name in categories(individuals):
        assert name in shown


def test_numbers_have_a_panel_for_each_gene(individuals: list[dict[str, Any]]) -> None:
    shown = words(figures_search.numbers_over_time(individuals, numbers(individuals)))
    for name in numbers(individuals):
        assert name.replace("_", " ") in shown
    assert "$" not in shown


@pytest.mark.parametrize("cost", ["macs", "latency_ms"])
def test_tradeoff_draws_front_limit_and_final_network(cost: str, make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics(timed=True, failed=2)[0]["individuals"]
    front = pareto_front(individuals, cost)
    limit = 600e6 if cost == "macs" else 15.625
    shown = words(figures_search.tradeoff(individuals, front, cost, limit, (60e6 if cost == "macs" else 3.5, 0.6)))
    for expected in ("Pareto front", "final network", "limit", "multiply-adds" if cost == "macs" else "p99"):
        assert expected in shown
    without = figures_search.tradeoff(individuals, front, cost, None, (60e6 if cost == "macs" else 3.5, 0.6))
    assert "limit" not in words(without)


def test_a_limit_far_away_does_not_squeeze_the_points(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics()[0]["individuals"]
    svg = figures_search.tradeoff(individuals, pareto_front(individuals, "macs"), "macs", 1e15, (60e6, 0.6))
    assert "limit" not in words(svg)


def test_importance_tells_what_is_beyond_chance() -> None:
    genes = [{"name": "learning_rate", "value": 0.3, "chance": 0.1}, {"name": "loss", "value": 0.05, "chance": 0.1}]
    svg = figures_search.importance(genes)
    assert "learning rate" in words(svg) and "loss" in words(svg)
    assert figures_search.COLOURS[0].lower() in svg.lower()
    none = figures_search.importance([{**genes[1]}])
    assert figures_search.COLOURS[0].lower() not in none.lower()


def test_many_points_are_a_picture_and_few_are_not(make_metrics: Callable[..., Any]) -> None:
    few = figures_search.convergence(make_metrics()[0]["individuals"], 0.5)
    many = figures_search.convergence(make_metrics(generations=25, population=50)[0]["individuals"], 0.5)
    assert "data:image/png" not in few and "data:image/png" in many
    assert len(many) < 400_000


def test_ticks_of_a_narrow_range_are_told_apart(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics()[0]["individuals"]
    for number, one in enumerate(individuals):
        one["recipe"]["learning_rate"] = 1.1e-4 + 1e-5 * (number % 4)
    shown = re.findall(r"\d[.\d]*e-4", words(figures_search.numbers_over_time(individuals, ["learning_rate"])))
    assert len(shown) > 2 and len(set(shown)) == len(shown)
