"""Percentiles of a run of any length, in memory that does not grow with it."""

from __future__ import annotations

import math
from collections import Counter

STEP = 0.01


class Tally:
    """Counts values to the nearest hundredth: milliseconds to 10 µs. Memory goes with how many of those occur."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._most = -math.inf

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, value: float) -> None:
        """Count a value, which must be finite."""
        self._counts[round(value / STEP)] += 1
        self._most = max(self._most, value)

    def percentile(self, percent: float) -> float:
        """The least value that so many percent are at most; NaN of nothing."""
        if not self._counts:
            return math.nan
        if percent >= 100:
            return self._most
        left = percent / 100 * len(self)
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 1e-9:
                return step * STEP
        return self._most

    def summary(self) -> dict[str, float]:
        """p50, p95, p99 and max; nothing of nothing."""
        if not self._counts:
            return {}
        return {**{f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)}, "max": self._most}
