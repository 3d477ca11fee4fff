"""The gate's statistics: bounds of the miss rate, percentiles over infinite latencies, runs of misses."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


def miss_rate_upper(misses: int, frames: int, confidence: float = 0.99) -> float:
    """One-sided Clopper–Pearson upper bound of the miss rate: the rate at which so few misses or fewer would turn up
    with probability 1 − ``confidence``; 1.0 when every frame was missed.

    Raises ValueError unless 0 ≤ misses ≤ frames and frames > 0. Source: Clopper and Pearson, Biometrika 26, 1934.
    """
    _check(misses, frames, confidence)
    return 1.0 if misses == frames else _root(misses, frames, 1 - confidence)


def miss_rate_lower(misses: int, frames: int, confidence: float = 0.99) -> float:
    """One-sided Clopper–Pearson lower bound of the miss rate; 0.0 without misses. See :func:`miss_rate_upper`."""
    _check(misses, frames, confidence)
    return 0.0 if misses == 0 else _root(misses - 1, frames, confidence)


def fewest_frames(limit: float, confidence: float = 0.99) -> int:
    """Frames that are needed for the bound to reach ``limit`` when none is missed: 459 for 1% at 99%."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - limit))


def block_rate_upper(rates: ArrayLike, confidence: float = 0.99) -> NDArray[np.float64]:
    """One-sided upper bound of the miss rate from the miss rates of blocks, [..., blocks] → [...]: mean plus Student's
    quantile times the standard error.

    Where misses come in clusters the count alone knows too much: ten that belong together are one event. Blocks longer
    than a cluster are nearly independent, whatever happens inside of them. Raises ValueError for fewer than two blocks.
    """
    values = np.asarray(rates, float)
    blocks = values.shape[-1]
    if blocks < 2:
        raise ValueError(f"{blocks} blocks are too few")
    error = values.std(axis=-1, ddof=1) / math.sqrt(blocks)
    bound: NDArray[np.float64] = np.minimum(1.0, values.mean(axis=-1) + _student(confidence, blocks - 1) * error)
    return bound


def block_rates(missed: NDArray[np.bool_], frames_per_block: float) -> NDArray[np.float64]:
    """Share of misses in each block of ``frames_per_block`` frames; a rest shorter than half of one joins the last."""
    whole = max(1, round(len(missed) / frames_per_block))
    block = np.minimum((np.arange(len(missed)) / frames_per_block + 1e-9).astype(int), whole - 1)
    counts = np.bincount(block, missed, minlength=whole)
    return np.asarray(counts / np.bincount(block, minlength=whole))


def percentile(values: ArrayLike, q: float) -> float:
    """The smallest value that at least ``q`` percent of ``values`` do not exceed (nearest rank, so no mean is taken of
    a latency and the +∞ of a drop). Raises ValueError for no values or NaN among them."""
    ordered = np.sort(np.asarray(values, float).ravel())
    if not len(ordered) or np.isnan(ordered[-1]):
        raise ValueError("percentile needs values, none of them NaN")
    rank = math.ceil(q * len(ordered) / 100)  # in this order: 7 percent of 100 are 7, and not a hair more
    return float(ordered[min(max(rank, 1), len(ordered)) - 1])


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest unbroken run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _student(confidence: float, freedom: int) -> float:
    """Quantile of Student's distribution by Fisher's expansion: to four digits from 20 degrees of freedom on.

    Source: Fisher and Cornish, Technometrics 2, 1960.
    """
    z = NormalDist().inv_cdf(confidence)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _check(misses: int, frames: int, confidence: float) -> None:
    if not (0 <= misses <= frames and frames > 0 and 0 < confidence < 1):
        raise ValueError(f"{misses} misses of {frames} frames at confidence {confidence}")


def _root(misses: int, frames: int, tail: float) -> float:
    """The p at which P(X ≤ misses) = tail for X binomial(frames, p): bisection, as the probability falls with p."""
    counts = np.arange(misses + 1)
    log_factorials = np.array([math.lgamma(count + 1) for count in range(misses + 1)])
    log_rests = np.array([math.lgamma(frames - count + 1) for count in range(misses + 1)])
    log_ways = math.lgamma(frames + 1) - log_factorials - log_rests
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        terms = log_ways + counts * math.log(p) + (frames - counts) * math.log1p(-p)
        if float(np.exp(terms).sum()) > tail:
            low = p
        else:
            high = p
    return high
