"""When an engine counts as slow: judged by its calls of the last half second."""

from __future__ import annotations

import statistics
from collections import deque

# The slow engine must be out within a second: judged over half of one, by more than half of its frames.
_WINDOW_S, _FEWEST_CALLS = 0.5, 3


class Slowness:
    """Remembers how long calls took. Slow: over half a second, more than half took longer than ``slow_ms``, and the
    engine that would stand in, at ``other_ms`` a call, is faster than both that and what they took."""

    def __init__(self, slow_ms: float, other_ms: float) -> None:
        self._slow_ms, self._other_ms = slow_ms, other_ms
        self._calls: deque[tuple[float, float]] = deque()

    def add(self, started: float, done: float) -> str | None:
        """Take a call, in seconds of one clock; the reason to be out in a line, None while there is none."""
        calls = self._calls
        calls.append((started, (done - started) * 1e3))
        while len(calls) > 1 and calls[1][0] < done - _WINDOW_S:
            calls.popleft()
        late = sum(taken > self._slow_ms for _, taken in calls)
        if done - calls[0][0] < _WINDOW_S or len(calls) < _FEWEST_CALLS or 2 * late <= len(calls):
            return None
        usual = statistics.median(taken for _, taken in calls)
        if self._other_ms >= min(usual, self._slow_ms):
            return None
        return f"slow: {usual:.1f} ms a frame, the limit is {self._slow_ms:g} ms"

    def forget(self) -> None:
        """Begin anew: another engine answers from now on."""
        self._calls.clear()
