"""What the last frames say together: averages that forget by time, so that they do not depend on the frame rate."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Evidence(Protocol):
    """The weighted frames since the last reset.

    scores: float64 [K], what the leader is found by, their sum 1. mean: float64 [K], the probabilities' weighted mean.
    age_s: weighted mean age of the frames, in seconds before the newest.
    """

    scores: Values
    mean: Values
    age_s: float

    def add(self, probabilities: Values, at: float) -> None:
        """Take the next frame's probabilities [K]; ``at``: seconds, not before the last frame's."""
        ...


class LatestEvidence:
    """The newest frame alone."""

    def __init__(self, classes: int) -> None:
        self.scores = self.mean = np.zeros(classes)
        self.age_s = 0.0

    def add(self, probabilities: Values, at: float) -> None:
        """See :class:`Evidence`."""
        self.scores = self.mean = probabilities


class ExponentialEvidence:
    """A frame that is t seconds old weighs exp(−t / time constant), over the sum of all weights.

    This is the one-sided exponential kernel over unevenly spaced samples (Eckner, *Algorithms for unevenly spaced time
    series: moving averages and other rolling operators*, 2019); since weights are normalised, the first frame after a
    reset is not held against those that follow it (as in Adam's bias correction).
    """

    def __init__(self, classes: int, time_constant_s: float) -> None:
        self.scores = self.mean = np.zeros(classes)
        self.age_s = 0.0
        self._time_constant_s = time_constant_s
        self._sum = np.zeros(classes)
        self._weight = 0.0
        self._ages = 0.0  # weight × age, summed
        self._at = math.nan

    def add(self, probabilities: Values, at: float) -> None:
        """See :class:`Evidence`."""
        if self._weight:
            elapsed = at - self._at
            decay = math.exp(-elapsed / self._time_constant_s)
            self._ages = decay * (self._ages + self._weight * elapsed)
            self._sum *= decay
            self._weight *= decay
        self._at = at
        self._sum += probabilities
        self._weight += 1.0
        self.scores = self.mean = self._sum / self._weight
        self.age_s = self._ages / self._weight


class VoteEvidence:
    """Each frame younger than the window has one vote, for its winner (majority vote over a sliding window)."""

    def __init__(self, classes: int, window_s: float) -> None:
        self.scores = self.mean = np.zeros(classes)
        self.age_s = 0.0
        self._window_s = window_s
        self._frames: deque[tuple[float, int, Values]] = deque()
        self._votes = np.zeros(classes)
        self._sum = np.zeros(classes)

    def add(self, probabilities: Values, at: float) -> None:
        """See :class:`Evidence`."""
        winner = int(np.argmax(probabilities))
        self._frames.append((at, winner, probabilities))
        self._votes[winner] += 1
        self._sum += probabilities
        # A frame exactly as old as the window is out; times add up with rounding, so "exactly" has a nanosecond.
        while self._frames[0][0] <= at - self._window_s + 1e-9 and len(self._frames) > 1:
            _, left, gone = self._frames.popleft()
            self._votes[left] -= 1
            self._sum -= gone
        count = len(self._frames)
        self.scores, self.mean = self._votes / count, self._sum / count
        self.age_s = at - sum(time for time, _, _ in self._frames) / count
