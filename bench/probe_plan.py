"""How ``gensoup probe`` measures a graph: frames, rate, and when it has seen enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import NDArray

from gensoup.bench.device_profile import HEADROOM
from gensoup.bench.percentile_interval import percentile_interval

CONFIDENCE = 0.95
# Frames so far, and seconds so far, after which it is looked whether there is doubt left. 128 frames can only refuse;
# from 505 on the 99th percentile has an upper bound at the confidence of one look.
_LOOKS = ((128, 2.0), (512, 8.0), (1024, 16.0), (2048, 32.0))
_FEWEST = 32


@dataclass(frozen=True)
class ProbePlan:
    """What is the same for all graphs of a kit.

    rate_hz: at which frames arrive. allowed_ms: the 99th percentile that is to be told from, None: .85 of a frame's
    time. seconds: the longest for one graph, None: 2,048 frames and at least 32 s. height, width: of the camera's
    frames. threads: of CPU engines, None: half of the cores.
    """

    rate_hz: float = 64.0
    allowed_ms: float | None = None
    seconds: float | None = None
    height: int = 1080
    width: int = 1920
    threads: int | None = None

    @property
    def bound_ms(self) -> float:
        """The latency about which a measurement has to decide."""
        return HEADROOM * 1e3 / self.rate_hz if self.allowed_ms is None else self.allowed_ms

    def looks(self) -> tuple[int, ...]:
        """Frames after which to look at the interval, rising; the last is the most there are."""
        counts = [max(frames, math.ceil(seconds * self.rate_hz)) for frames, seconds in _LOOKS]
        if self.seconds is not None:
            most = max(_FEWEST, math.ceil(self.seconds * self.rate_hz))
            counts = [count for count in counts if count < most] + [most]
        return tuple(counts)

    @property
    def confidence(self) -> float:
        """Of the interval at one look, such that all looks together hold :data:`CONFIDENCE` (Bonferroni): that it is
        looked again until there is no doubt must not make doubt small by luck."""
        return 1 - (1 - CONFIDENCE) / len(self.looks())

    def interval(self, latency_ms: NDArray, q: float) -> tuple[float, float]:
        """Of the ``q``-th percentile of the latencies so far."""
        return percentile_interval(latency_ms, q, self.confidence)

    def settled(self, latency_ms: NDArray) -> bool:
        """Whether the interval of the 99th percentile lies on one side of the latency allowed."""
        low, high = self.interval(latency_ms, 99)
        return high <= self.bound_ms or low > self.bound_ms
