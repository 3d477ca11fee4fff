"""What a report shows beyond raw scores."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gensoup.bench.metrics import calibration_error
from gensoup.train import summary


def individual(name: str, mcc: float, macs: float, phase: str = "search", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "place": [phase, 0, 0],
        "mcc": mcc,
        "macs": macs,
        "reason": None,
        "latency_ms": None,
    } | changes


def test_the_pareto_front_holds_what_nothing_as_cheap_matches() -> None:
    many = [
        individual("dear and best", 0.9, 500),
        individual("dominated", 0.5, 300),
        individual("cheap", 0.6, 100),
        individual("as cheap, worse", 0.55, 100),
        individual("equal, dearer", 0.6, 200),
        individual("failed", 0.99, 1, reason="RuntimeError: no"),
        individual("refit", 0.99, 1, phase="refit"),
    ]
    assert summary.pareto_front(many, "macs") == ["cheap", "dear and best"]
    assert summary.pareto_front(many, "latency_ms") == []
    assert summary.pareto_front([individual("timed", 0.1, 1, latency_ms=math.inf)], "latency_ms") == []


def test_no_individual_dominates_one_of_the_front(make_metrics: Callable[..., Any]) -> None:
    individuals = make_metrics(failed=2, timed=True)[0]["individuals"]
    done = summary.complete(individuals)
    for cost in summary.COSTS:
        front = summary.pareto_front(individuals, cost)
        assert front
        by_name = {one["name"]: one for one in done}
        for one in (by_name[name] for name in front):
            assert not any(
                other[cost] <= one[cost] and other["mcc"] >= one["mcc"] and other is not one for other in done
            )


def test_reliability_bins_give_the_calibration_error(make_metrics: Callable[..., Any]) -> None:
    _, truth, probabilities, _ = make_metrics(images=300)
    bins = summary.reliability(truth, probabilities)
    assert sum(step["count"] for step in bins) == 300
    gap = sum(abs(step["accuracy"] - step["confidence"]) * step["count"] for step in bins) / 300
    assert gap == pytest.approx(calibration_error(truth, probabilities), abs=1e-12)
    for step in bins:
        assert step["low"] < step["confidence"] <= step["high"]
        assert 0 <= step["accuracy_low"] <= step["accuracy"] <= step["accuracy_high"] <= 1


def test_a_wilson_interval_is_the_published_one() -> None:
    # 9 of 10: Newcombe 1998 and R's prop.test without correction give .596 to .982.
    truth, probabilities = np.array([0] * 9 + [1]), np.tile([0.7, 0.3], (10, 1))
    (step,) = summary.reliability(truth, probabilities)
    assert (step["accuracy_low"], step["accuracy_high"]) == pytest.approx((0.596, 0.982), abs=5e-4)


def test_intervals_of_classes_cover_the_binomial_ones_when_images_are_alone() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 400)
    predicted = np.where(rng.random(800) < 0.8, truth, 1 - truth)
    found = summary.per_class_intervals(truth, predicted, 2)
    recall = float((predicted[:400] == 0).mean())
    half = 1.96 * math.sqrt(recall * (1 - recall) / 400)
    assert found["recall"][0] == pytest.approx([recall - half, recall + half], abs=0.01)


def test_whole_groups_widen_the_intervals() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 10)
    truth = np.repeat([0, 1], 200)
    predicted = np.where(np.repeat(rng.random(40) < 0.7, 10), truth, 1 - truth)  # a group is right or wrong as one
    alone = summary.per_class_intervals(truth, predicted, 2)["recall"][0]
    together = summary.per_class_intervals(truth, predicted, 2, groups)["recall"][0]
    assert alone is not None and together is not None
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_without_a_mistake_the_interval_is_the_exact_bound_of_so_many_groups() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    groups = ["a", "a", "b", "b", "c", "d", "e", "f", "g", "h"]
    found = summary.per_class_intervals(truth, truth, 3, groups)
    assert found["recall"][0] == pytest.approx([0.025 ** (1 / 2), 1.0])  # two groups hold class 0
    assert found["recall"][1] == pytest.approx([0.025 ** (1 / 6), 1.0])
    assert found["specificity"][0] == pytest.approx([0.025 ** (1 / 6), 1.0])
    assert found["recall"][2] is None and found["precision"][2] is None  # nothing to divide by
    assert found["specificity"][2] == pytest.approx([0.025 ** (1 / 8), 1.0])
    one_scene = summary.per_class_intervals(truth[:3], np.array([0, 0, 1]), 2, ["a"] * 3)
    assert one_scene["recall"][0] == [0.0, 1.0]  # of one group nothing is known
    missed = summary.per_class_intervals(truth, np.zeros(10, int), 2, groups)
    assert missed["recall"][1] == pytest.approx([0.0, 1 - 0.025 ** (1 / 6)])


def test_the_expected_maximum_is_that_of_drawing() -> None:
    draws = np.random.default_rng(0).standard_normal((200_000, 12)).max(1)
    assert summary.expected_maximum(12) == pytest.approx(draws.mean(), abs=0.01)
    assert summary.expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert summary.expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-6)


def test_optimism_and_gap_follow_from_the_intervals(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics()[0]
    metrics["scores"]["search"] |= {"mcc": 0.8, "intervals": {"mcc": [0.8 - 0.196, 0.8 + 0.196]}}
    metrics["scores"]["test"] |= {"mcc": 0.5, "intervals": {"mcc": [0.5 - 0.196, 0.5 + 0.196]}}
    found = summary.overfitting(metrics)
    scored = summary.complete(metrics["individuals"])
    assert found["individuals"] == len(scored)
    assert found["best_mcc"] == max(one["mcc"] for one in scored)
    assert found["error"] == pytest.approx(0.1)
    assert found["optimism"] == pytest.approx(0.1 * summary.expected_maximum(len(scored)))
    assert found["gap"] == pytest.approx(0.3)
    margin = 0.196 * math.sqrt(2)
    assert found["gap_interval"] == pytest.approx([0.3 - margin, 0.3 + margin])
    metrics["scores"]["test"]["intervals"] = {}
    assert summary.overfitting(metrics)["gap_interval"] is None


def test_cost_adds_up_by_phase(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics(failed=2)[0]
    rows = summary.cost_of_phases(metrics["individuals"])
    assert [row["phase"] for row in rows] == ["search", "branch"]
    assert [row["failed"] for row in rows] == [2, 0]
    assert sum(row["images"] for row in rows) == metrics["images_trained"]
    assert sum(row["individuals"] for row in rows) == len(metrics["individuals"])


def test_phases_come_in_the_order_of_a_run() -> None:
    many = [individual(phase, 0, 0, phase) for phase in ("zeta", "refit", "branch", "alpha", "search")]
    assert summary.phases_of(many) == ["search", "branch", "refit", "alpha", "zeta"]


def test_enriched_metrics_are_plain_repeatable_and_leave_the_rest_alone(make_metrics: Callable[..., Any]) -> None:
    metrics, truth, probabilities, groups = make_metrics(failed=1, timed=True)
    before = copy.deepcopy(metrics)
    first = summary.enrich(metrics, truth, probabilities, groups)
    assert metrics == before
    assert {name: value for name, value in first.items() if name != "summary"} == before
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert summary.enrich(metrics, truth, probabilities, groups) == first
