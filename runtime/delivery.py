"""What happens to results: judged, kept as the latest, and passed to whoever wants them."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

from gensoup.runtime.errors import UsageError
from gensoup.runtime.events import Event
from gensoup.runtime.outlet import Outlet, ResultIterator
from gensoup.runtime.result import Result, State


@dataclass(frozen=True)
class Deadlines:
    """limit_ms: the age from which a result is LATE; stale_after_ms: STALE. Without ``judged`` neither is."""

    limit_ms: float
    stale_after_ms: float
    judged: bool

    def __post_init__(self) -> None:
        if not (0 < self.limit_ms < math.inf and 0 < self.stale_after_ms < math.inf):
            raise UsageError("limit_ms and stale_after_ms must be positive")

    def state(self, age_ms: float, degraded: bool) -> State:
        """The state of a result that holds a prediction."""
        if self.judged and age_ms > self.limit_ms and age_ms > self.stale_after_ms:
            return State.STALE
        if degraded:
            return State.DEGRADED
        return State.LATE if self.judged and age_ms > self.limit_ms else State.OK

    def aged(self, result: Result) -> Result:
        """The result as it counts now: STALE once it is older than ``stale_after_ms``."""
        age_ms = (time.monotonic() - result.captured_at) * 1e3
        if result.state is State.FAILED or age_ms <= self.stale_after_ms:
            return result
        return replace(result, state=State.STALE)


class Delivery:
    """Passes results and events to the callbacks, in a thread of its own, and results to any number of iterators.

    Counts frames as well: each that ``expect`` announces is settled once, when its result was passed to ``on_result``
    or dropped on the way.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        sink_size: int,
        on_result: Callable[[Result], None] | None,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        """sink_size: results that may wait at each consumer. Without deadlines to be judged, results wait for room."""
        if sink_size < 1:
            raise UsageError(f"sink_size {sink_size}: must be at least 1")
        self.undelivered = 0
        self.callback_error: Exception | None = None
        self._deadlines = deadlines
        self._sink_size = sink_size
        self._on_result, self._on_event = on_result, on_event
        self._latest: Result | None = None
        self._expected = self._settled = 0
        self._closing = self._ended = False
        self._loops: weakref.WeakSet[Outlet] = weakref.WeakSet()
        self._changed = threading.Condition()  # guards all above
        self._sink: Outlet | None = None
        self._thread: threading.Thread | None = None
        if on_result is not None or on_event is not None:
            self._sink = Outlet(sink_size, not deadlines.judged, lambda: self._lost(settles=True))
            self._thread = threading.Thread(target=self._deliver, args=(self._sink,), name="gensoup-sink", daemon=True)
            self._thread.start()

    def expect(self) -> None:
        """A frame was accepted."""
        with self._changed:
            self._expected += 1

    def settle(self) -> None:
        """A frame was dropped, or its result delivered."""
        with self._changed:
            self._settled += 1
            self._changed.notify_all()

    def drain(self, timeout: float | None) -> bool:
        """Wait until all frames that were expected are settled; False if ``timeout`` seconds are too few."""
        with self._changed:
            return self._changed.wait_for(lambda: self._settled >= self._expected, timeout)

    def publish(self, result: Result) -> None:
        """Pass on the next result."""
        with self._changed:
            self._latest = result
            loops = list(self._loops)
        for loop in loops:
            loop.put(result)
        if self._sink is not None and self._on_result is not None:
            self._sink.put(result)
        else:
            self.settle()

    def tell(self, event: Event) -> None:
        """Pass on an event."""
        if self._sink is not None and self._on_event is not None:
            self._sink.tell(event)

    def latest(self) -> Result | None:
        """The newest result as it counts now, None before the first."""
        with self._changed:
            result = self._latest
        return None if result is None else self._deadlines.aged(result)

    def iterate(self) -> ResultIterator:
        """Results from now on, until the end."""
        loop = Outlet(self._sink_size, not self._deadlines.judged, lambda: self._lost(settles=False))
        with self._changed:
            if self._ended:
                loop.end()
            else:
                self._loops.add(loop)
            if self._closing:
                loop.hurry()
        return ResultIterator(loop, self._as_delivered)

    def hurry(self) -> None:
        """The stream is closing: wait for no loop any more, what was accepted finds room."""
        with self._changed:
            self._closing = True
            loops = list(self._loops)
        for loop in loops:
            loop.hurry()

    def end(self) -> None:
        """There will be no more results."""
        with self._changed:
            self._ended = True
            outlets = [*self._loops, *([self._sink] if self._sink is not None else [])]
        for outlet in outlets:
            outlet.end()

    def join(self) -> None:
        """Wait until what came before the end is delivered."""
        if self._thread is not None:
            self._thread.join()

    def is_mine(self, thread: threading.Thread) -> bool:
        """Whether the callbacks run in ``thread``."""
        return thread is self._thread

    def _deliver(self, sink: Outlet) -> None:
        while (item := sink.get()) is not None:
            try:
                if isinstance(item, Event):
                    assert self._on_event is not None
                    self._on_event(item)
                elif self._on_result is not None:
                    self._on_result(self._as_delivered(item))
            except Exception as error:
                self.callback_error = self.callback_error or error
            if isinstance(item, Result):
                self.settle()

    def _as_delivered(self, result: Result) -> Result:
        return self._deadlines.aged(result) if self._deadlines.judged else result

    def _lost(self, settles: bool) -> None:
        with self._changed:
            self.undelivered += 1
        if settles:
            self.settle()
