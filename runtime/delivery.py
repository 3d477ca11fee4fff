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
from gensoup.runtime.home_process import HomeProcess
from gensoup.runtime.outlet import Outlet, ResultIterator
from gensoup.runtime.result import Result, State


@dataclass(frozen=True)
class Deadlines:
    """Ages over which a result is LATE (limit_ms) and STALE (stale_after_ms); without ``judged`` it is neither."""

    limit_ms: float
    stale_after_ms: float
    judged: bool

    def __post_init__(self) -> None:
        if not (0 < self.limit_ms < math.inf and 0 < self.stale_after_ms < math.inf):
            raise UsageError("limit_ms and stale_after_ms must be positive")

    def state(self, age_ms: float, degraded: bool) -> State:
        """The state of a result that holds a prediction."""
        if self.judged and age_ms > self.stale_after_ms:
            return State.STALE
        if degraded:
            return State.DEGRADED
        return State.LATE if self.judged and age_ms > self.limit_ms else State.OK

    def aged(self, result: Result) -> Result:
        """The result as it counts now: STALE once it is older than ``stale_after_ms``."""
        age_ms = (time.monotonic() - result.captured_at) * 1e3
        if not self.judged or result.state is State.FAILED or age_ms <= self.stale_after_ms:
            return result
        return replace(result, state=State.STALE)


class Delivery:
    """Passes results and events to the callbacks, in a thread of its own, and results to any number of iterators.

    Knows the frames under way as well: each that ``expect`` announces is settled once, when its result was passed to
    ``on_result`` or it was dropped on the way.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        sink_size: int,
        on_result: Callable[[Result], None] | None,
        on_event: Callable[[Event], None] | None,
        home: HomeProcess,
    ) -> None:
        """sink_size: results that may wait at each consumer. Without deadlines to be judged, results wait for room."""
        if sink_size < 1:
            raise UsageError(f"sink_size {sink_size}: must be at least 1")
        self.undelivered = 0
        self.callback_error: BaseException | None = None
        self._home = home
        self._deadlines = deadlines
        self._sink_size = sink_size
        self._on_result, self._on_event = on_result, on_event
        self._latest: Result | None = None
        self._under_way: set[int] = set()
        self._closing = self._ended = False
        self._loops: weakref.WeakSet[Outlet] = weakref.WeakSet()
        self._changed = threading.Condition()  # guards all above
        self._sink: Outlet | None = None
        self._thread: threading.Thread | None = None
        if on_result is not None or on_event is not None:
            self._sink = Outlet(sink_size, not deadlines.judged, lambda result: self._lost(result, settles=True))
            self._thread = threading.Thread(target=self._deliver, args=(self._sink,), name="gensoup-sink", daemon=True)
            self._thread.start()

    def expect(self, frame_id: int) -> None:
        """A frame is accepted; to be called before anything can become of it."""
        with self._changed:
            self._under_way.add(frame_id)

    def settle(self, frame_id: int) -> None:
        """A frame was dropped, or its result delivered."""
        with self._changed:
            self._under_way.discard(frame_id)
            self._changed.notify_all()

    def drain(self, timeout: float | None) -> bool:
        """Wait until all frames that are expected by now are settled; False if ``timeout`` seconds are too few."""
        with self._changed:
            mine = frozenset(self._under_way)
            return self._changed.wait_for(lambda: mine.isdisjoint(self._under_way), timeout)

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
            self.settle(result.frame_id)

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
        loop = Outlet(self._sink_size, not self._deadlines.judged, lambda result: self._lost(result, settles=False))
        with self._changed:
            if self._ended:
                loop.end()
            else:
                self._loops.add(loop)
            if self._closing:
                loop.hurry()
        return ResultIterator(loop, self._deadlines.aged, self._home)

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
        if self._thread is None:
            self._forget()

    def join(self, timeout: float | None) -> bool:
        """Wait until what came before the end is delivered; False if ``timeout`` seconds are too few."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def is_mine(self, thread: threading.Thread) -> bool:
        """Whether the callbacks run in ``thread``."""
        return thread is self._thread

    def failed(self, error: BaseException) -> None:
        """A callback raised."""
        self.callback_error = self.callback_error or error

    def _deliver(self, sink: Outlet) -> None:
        while (item := sink.get()) is not None:
            try:
                if isinstance(item, Event):
                    assert self._on_event is not None
                    self._on_event(item)
                elif self._on_result is not None:
                    self._on_result(self._deadlines.aged(item))
            except BaseException as error:  # sys.exit() too: it must not end this thread, for which others wait
                self.failed(error)
            if isinstance(item, Result):
                self.settle(item.frame_id)
        self._forget()

    def _forget(self) -> None:
        """After the end: no frame is under way, not even where inference broke off."""
        with self._changed:
            self._under_way.clear()
            self._changed.notify_all()

    def _lost(self, result: Result, settles: bool) -> None:
        with self._changed:
            self.undelivered += 1
        if settles:
            self.settle(result.frame_id)
