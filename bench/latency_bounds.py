"""How certain a latency's percentile is: a bootstrap over blocks of one second, for late frames come in company."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.trace import Trace

POINTS = {"p50": 50.0, "p95": 95.0, "p99": 99.0}
CONFIDENCE = 0.95
BLOCK_S = 1.0
FEWEST_BLOCKS = 10
_RESAMPLES = 1000
# Percentiles at which a block's frames are counted: fine enough that no bound is off by more, denser in the tail.
_GRID = np.unique(np.concatenate((np.arange(0, 98, 0.1), np.arange(98, 100.001, 0.005)))).clip(0, 100)


@dataclass(frozen=True)
class Blocks:
    """The frames of a measurement second by second. latency_ms: one array a block, in order; misses: its misses."""

    latency_ms: tuple[NDArray[np.float64], ...]
    misses: NDArray[np.int64]

    @classmethod
    def of(cls, repetitions: Sequence[Trace], limit_ms: float) -> Blocks:
        """Whole seconds alone; the frames of each repetition's last, broken second are left out."""
        found: list[NDArray[np.float64]] = []
        for trace in repetitions:
            if math.isnan(trace.rate_hz):
                continue  # one frame of a live source
            latency, length = trace.latency_ms, max(1, round(trace.rate_hz * BLOCK_S))
            found += [latency[at : at + length] for at in range(0, len(latency) - length + 1, length)]
        return cls(tuple(found), np.array([int((block > limit_ms).sum()) for block in found], np.int64))

    @property
    def enough(self) -> bool:
        """Whether a bootstrap over so few would say anything."""
        return len(self.latency_ms) >= FEWEST_BLOCKS


def resampled(blocks: Blocks, seed: int = 0) -> Mapping[str, NDArray[np.float64]]:
    """The percentiles of POINTS in draws of as many blocks, with replacement: name → float64 [draws], +∞ for drops."""
    pooled = np.sort(np.concatenate(blocks.latency_ms))
    ranks = np.minimum(np.ceil(_GRID / 100 * len(pooled)).astype(int).clip(1), len(pooled)) - 1
    thresholds = np.unique(pooled[ranks])
    counts = np.array([np.searchsorted(np.sort(block), thresholds, "right") for block in blocks.latency_ms], float)
    sizes = np.array([len(block) for block in blocks.latency_ms], float)
    generator, number = np.random.default_rng(seed), len(sizes)
    weights = generator.multinomial(number, np.full(number, 1 / number), _RESAMPLES).astype(float)
    below, totals = weights @ counts, weights @ sizes
    found = {}
    for name, q in POINTS.items():
        needed = np.ceil(q / 100 * totals - 1e-9)[:, None]
        found[name] = thresholds[np.minimum((below < needed).sum(1), len(thresholds) - 1)]
    return found


def intervals(blocks: Blocks) -> dict[str, tuple[float, float]]:
    """The 95% interval of each of POINTS in milliseconds, ends +∞ where drops reach them; empty for too few blocks."""
    if not blocks.enough:
        return {}
    return {name: interval(draws) for name, draws in resampled(blocks).items()}


def interval(draws: NDArray[np.float64], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle ``confidence`` of draws that may be infinite; NaN ends where any draw is NaN."""
    ordered = np.sort(draws)
    if np.isnan(ordered[-1]):
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = int(tail * len(ordered)), math.ceil((1 - tail) * len(ordered)) - 1
    return float(ordered[low]), float(ordered[high])
