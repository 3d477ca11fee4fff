from __future__ import annotations

import math

import numpy as np
import pytest

from gensoup.bench.statistics import (
    block_rate_upper,
    block_rates,
    fewest_frames,
    longest_run,
    miss_rate_lower,
    miss_rate_upper,
    percentile,
)


@pytest.mark.parametrize(("misses", "frames"), [(9, 1920), (338, 38400), (0, 459)])
def test_the_most_misses_that_the_gate_allows(misses: int, frames: int) -> None:
    assert miss_rate_upper(misses, frames) <= 0.01 < miss_rate_upper(misses + 1, frames)


def test_without_misses_the_bound_has_a_closed_form() -> None:
    assert miss_rate_upper(0, 100) == pytest.approx(1 - 0.01 ** (1 / 100), rel=1e-9)
    assert miss_rate_upper(0, 100, confidence=0.95) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-9)
    assert miss_rate_lower(0, 100) == 0.0
    assert miss_rate_upper(100, 100) == 1.0
    assert miss_rate_lower(100, 100) == pytest.approx(0.01 ** (1 / 100), rel=1e-9)


@pytest.mark.parametrize(
    ("misses", "frames", "upper", "lower"),
    # scipy.stats.beta.ppf(.99, misses + 1, frames - misses) and beta.ppf(.01, misses, frames - misses + 1)
    [
        (9, 1920, 0.009757965030143563, 0.0018289411821652563),
        (10, 1920, 0.010464317727481444, 0.002153879390401694),
        (1919, 1920, 0.9999947654637765, 0.9965475972633888),
        (38000, 38400, 0.9907512325728882, 0.9883134676488798),
    ],
)
def test_bounds_are_those_of_the_beta_distribution(misses: int, frames: int, upper: float, lower: float) -> None:
    assert miss_rate_upper(misses, frames) == pytest.approx(upper, rel=1e-8)
    assert miss_rate_lower(misses, frames) == pytest.approx(lower, rel=1e-8)


@pytest.mark.parametrize(("misses", "frames"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(misses: int, frames: int) -> None:
    with pytest.raises(ValueError, match="misses of"):
        miss_rate_upper(misses, frames)


def test_fewest_frames() -> None:
    needed = fewest_frames(0.01)
    assert needed == 459
    assert miss_rate_upper(0, needed) <= 0.01 < miss_rate_upper(0, needed - 1)


def test_percentiles_are_nearest_rank_and_take_infinity() -> None:
    values = [*range(1, 100), math.inf]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 99.5) == math.inf
    assert percentile(values, 100) == math.inf
    assert percentile([3.0], 1) == 3.0
    assert [percentile(range(1, 101), q) for q in range(1, 101)] == list(range(1, 101))


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_percentiles_of_nothing_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, 50)


@pytest.mark.parametrize(
    ("flags", "length"), [("", 0), ("0000", 0), ("1", 1), ("110111", 3), ("111011", 3), ("0110", 2), ("1111", 4)]
)
def test_longest_run(flags: str, length: int) -> None:
    assert longest_run(np.array([flag == "1" for flag in flags], bool)) == length


@pytest.mark.parametrize(("blocks", "quantile"), [(600, 2.3328421), (30, 2.4620214)])  # scipy.stats.t.ppf(.99, n − 1)
def test_the_bound_from_blocks_is_students(blocks: int, quantile: float) -> None:
    rates = np.random.default_rng(0).random((2, blocks)) / 100
    expected = rates.mean(axis=1) + quantile * rates.std(axis=1, ddof=1) / math.sqrt(blocks)
    np.testing.assert_allclose(block_rate_upper(rates), expected, rtol=1e-5)


def test_the_bound_from_blocks_has_ends() -> None:
    assert block_rate_upper([0.0, 0.0, 0.0]) == 0.0
    assert block_rate_upper([1.0, 0.0]) == 1.0
    with pytest.raises(ValueError, match="too few"):
        block_rate_upper([0.5])


def test_blocks_of_frames() -> None:
    missed = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 1], bool)
    np.testing.assert_allclose(block_rates(missed, 4.0), [0.5, 1 / 3])  # a rest of half a block joins the last
    np.testing.assert_allclose(block_rates(missed, 5.0), [0.6, 0.2])
    np.testing.assert_allclose(block_rates(missed, 2.5), [2 / 3, 0.5, 0.0, 0.5])
    np.testing.assert_allclose(block_rates(missed[:1], 4.0), [1.0])
    assert len(block_rates(np.zeros(38400, bool), 64.0)) == 600
    assert len(block_rates(np.zeros(35964, bool), 59.94)) == 600
