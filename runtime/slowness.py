"""When an engine counts as slow: judged by its calls of the last half second."""

from __future__ import annotations

import statistics
from collections import deque
from typing import NamedTuple

# The slow engine must be out within a second: judged over half of one, by more than half of its frames.
_WINDOW_S, _FEWEST_CALLS = 0.5, 3


class Slowness:
    """Remembers how long calls took. Slow: over half a second without a pause, more than half took longer than
    ``slow_ms``, and with the engine that would stand in, at ``other_ms`` a call, they would not, or would take less
    than half as long."""

    def __init__(self, slow_ms: float, other_ms: float) -> None:
        self._slow_ms, self._other_ms = slow_ms, other_ms
        self._calls: deque[_Call] = deque()

    def add(self, started: float, done: float, beside_ms: float = 0.0) -> str | None:
        """Take a call, in seconds of one clock; the reason to be out in a line, None while there is none.

        beside_ms: how much of it any engine would have cost, as preprocessing.
        """
        calls = self._calls
        if calls and started - calls[-1].done > _WINDOW_S:
            calls.clear()  # the first calls after a pause are slow in any engine
        calls.append(_Call(started, done, beside_ms))
        while len(calls) > 1 and calls[1].started < done - _WINDOW_S:
            calls.popleft()
        late = sum(call.taken_ms > self._slow_ms for call in calls)
        if done - calls[0].started < _WINDOW_S or len(calls) < _FEWEST_CALLS or 2 * late <= len(calls):
            return None
        usual = statistics.median(call.taken_ms for call in calls)
        other = self._other_ms + statistics.median(call.beside_ms for call in calls)
        if other >= usual or (other >= self._slow_ms and 2 * other >= usual):
            return None
        return f"slow: {usual:.1f} ms a frame, the limit is {self._slow_ms:g} ms"

    def forget(self) -> None:
        """Begin anew: another engine answers from now on."""
        self._calls.clear()


class _Call(NamedTuple):
    started: float
    done: float
    beside_ms: float

    @property
    def taken_ms(self) -> float:
        return (self.done - self.started) * 1e3
