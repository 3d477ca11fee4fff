"""Threads that hand frames to a stream when they are due: by a schedule, or as a live source brings them."""

from __future__ import annotations

import ctypes
import math
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.clocks import CoreWait, read_clocks
from gensoup.runtime.sources.live import LiveSource
from gensoup.runtime.stream import Stream

Frame = NDArray[np.uint8]
Progress = Callable[[int, int], None]

# A sleeping thread is woken late, most of all on an idle or virtual machine; so the last of each wait is spent awake:
# as much of it as wake-ups were late so far, but no more, for a core kept awake is warmer than a camera would find it.
_LEAST_AWAKE_S, _MOST_AWAKE_S = 1e-4, 1e-3
_FORGET = 0.02
_TIMER_SLACK_NS = 1000
_PR_SET_TIMERSLACK = 29
_TRIES, _INSTANT_S = 3, 1e-3
# A camera said to be 60 Hz may send 59.94.
RATE_SHORTFALL = 2e-3
_STARVED = 0.5  # without a core for so much of a gap, the process may have lost what the camera sent
_LIMITED_S = 2.0  # a camera that turned out too slow in the warm-up is not watched for ten minutes


class Pacer(threading.Thread, ABC):
    """Pushes frames; index k of each array belongs to frame k of the stream.

    scheduled, pushed: seconds of ``time.monotonic()``, when frame k was due and its push began. waited_s, cpu_s: see
    :class:`gensoup.bench.trace.Trace`. clocks: samples taken while others wait for this thread. error: what ended it.
    """

    def __init__(self, stream: Stream, duration_s: float) -> None:
        super().__init__(name="gensoup-pacer", daemon=True)
        self.duration_s = duration_s
        self.scheduled: list[float] = []
        self.pushed: list[float] = []
        self.waited_s: list[float] = []
        self.cpu_s: list[float] = []
        self.clocks: list[tuple[float, float, float]] = []
        self.error: Exception | None = None
        self._stream = stream
        self._start_s = math.nan
        self._begun = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Send all frames."""
        _sharpen_timer()
        waits = CoreWait()
        try:
            self._send(waits)
        except Exception as error:
            self.error = error
        finally:
            waits.close()
            self._begun.set()
            self._ended.set()

    @abstractmethod
    def _send(self, waits: CoreWait) -> None: ...

    @property
    def scheduled_s(self) -> float:
        """From the first frame to the last one so far."""
        return self.scheduled[-1] - self.scheduled[0] if self.scheduled else 0.0

    def _begin(self, start_s: float) -> None:
        self._start_s = start_s
        self._begun.set()

    def _push(self, frame: Frame, due: float, waits: CoreWait) -> None:
        pushed, waited, cpu = _counted(waits)  # before the push: a wait within it makes the next frame late
        self._stream.push(frame, captured_at=due)
        self.scheduled.append(due)
        self.pushed.append(pushed)
        self.waited_s.append(waited)
        self.cpu_s.append(cpu)

    def wait(self, until_s: float, progress: Callable[[float], None] | None) -> None:
        """Wait until ``until_s`` seconds after the first frame (all of them: until the end), sampling the clocks and
        telling the progress in seconds once a second."""
        self._begun.wait()
        while not self._ended.is_set():
            self.clocks.append(read_clocks())
            elapsed = time.monotonic() - self._start_s
            if progress is not None:
                progress(min(max(elapsed, 0.0), self.duration_s))
            left = until_s - elapsed
            if left <= 0 and until_s < self.duration_s:
                return
            self._ended.wait(min(1.0, left) if left > 0 else 1.0)
        self.clocks.append(read_clocks())
        if progress is not None and self.error is None:
            progress(self.duration_s)


class ScheduledPacer(Pacer):
    """Frame k is due at start + k / rate; one that it comes too late for is pushed at once, and none is left out."""

    def __init__(self, stream: Stream, frames: Sequence[Frame], rate_hz: float, total: int) -> None:
        super().__init__(stream, total / rate_hz)
        self._frames = frames
        self._rate_hz = rate_hz
        self._total = total

    def _send(self, waits: CoreWait) -> None:
        start = time.monotonic() + 1 / self._rate_hz
        self._begin(start)
        awake = _MOST_AWAKE_S
        for number in range(self._total):
            due = start + number / self._rate_hz
            rest = due - awake - time.monotonic()
            if rest > 0:
                time.sleep(rest)
                late = time.monotonic() - (due - awake)
                awake = _awake_next(awake, late)
            while time.monotonic() < due:
                time.sleep(0)  # gives up the interpreter's lock, but not the core
            self._push(self._frames[number % len(self._frames)], due, waits)


class LivePacer(Pacer):
    """Frames are due when the source brings them. Those of a source faster than ``rate_hz`` are thinned out to it.

    arrived_hz: of the source, before frames are thinned out, with those that were overwritten before they could be
    taken; NaN for fewer than two. lost: how many frames were due, came and could not be taken, before each one that was
    pushed, and at last before the end. size: height and width of the frames. complete: it did not end before its time.
    """

    def __init__(self, stream: Stream, source: LiveSource, rate_hz: float, warmup_s: float, seconds: float) -> None:
        super().__init__(stream, warmup_s + seconds)
        self.arrived_hz = math.nan
        self.lost: list[int] = []
        self._blamed = 0  # of what was overwritten
        self.size = (0, 0)
        self.complete = False
        self._source = source
        self._rate_hz = rate_hz
        self._warmup_s = warmup_s

    def _send(self, waits: CoreWait) -> None:
        count, first, end, judged = 0, math.nan, math.inf, self._warmup_s <= 0
        thinning, overwritten = Thinning(self._rate_hz), self._source.overwritten
        with closing(self._source.arrivals()) as arrivals:
            for at, frame in arrivals:
                if count == 0:
                    first, self.size = at, (frame.shape[0], frame.shape[1])
                    end = at + self.duration_s
                    self._begin(at)
                if at > first:
                    self.arrived_hz = (count + self._source.overwritten - overwritten) / (at - first)
                count += 1
                if at >= end:
                    self._note_lost(at, self._source.overwritten - overwritten, waits)
                    self.complete = True
                    return
                if not judged and at >= first + self._warmup_s:
                    judged = True
                    if self.arrived_hz < self._rate_hz * (1 - RATE_SHORTFALL):
                        end = min(end, at + _LIMITED_S)
                        self.duration_s = end - first
                if thinning.takes(at):
                    self._note_lost(at, self._source.overwritten - overwritten, waits)
                    self._push(frame, at, waits)

    def _note_lost(self, at: float, overwritten: int, waits: CoreWait) -> None:
        """As many as fit the time since the last frame, if the process had no core to take them; else no more than were
        overwritten: what the camera did not send, or would have been thinned out, is not lost."""
        lost = 0
        if self.scheduled:
            gap_s = at - self.scheduled[-1]
            room = max(0, round(gap_s * self._rate_hz) - 1)
            starved = waits.seconds() - self.waited_s[-1] >= _STARVED * gap_s
            lost = room if starved else min(room, max(0, overwritten - self._blamed))
        self._blamed = min(self._blamed + lost, max(overwritten, self._blamed))
        self.lost.append(lost)


class Thinning:
    """Leaves of frames as they come at most ``rate_hz`` a second, and all that do not come faster, however unevenly."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1 / rate_hz
        self._due = -math.inf

    def takes(self, at: float) -> bool:
        """Whether to take the frame that arrived at ``at`` seconds."""
        if at < self._due - self._period_s / 2:
            return False
        self._due = max(self._due, at - self._period_s) + self._period_s
        return True


def _counted(waits: CoreWait) -> tuple[float, float, float]:
    """Now, and the seconds that threads waited for a core and computed until now.

    All at one instant: a thread that loses its core between two of them would have its wait counted for one frame and
    its delay for the next, which then looks like a pause.
    """
    for _ in range(_TRIES):
        before = time.monotonic()
        waited, cpu = waits.seconds(), time.process_time()
        now = time.monotonic()
        if now - before < _INSTANT_S:
            break
    return now, waited, cpu


def _awake_next(awake: float, late: float) -> float:
    """For how long to stay awake before the next frame: up with a late wake-up, slowly down again."""
    wanted = min(max(2 * late, _LEAST_AWAKE_S), _MOST_AWAKE_S)
    return wanted if wanted > awake else awake + _FORGET * (wanted - awake)


def _sharpen_timer() -> None:
    """Linux may wake a thread up to 50 µs late to save power, unless it is asked not to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
