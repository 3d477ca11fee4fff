from __future__ import annotations

import math

import numpy as np

from gensoup.runtime.tally import Tally


def test_percentiles_are_numpys_within_a_step() -> None:
    values = np.random.default_rng(0).gamma(3, 2, 5001)
    tally = Tally()
    for value in values:
        tally.add(float(value))
    assert len(tally) == 5001
    for percent in (0.1, 50, 95, 99, 99.9):
        expected = np.percentile(values, percent, method="inverted_cdf")
        assert abs(tally.percentile(percent) - expected) <= 0.00501
    assert tally.percentile(100) == values.max()
    assert tally.summary()["p95"] == tally.percentile(95) and tally.summary()["max"] == values.max()


def test_nothing_has_no_percentiles() -> None:
    assert Tally().summary() == {} and math.isnan(Tally().percentile(50)) and len(Tally()) == 0


def test_memory_goes_with_the_spread_of_values_not_with_their_number() -> None:
    tally = Tally()
    for number in range(100_000):
        tally.add(number % 300 / 100)
    assert len(tally._counts) == 300
