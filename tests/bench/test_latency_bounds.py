"""Intervals of percentiles by a bootstrap over seconds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gate_samples import latencies, trace_of

from gensoup.bench.latency_bounds import Blocks, interval, intervals, resampled
from gensoup.bench.statistics import percentile


def slow_seconds(generator: np.random.Generator, seconds: int = 30) -> np.ndarray:
    """Each second has a level of its own: frames of one second are alike."""
    return np.repeat(8 + generator.gamma(2, 0.5, seconds), 64) + generator.gamma(1, 0.3, 64 * seconds)


def test_percentiles_of_draws_lie_around_the_percentile() -> None:
    values = slow_seconds(np.random.default_rng(0))
    blocks = Blocks.of([trace_of(values)], 15.625)
    assert len(blocks.latency_ms) == 30 and blocks.misses.sum() == (values > 15.625).sum()
    for name, draws in resampled(blocks).items():
        low, high = interval(draws)
        assert low < percentile(values, float(name[1:])) < high


def test_they_hold_the_median_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    truth, held = float(np.median(slow_seconds(generator, 5000))), 0
    for _ in range(40):
        low, high = intervals(Blocks.of([trace_of(slow_seconds(generator))], 15.625))["p50"]
        held += low <= truth <= high
    assert held >= 33, held  # 38 expected


def test_drops_are_infinite_and_broken_seconds_left_out() -> None:
    values = latencies()
    values[::10] = math.inf
    found = intervals(Blocks.of([trace_of(values)], 15.625))
    assert found["p50"] == pytest.approx((8.0, 8.0)) and found["p99"] == (math.inf, math.inf)
    assert len(Blocks.of([trace_of(latencies(100))] * 2, 15.625).latency_ms) == 2
    assert intervals(Blocks.of([trace_of(latencies(640 - 1))], 15.625)) == {}
    assert intervals(Blocks.of([], 15.625)) == {}
    alone = replace(trace_of(latencies(1)), rate_hz=math.nan)  # all that a camera sent
    assert intervals(Blocks.of([alone], 15.625)) == {}


def test_seconds_that_are_all_alike_have_one_percentile() -> None:
    """In 30 blocks of 99 frames the 99th percentile is just beyond the last but one: rank 2,940.3."""
    values = np.tile(np.arange(1.0, 100.0), 30)
    for name, draws in resampled(Blocks.of([trace_of(values, rate=99.0)], 15.625)).items():
        assert draws == pytest.approx(percentile(values, float(name[1:])))


def test_an_interval_of_unknowns_is_unknown() -> None:
    assert all(math.isnan(end) for end in interval(np.array([1.0, math.nan])))
