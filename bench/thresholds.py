"""From which probability on a class is called with certainty; below it the answer is "uncertain"."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The thesis' clinical line: of a class's images so many must be found.
LEAST_RECALL = 0.85

Floats = NDArray[np.float64]


def choose_thresholds(
    truth: NDArray[np.integer], probabilities: NDArray[Any], least_recall: float = LEAST_RECALL
) -> Floats:
    """A threshold a class, float64 [K], from ``probabilities`` [N, K] of images whose classes ``truth`` [N] are known.

    An image is called k with certainty when k wins with at least k's threshold. Of all thresholds that leave k's recall
    at ``least_recall`` or more (where the plain winner's is lower already: as it is) the one whose certain calls have
    the highest F1, the lowest of equals: certainty is refused only where that takes away more wrong calls than right
    ones. A class that is never called, or only rightly, gets 0. They hold for what the probabilities were calibrated
    on, and as well as so few images can tell.
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities, np.float64)
    winner, top = probabilities.argmax(1), probabilities.max(1)
    thresholds = np.zeros(probabilities.shape[1])
    for label in range(len(thresholds)):
        called = winner == label
        right, actual = called & (truth == label), int((truth == label).sum())
        floor = min(least_recall * actual, int(right.sum())) - 1e-9
        best = _f1(int(right.sum()), int(called.sum()), actual)
        for threshold in _between(top[called]):
            kept = called & (top >= threshold)
            hits = int((kept & right).sum())
            if hits < floor:
                break  # higher ones keep fewer still
            if (f1 := _f1(hits, int(kept.sum()), actual)) > best:
                best, thresholds[label] = f1, threshold
    return thresholds


def certain(probabilities: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of ``probabilities`` [N, K] name their winner with certainty, bool [N]."""
    probabilities = np.asarray(probabilities)
    return np.asarray(probabilities.max(1) >= np.asarray(thresholds)[probabilities.argmax(1)])


def _between(values: Floats) -> Floats:
    """Values half-way between neighbours, ascending: each parts the predictions in another way."""
    distinct = np.unique(values)
    return (distinct[1:] + distinct[:-1]) / 2


def _f1(hits: int, called: int, actual: int) -> float:
    return 2 * hits / (called + actual) if called + actual else 0.0
