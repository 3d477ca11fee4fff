"""Whether one run misses more than another beyond chance: an exact test, and one that holds where misses cluster."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_PERMUTATIONS = 4000


def fisher_p(misses: int, frames: int, other_misses: int, other_frames: int) -> float:
    """One-sided p of the other run's misses, were both rates the same and every frame independent (Fisher 1935): the
    probability that so many or more of all misses fall on the other.

    >>> fisher_p(0, 1920, 0, 1920)
    1.0
    >>> round(fisher_p(3, 4, 1, 4), 4), round(fisher_p(1, 4, 3, 4), 4)
    (0.9857, 0.2429)
    """
    if not (0 <= misses <= frames and 0 <= other_misses <= other_frames and frames and other_frames):
        raise ValueError(f"{misses} of {frames} and {other_misses} of {other_frames} frames")
    missed, total = misses + other_misses, frames + other_frames
    counts = np.arange(other_misses, min(missed, other_frames) + 1)
    if other_misses <= max(0, missed - frames):
        return 1.0
    ways = _log_choose(other_frames, counts) + _log_choose(frames, missed - counts) - _log_choose(total, missed)
    return float(min(1.0, np.exp(ways).sum()))


def blocks_p(misses: NDArray[np.integer], other: NDArray[np.integer], seed: int = 0) -> float:
    """One-sided p of the other run's misses per block [B'] against these [B], by exchanging whole blocks between the
    runs at random: misses may cluster within blocks as they like. Blocks of one length; at least two in each."""
    both = np.concatenate((misses, other)).astype(float)
    if len(misses) < 2 or len(other) < 2:
        raise ValueError("two blocks at least")
    seen, generator = float(other.sum()), np.random.default_rng(seed)
    drawn = np.array([generator.permutation(both)[: len(other)].sum() for _ in range(_PERMUTATIONS)])
    return float((1 + (drawn >= seen).sum()) / (1 + _PERMUTATIONS))


def _log_choose(most: int, chosen: NDArray[np.integer] | int) -> NDArray[np.float64]:
    chosen = np.atleast_1d(chosen)
    return np.array([math.lgamma(most + 1) - math.lgamma(k + 1) - math.lgamma(most - k + 1) for k in chosen.tolist()])
