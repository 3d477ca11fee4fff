"""When frames are due: an exact schedule, so that no rate drifts, and a pacer that holds frames back to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction

_NTSC = Fraction(1000, 1001)
_SNAP_HZ = 2e-4


def exact_rate(rate_hz: float) -> Fraction:
    """``rate_hz`` as a fraction; what is written 23.976, 29.97, 59.94 or 119.88 becomes n · 1000/1001 exactly."""
    whole = round(rate_hz / _NTSC)
    if whole and abs(rate_hz / float(_NTSC) - whole) < _SNAP_HZ and abs(rate_hz - round(rate_hz)) > _SNAP_HZ:
        return whole * _NTSC
    return Fraction(rate_hz)


class Pacer:
    """Holds a caller back to frame 0, 1, 2, … at exactly ``rate_hz``, the first one at once.

    Times of arrival are worked out from the first one, never added up. A caller that comes more than a period late (a
    slow disk or decoder) starts the schedule again from there, as a slow camera would: there is no burst to catch up.
    slips: how often that happened.
    """

    def __init__(
        self,
        rate_hz: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.slips = 0
        self._rate = exact_rate(rate_hz)
        self._clock = clock
        self._sleep = sleep
        self._start = 0.0
        self._number = -1

    def wait(self) -> float:
        """Sleep until the next frame is due; return the time at which it arrives, in seconds of the clock."""
        now = self._clock()
        self._number += 1
        if self._number == 0:
            self._start = now
            return now
        due = self._start + float(self._number / self._rate)
        if now > due + float(1 / self._rate):
            self.slips += 1
            self._start, self._number = now, 0
            return now
        if now < due:
            self._sleep(due - now)
        return max(due, now)
