"""Tests of misses: Fisher's against another implementation, and the exchange of seconds against clusters."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import fisher_exact

from gensoup.bench import fisher
from gensoup.bench.fisher import blocks_p, fisher_p


@pytest.mark.parametrize(
    ("misses", "frames", "other", "others"),
    [(3, 1920, 12, 1920), (0, 38400, 9, 1920), (1919, 1920, 1920, 1920), (100, 115200, 160, 115200), (5, 10, 0, 10)],
)
def test_fishers_p_is_scipys(misses: int, frames: int, other: int, others: int) -> None:
    expected = fisher_exact([[other, others - other], [misses, frames - misses]], alternative="greater")[1]
    assert fisher_p(misses, frames, other, others) == pytest.approx(expected, rel=1e-8, abs=1e-300)


def test_examples_and_mistakes() -> None:
    assert doctest.testmod(fisher).failed == 0
    for wrong in ((5, 4, 1, 4), (-1, 4, 1, 4), (0, 0, 1, 4)):
        with pytest.raises(ValueError, match="frames"):
            fisher_p(*wrong)
    with pytest.raises(ValueError, match="two blocks"):
        blocks_p(np.array([1]), np.array([1, 2]))


def test_a_single_cluster_is_no_proof_but_many_are() -> None:
    quiet, one, many = np.zeros(30, int), np.zeros(30, int), np.zeros(30, int)
    one[7], many[::3] = 20, 2
    assert fisher_p(0, 1920, 20, 1920) < 1e-5  # as if they were independent
    assert blocks_p(quiet, one) > 0.3
    assert blocks_p(quiet, many) < 0.01
    assert blocks_p(many, quiet) > 0.9


def test_alike_devices_with_clusters_are_seldom_called_worse() -> None:
    generator = np.random.default_rng(1)
    called = 0
    for _ in range(50):
        runs = [np.where(generator.random(30) < 0.1, generator.integers(1, 30, 30), 0) for _ in range(2)]
        called += blocks_p(*runs) < 0.01
    assert called <= 3  # .5 expected
