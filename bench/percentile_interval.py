"""Between which of the measured values a percentile lies, whatever the distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def percentile_interval(values: ArrayLike, q: float, confidence: float) -> tuple[float, float]:
    """Two-sided interval of the ``q``-th percentile (0 < q < 100) from order statistics: no shape is assumed.

    The upper end is +∞ where there are too few values to know one: 98.75% for a 99th percentile takes 505 of them. It
    holds for independent values; misses cluster, so on a disturbed machine it is too narrow. Raises ValueError for no
    values or NaN among them. Source: David and Nagaraja, Order Statistics, 3rd edition, section 7.1.
    """
    ordered = np.sort(np.asarray(values, float).ravel())
    count, tail = len(ordered), (1 - confidence) / 2
    if not count or np.isnan(ordered[-1]):
        raise ValueError("a percentile's interval needs values, none of them NaN")
    below = np.cumsum(_binomial(count, q / 100))  # below[k] = P(at most k values lie under the percentile)
    lower = int(np.searchsorted(below, tail, side="right"))  # P(fewer than `lower` lie under it) ≤ tail
    upper = int(np.searchsorted(below, 1 - tail)) + 1  # P(`upper` or more lie under it) ≤ tail
    low = float(ordered[lower - 1]) if lower > 0 else 0.0
    return low, float(ordered[upper - 1]) if upper <= count else math.inf


def _binomial(count: int, p: float) -> NDArray[np.float64]:
    """P(k successes of ``count``) for k = 0 … count."""
    k = np.arange(count + 1)
    factorials = np.array([math.lgamma(one + 1) for one in k])
    logs = factorials[-1] - factorials - factorials[::-1] + k * math.log(p) + (count - k) * math.log1p(-p)
    return np.exp(logs)
