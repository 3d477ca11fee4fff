"""A consumer's end of a stream: results wait here for whoever takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from gensoup.runtime.events import Event
from gensoup.runtime.home_process import HomeProcess
from gensoup.runtime.result import Result


class Outlet:
    """Holds ``size`` results at most, and any number of events, which are few.

    When a result comes and there is no room, the oldest result is discarded and told to ``discarded``; with ``waits``,
    the one who puts it waits for room instead, until ``hurry`` or ``leave``.
    """

    def __init__(self, size: int, waits: bool, discarded: Callable[[Result], None]) -> None:
        self._size = size
        self._waits = waits
        self._discarded = discarded
        self._items: deque[Result | Event] = deque()
        self._results = 0
        self._ended = self._left = False
        self._changed = threading.Condition()

    def put(self, result: Result) -> None:
        """Add a result. After ``leave`` it is discarded, untold."""
        discarded: Result | None = None
        with self._changed:
            while self._waits and self._results >= self._size and not self._left:
                self._changed.wait()
            if self._left:
                return
            if not self._waits and self._results >= self._size:
                at, discarded = next((at, item) for at, item in enumerate(self._items) if isinstance(item, Result))
                del self._items[at]
                self._results -= 1
            self._items.append(result)
            self._results += 1
            self._changed.notify_all()
        if discarded is not None:
            self._discarded(discarded)

    def tell(self, event: Event) -> None:
        """Add an event."""
        with self._changed:
            if not self._left:
                self._items.append(event)
                self._changed.notify_all()

    def get(self) -> Result | Event | None:
        """The next result or event, waiting for it; None when there will be none any more."""
        with self._changed:
            while not self._items and not self._ended and not self._left:
                self._changed.wait()
            if not self._items:
                return None
            item = self._items.popleft()
            self._results -= isinstance(item, Result)
            self._changed.notify_all()
            return item

    def hurry(self) -> None:
        """Make whoever puts wait no longer: the stream closes, and what was accepted must find room."""
        with self._changed:
            self._waits = False
            self._size = self._size + self._results + 8
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more comes; what is there can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def leave(self) -> None:
        """The consumer is gone: nobody takes anything any more."""
        with self._changed:
            self._left = True
            self._items.clear()
            self._results = 0
            self._changed.notify_all()


class ResultIterator(Iterator[Result]):
    """What ``for result in stream`` runs over. Its outlet is left when the loop is."""

    def __init__(self, outlet: Outlet, aged: Callable[[Result], Result], home: HomeProcess) -> None:
        self._outlet = outlet
        self._aged = aged
        self._home = home

    def __next__(self) -> Result:
        """Raises UsageError in a forked child."""
        self._home.check()
        while (item := self._outlet.get()) is not None:
            if isinstance(item, Result):
                return self._aged(item)
        raise StopIteration

    def close(self) -> None:
        """Take no more results."""
        if self._home.is_here():
            self._outlet.leave()

    def __del__(self) -> None:
        self.close()
