from __future__ import annotations

import math

import numpy as np
import pytest

from gensoup.bench.percentile_interval import percentile_interval


def test_ranks_are_those_of_the_binomial_distribution() -> None:
    # By hand: P(Bin(5, .5) ≤ 0) = 1/32, so at 93.75% the median lies between the least and the greatest of five.
    assert percentile_interval([3, 1, 2, 5, 4], 50, 0.9375) == (1, 5)
    assert percentile_interval([3, 1, 2, 5, 4], 50, 0.94) == (0.0, math.inf)


def test_too_few_values_have_no_upper_end() -> None:
    assert percentile_interval(range(504), 99, 0.9875)[1] == math.inf
    assert percentile_interval(range(506), 99, 0.9875)[1] == 505


def test_drops_count_as_infinite() -> None:
    values = np.concatenate([np.ones(990), np.full(10, math.inf)])
    assert percentile_interval(values, 99, 0.95) == (1, math.inf)
    assert percentile_interval(np.full(128, math.inf), 99, 0.95)[0] == math.inf


def test_the_true_percentile_is_missed_no_oftener_than_promised() -> None:
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(2000):
        low, high = percentile_interval(rng.exponential(size=600), 99, 0.95)
        misses += not low <= -math.log(0.01) <= high
    assert misses / 2000 < 0.05 + 0.01
    assert misses > 20  # an interval that is always right says nothing


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_nothing_to_bound_is_an_error(values: list[float]) -> None:
    with pytest.raises(ValueError):
        percentile_interval(values, 50, 0.9)
