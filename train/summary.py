"""What a run's report shows beyond raw scores: pure functions from metrics and predictions to plain values.

``metrics`` is what ``metrics.json`` holds; an *individual* is one of its ``individuals``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gensoup.bench.metrics import CALIBRATION_BINS, per_class
from gensoup.train.importance import importance
from gensoup.train.settings import HEAT

Individual = Mapping[str, Any]
Floats = NDArray[np.float64]

# In the order in which a run goes through them; others follow by name.
PHASES = (HEAT, "search", "branch", "refit")
# Trained on ``search`` too, so its correlation there compares with nothing.
REFIT = "refit"
COSTS = ("macs", "latency_ms")
CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.96
RESAMPLES = 1000
_RESAMPLES_AT_ONCE = 100
RATIOS = ("precision", "recall", "specificity", "f1")


def enrich(
    metrics: Mapping[str, Any], truth: NDArray[np.integer], probabilities: Floats, groups: Sequence[Any] | None = None
) -> dict[str, Any]:
    """``metrics`` with ``summary``: ``pareto``, ``importance``, ``per_class_intervals``, ``reliability``,
    ``overfitting`` and ``cost``, all plain values for JSON.

    truth: class indices [N] of ``test``; probabilities: [N, K]; groups: a label an image, None: each is its own.
    The same input gives the same output to the last bit, but for the seconds in ``cost``.
    """
    individuals = metrics["individuals"]
    summary = {
        "pareto": {cost: pareto_front(individuals, cost) for cost in COSTS},
        "importance": importance(individuals),
        "per_class_intervals": per_class_intervals(truth, probabilities.argmax(1), probabilities.shape[1], groups),
        "reliability": reliability(truth, probabilities),
        "overfitting": overfitting(metrics),
        "cost": cost_of_phases(individuals),
    }
    return {**metrics, "summary": summary}


def complete(individuals: Sequence[Individual], *phases: str) -> list[Individual]:
    """Those that were trained and scored, of the given phases or of all but heats and the refit."""
    return [
        one
        for one in individuals
        if one["reason"] is None and (one["place"][0] in phases if phases else one["place"][0] not in (HEAT, REFIT))
    ]


def phases_of(individuals: Sequence[Individual]) -> list[str]:
    """The phases that occur, in the order of a run."""
    found = {one["place"][0] for one in individuals}
    return [*(phase for phase in PHASES if phase in found), *sorted(found - set(PHASES))]


def generations(individuals: Sequence[Individual]) -> dict[int, list[Individual]]:
    """The individuals of the search, failed ones too, by generation."""
    found: dict[int, list[Individual]] = {}
    for one in individuals:
        if one["place"][0] == "search":
            found.setdefault(one["place"][1], []).append(one)
    return dict(sorted(found.items()))


def pareto_front(individuals: Sequence[Individual], cost: str) -> list[str]:
    """Names of the complete individuals that no cheaper one, or one as cheap, matches in MCC; the cheapest first.

    cost: ``macs`` or ``latency_ms``; individuals without it do not take part.
    """
    priced = [one for one in complete(individuals) if one[cost] is not None and math.isfinite(one[cost])]
    front: list[str] = []
    best = -math.inf
    for one in sorted(priced, key=lambda one: (one[cost], -one["mcc"], one["name"])):
        if one["mcc"] > best:
            front.append(one["name"])
            best = one["mcc"]
    return front


def reliability(
    truth: NDArray[np.integer], probabilities: Floats, bins: int = CALIBRATION_BINS
) -> list[dict[str, float]]:
    """Filled steps of the winning class's probability: ``low, high, count, confidence, accuracy`` and the accuracy's
    95% Wilson interval ``accuracy_low, accuracy_high``.

    The same steps as the calibration error's: it is the mean of |accuracy − confidence|, weighted by ``count``.
    """
    top = probabilities.max(1)
    right = probabilities.argmax(1) == np.asarray(truth)
    step = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = []
    for number in np.unique(step):
        mine = step == number
        count, accuracy = int(mine.sum()), float(right[mine].mean())
        low, high = _wilson(accuracy, count)
        rows.append(
            {
                "low": float(number / bins),
                "high": float((number + 1) / bins),
                "count": count,
                "confidence": float(top[mine].mean()),
                "accuracy": accuracy,
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return rows


def per_class_intervals(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    classes: int,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
) -> dict[str, list[list[float] | None]]:
    """95% intervals of each class's ``precision``, ``recall``, ``specificity`` and ``f1``: name → [low, high] a class.

    Bootstrap percentiles over whole groups (None: over images). Where every draw gives the same, 0 or 1, the bootstrap
    says nothing; the exact bound for as many groups without an exception stands in its place (Clopper and Pearson 1934:
    ``.025 ** (1 / n)``). One group alone gives [0, 1]. None for a ratio of nothing to nothing.
    """
    truth, predicted = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    labels: Sequence[Any] = range(len(truth)) if groups is None else groups
    group_of = np.unique(np.asarray(labels), return_inverse=True)[1]
    count = int(group_of.max()) + 1
    cells = np.zeros((count, classes * classes))
    np.add.at(cells, (group_of, truth * classes + predicted), 1)
    generator = np.random.default_rng(seed)
    draws: dict[str, list[Floats]] = {name: [] for name in RATIOS}
    for _ in range(0, RESAMPLES, _RESAMPLES_AT_ONCE):
        weights = generator.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES_AT_ONCE)
        confusion = (weights @ cells).reshape(-1, classes, classes)
        for name, values in _defined(confusion).items():
            draws[name].append(values)
    tables = cells.reshape(count, classes, classes)
    estimates = _defined(tables.sum(0))
    holding = {name: (values > 0).sum(0) for name, values in _denominators(tables).items()}
    return {
        name: [
            _interval(np.concatenate(draws[name])[:, number], estimates[name][number], int(holding[name][number]))
            for number in range(classes)
        ]
        for name in RATIOS
    }


def overfitting(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """How far the choice among many may have flattered ``search`` against ``test``.

    best, best_mcc: the best individual on ``search`` and its MCC there. individuals: how many it was the best of.
    error: the standard error of an MCC on ``search``, from its bootstrap interval. optimism: what the best of so many
    equally good individuals, judged with independent errors, gains by luck alone: ``error`` × the expected maximum of
    so many standard normal draws. It is a ceiling: errors on the same images go together. gap, gap_interval: the final
    network's MCC on ``search`` less that on ``test``, with a 95% interval from both bootstraps. Values are None where
    there are too few groups for an interval.
    """
    scored = complete(metrics["individuals"])
    scores = metrics["scores"]
    errors = {role: _standard_error(scores[role]) for role in ("search", "test")}
    gap = scores["search"]["mcc"] - scores["test"]["mcc"]
    search, test = errors["search"], errors["test"]
    interval = None
    if search is not None and test is not None:
        margin = NORMAL_QUANTILE * math.hypot(search, test)
        interval = [gap - margin, gap + margin]
    best = min(scored, key=lambda one: (-one["mcc"], one["nll"], one["name"]))
    return {
        "best": best["name"],
        "best_mcc": best["mcc"],
        "individuals": len(scored),
        "error": search,
        "optimism": None if search is None else search * expected_maximum(len(scored)),
        "gap": gap,
        "gap_interval": interval,
    }


def expected_maximum(count: int) -> float:
    """The mean of the largest of ``count`` independent standard normal draws.

    >>> round(expected_maximum(2), 3), round(expected_maximum(10), 3)
    (0.564, 1.539)
    """
    grid, step = np.linspace(-10, 10, 20_001, retstep=True)
    below = ndtr(grid) ** count
    # The mean of a variable from its distribution function: what is above on the right less what is below on the left.
    return float((np.heaviside(grid, 0.5) - below).sum() * step)


def cost_of_phases(individuals: Sequence[Individual]) -> list[dict[str, Any]]:
    """Per phase ``phase, individuals, failed, images, seconds``; images: passes in training and scoring."""
    rows = []
    for phase in phases_of(individuals):
        mine = [one for one in individuals if one["place"][0] == phase]
        rows.append(
            {
                "phase": phase,
                "individuals": len(mine),
                "failed": sum(one["reason"] is not None for one in mine),
                "images": sum(one["images"] for one in mine),
                "seconds": sum(one["seconds"] for one in mine),
            }
        )
    return rows


def _standard_error(scores: Mapping[str, Any]) -> float | None:
    interval = scores["intervals"].get("mcc")
    return None if interval is None else (interval[1] - interval[0]) / (2 * NORMAL_QUANTILE)


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The Wilson score interval of a share among ``count`` (Wilson 1927)."""
    z2 = NORMAL_QUANTILE**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(share * (1 - share) * z2 / count + z2**2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _defined(confusion: NDArray[Any]) -> dict[str, Floats]:
    """The ratios of confusion matrices [..., K, K], NaN where they are of nothing to nothing: [..., K] each."""
    values, below = per_class(confusion), _denominators(confusion)
    return {name: np.where(below[name] > 0, values[name], np.nan) for name in RATIOS}


def _denominators(confusion: NDArray[Any]) -> dict[str, NDArray[Any]]:
    actual, called = confusion.sum(-1), confusion.sum(-2)
    others = actual.sum(-1, keepdims=True) - actual
    return {"precision": called, "recall": actual, "specificity": others, "f1": actual + called}


def _interval(draws: Floats, estimate: float, groups: int) -> list[float] | None:
    if math.isnan(estimate):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(value) for value in np.nanquantile(draws, [tail, 1 - tail]))
    if groups < 2:
        return [0.0, 1.0]
    if low == high == 1:
        low = tail ** (1 / groups)
    elif low == high == 0:
        high = 1 - tail ** (1 / groups)
    return [low, high]
