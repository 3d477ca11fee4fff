"""A source that waits for nobody: read by a thread of its own, watched, and connected again when it is lost."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError
from gensoup.runtime.home_process import HomeProcess
from gensoup.runtime.mailbox import Mailbox, MailboxClosed

FIRST_DELAY_S = 0.1
LAST_DELAY_S = 5.0
_STEADY_S = 5.0  # a connection that held so long was a good one: the next loss begins with the shortest delay
_JOIN_S = 0.5
_EXIT_S = 3.0
_MOST_HUNG = 4
_TOLERANCE = 0.02  # of an announced length, which containers often only estimate

Frame = NDArray[np.uint8]
Arrival = tuple[float, Frame]


class Capture(Protocol):
    """An open connection."""

    @property
    def rate_hz(self) -> float | None:
        """Frames per second as the source states them, None where it does not."""

    @property
    def frames(self) -> int | None:
        """The announced length, None for what has no end."""

    def read(self) -> Arrival | None:
        """Wait for the next frame; None when there is none any more. May hang."""
        ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class SourceEvent:
    """What happened to a live source at ``at`` (``time.monotonic()``); ``text`` is a line for people.

    lost: no frames any more. back: frames again. ended: the source had an end, and it is reached.
    """

    kind: Literal["lost", "back", "ended"]
    at: float
    text: str


class LiveSource:
    """Frames of a camera or stream as they arrive, the newest first of all: what nobody took in time is replaced.

    A source is lost when its read fails, or when a read brings nothing for ``stall_s`` seconds; it is then connected
    again after .1 s, .2 s, … 5 s, until frames come. A source that announced its length and gave that many
    frames has ended instead. A read that hangs is left behind in its thread, at most four of them.

    losses, reconnects: how often that happened. away_s: seconds without the source, ended losses only.
    failure: why the last iteration broke off, "" if it ended in order. frames: always None.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Capture],
        *,
        reconnect: bool = True,
        on_event: Callable[[SourceEvent], None] | None = None,
        open_s: float = 10.0,
        stall_s: float = 2.0,
    ) -> None:
        """Nothing is opened yet. connect: opens the source, called in the reading thread; raises DataError.

        on_event: called in the iterating thread. open_s: how long the first frame of a connection may take.
        """
        self.name = name
        self.rate_hz: float | None = None
        self.frames: int | None = None
        self.skipped: list[str] = []
        self.losses = self.reconnects = self._overwritten = 0
        self.away_s = 0.0
        self.failure = ""
        self._connect = connect
        self._reconnect = reconnect
        self._on_event = on_event
        self._open_s = open_s
        self._stall_s = stall_s
        self._closed = threading.Event()
        self._reader: _Reader | None = None
        self._hung: list[_Reader] = []

    @property
    def overwritten(self) -> int:
        """Frames so far that came before their predecessor was taken."""
        reader = self._reader
        return self._overwritten + (0 if reader is None else reader.mailbox.drops)

    def __iter__(self) -> Iterator[Frame]:
        for _, frame in self.arrivals():
            yield frame

    def arrivals(self) -> Generator[Arrival, None, None]:
        """Connect; yield frames with the ``time.monotonic()`` at which they arrived, until the end or :meth:`close`.

        Raises DataError, naming the source, when the first connection brings no frame: that is a wrong address rather
        than a loss. Without ``reconnect`` a loss ends the frames, and ``failure`` says why.
        """
        self.failure = ""
        delay = FIRST_DELAY_S
        lost_at: float | None = None
        seen = False
        while not self._closed.is_set():
            reader = self._started()
            if reader is None:
                return
            began: float | None = None
            try:
                for arrival in self._taken(reader):
                    if began is None:
                        began = arrival[0]
                        self.rate_hz = reader.rate_hz
                    if lost_at is not None:
                        self._tell_back(lost_at)
                        lost_at = None
                    seen = True
                    yield arrival
            finally:
                self._stop(reader)
            if self._closed.is_set():
                return
            if reader.complete:
                self._tell("ended", f"ended after {reader.count} frames")
                return
            if not seen:
                raise DataError(f"{self.name}: {reader.problem}")
            if lost_at is None:
                lost_at = time.monotonic()
                self.losses += 1
                again = "; connecting again" if self._reconnect else ""
                self._tell("lost", f"lost: {reader.problem}{again}")
            if not self._reconnect:
                self.failure = reader.problem
                return
            if began is not None and time.monotonic() - began >= _STEADY_S:
                delay = FIRST_DELAY_S
            self._closed.wait(delay)
            delay = min(2 * delay, LAST_DELAY_S)

    def close(self) -> None:
        """End the frames, from any thread, at once even when a read hangs. A closed source gives no more frames."""
        self._closed.set()
        reader = self._reader
        if reader is not None:
            reader.mailbox.close()

    def _started(self) -> _Reader | None:
        """A new reader, once fewer than four old ones hang; None when it is closed before."""
        while True:
            self._hung = [reader for reader in self._hung if reader.thread.is_alive()]
            if len(self._hung) < _MOST_HUNG:
                break
            if self._closed.wait(LAST_DELAY_S):
                return None
        self._reader = reader = _Reader(self.name, self._connect)
        if self._closed.is_set():  # close() came before it could see this reader
            reader.mailbox.close()
        return reader

    def _stop(self, reader: _Reader) -> None:
        """End a reader; wait for it a little, so that a device is free again before it is next opened."""
        reader.mailbox.close()
        reader.thread.join(_JOIN_S)
        self._overwritten += reader.mailbox.drops
        self._reader = None
        if reader.thread.is_alive():
            self._hung.append(reader)

    def _taken(self, reader: _Reader) -> Iterator[Arrival]:
        """What a reader brings, until it ends or stalls."""
        patience = self._open_s
        while True:
            try:
                arrival = reader.mailbox.get(patience)
            except MailboxClosed:
                return
            if arrival is None:
                reader.problem = f"no frame for {patience:g} s"
                return
            yield arrival
            patience = self._stall_s

    def _tell_back(self, lost_at: float) -> None:
        away = time.monotonic() - lost_at
        self.reconnects += 1
        self.away_s += away
        self._tell("back", f"back after {away:.1f} s")

    def _tell(self, kind: Literal["lost", "back", "ended"], text: str) -> None:
        if self._on_event is not None:
            self._on_event(SourceEvent(kind, time.monotonic(), f"{self.name}: {text}"))


_READERS: WeakSet[_Reader] = WeakSet()


@atexit.register
def _await_readers() -> None:
    """Wait for reads under way, three seconds at most: FFmpeg's and Video4Linux' give up after two.

    Python before 3.14 ends a daemon thread that comes back from native code while the interpreter is shut down, and
    C++ answers that with ``terminate``: the process would be aborted instead of ending with its exit code.
    """
    deadline = time.monotonic() + _EXIT_S
    readers = [reader for reader in _READERS if reader.home.is_here()]
    for reader in readers:
        reader.mailbox.close()
    for reader in readers:
        reader.thread.join(max(0.0, deadline - time.monotonic()))


class _Reader:
    """One connection and its thread. It ends when the mailbox is closed, as soon as its read returns.

    complete: the source reached the end that it had announced. problem: why else it ended.
    """

    def __init__(self, name: str, connect: Callable[[], Capture]) -> None:
        self.mailbox: Mailbox[Arrival] = Mailbox()
        self.home = HomeProcess("a source", "open it in this process")
        self.rate_hz: float | None = None
        self.count = 0
        self.complete = False
        self.problem = ""
        self._connect = connect
        # A daemon: a read that hangs for ever must not keep the process.
        self.thread = threading.Thread(target=self._read, name=f"gensoup-source {name}", daemon=True)
        _READERS.add(self)
        self.thread.start()

    def _read(self) -> None:
        capture: Capture | None = None
        try:
            capture = self._connect()
            self.rate_hz = capture.rate_hz
            while (arrival := capture.read()) is not None:
                self.count += 1
                self.mailbox.put(arrival)
            self._judge(capture)
        except MailboxClosed:
            pass
        except Exception as error:
            self.problem = self.problem or str(error) or type(error).__name__
        finally:
            self.mailbox.close()  # before release, which may hang as well
            if capture is not None:
                capture.release()

    def _judge(self, capture: Capture) -> None:
        if self.count and capture.frames is not None:
            self.complete = self.count >= capture.frames * (1 - _TOLERANCE) - 1
        found = f"no more frames after {self.count}" if self.count else "it is open but gives no frame"
        self.problem = self.problem or found  # a stall was noticed before its read came back
