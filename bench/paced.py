"""Frames that arrive open-loop, at exactly their rate, whether the last one is done or not (DESIGN, section 4).

All times are ``time.monotonic()`` seconds, the clock of :class:`gensoup.runtime.Stream`: every frame goes through one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.trace import Trace
from gensoup.runtime.device import cpu_times, last_level_cache_bytes, usable_cores
from gensoup.runtime.errors import DataError
from gensoup.runtime.stream import FrameClassifier, Result, State, Stream

MAX_RING_BYTES = 1 << 30
_FEWEST_RING_FRAMES = 4
_ROLL = 16  # pixels

Frame = NDArray[np.uint8]


def run_paced(
    classifier: FrameClassifier,
    frames: Sequence[Frame],
    rate_hz: float,
    seconds: float,
    warmup_s: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Send ``frames`` round and round through a real Stream: frame k is due at t0 + k / ``rate_hz``.

    Frames due in the first ``warmup_s`` seconds are not in the trace. progress: called with frames due so far and all,
    once a second at most, as drawing it takes cores. Raises DataError when there are no frames to measure.
    """
    warmup, total = round(warmup_s * rate_hz), round((warmup_s + seconds) * rate_hz)
    if not frames or total <= warmup:
        raise DataError(f"nothing to measure: {len(frames)} frames in the ring, {seconds:g} s at {rate_hz:g} Hz")
    results: list[Result] = []
    with Stream(classifier, results.append, sink_size=total) as stream:
        pacer = _Pacer(stream, frames, rate_hz, total)
        pacer.start()
        pacer.wait_until(warmup, progress)
        before, own = cpu_times(), time.process_time()
        started = time.monotonic()
        pacer.wait_until(total, progress)
        after, own = cpu_times(), time.process_time() - own
        own /= (time.monotonic() - started) * usable_cores()
        pacer.join()
        if pacer.error is not None:
            raise pacer.error
        stream.drain()
    idle = before.idle_fraction_until(after) if before is not None and after is not None else None
    return _trace(pacer, results, warmup, math.nan if idle is None else idle, own)


# A sleeping thread is woken late, most of all on an idle or virtual machine; so the last of each wait is spent awake.
WATCH_S = 1e-3


class _Pacer(threading.Thread):
    """Pushes each frame when it is due; one it comes too late for is pushed at once, and none is left out."""

    def __init__(self, stream: Stream, frames: Sequence[Frame], rate_hz: float, total: int) -> None:
        super().__init__(name="gensoup-pacer", daemon=True)
        self.rate_hz = rate_hz
        self.scheduled = np.arange(total) / rate_hz
        self.pushed = np.full(total, math.nan)
        self.error: Exception | None = None
        self._stream = stream
        self._frames = frames
        self._total = total
        self._begun = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            self.scheduled += time.monotonic() + 1 / self.rate_hz
            self._begun.set()
            for number, due in enumerate(self.scheduled.tolist()):
                time.sleep(max(0.0, due - WATCH_S - time.monotonic()))
                while time.monotonic() < due:
                    time.sleep(0)  # gives up the interpreter's lock, but not the core
                self.pushed[number] = time.monotonic()
                self._stream.push(self._frames[number % len(self._frames)], captured_at=due)
        except Exception as error:
            self.error = error
        finally:
            self._begun.set()
            self._ended.set()

    def wait_until(self, number: int, progress: Callable[[int, int], None] | None) -> None:
        """Wait until frame ``number`` is due (the last one: pushed), telling the progress."""
        self._begun.wait()
        start = float(self.scheduled[0])
        while not self._ended.is_set():
            due = int((time.monotonic() - start) * self.rate_hz)
            if progress is not None:
                progress(min(max(due, 0), self._total), self._total)
            left = start + number / self.rate_hz - time.monotonic()
            if left <= 0 and number < self._total:
                return
            self._ended.wait(min(1.0, left) if left > 0 else 1.0)
        if progress is not None:
            progress(self._total, self._total)


def _trace(pacer: _Pacer, results: list[Result], warmup: int, idle: float, own: float) -> Trace:
    total = len(pacer.scheduled)
    started, done, preprocess, engine = (np.full(total, math.nan) for _ in range(4))
    dropped, failed = np.ones(total, bool), np.zeros(total, bool)
    for result in results:
        at = result.frame_id
        dropped[at] = False
        failed[at] = result.state is State.FAILED
        started[at], done[at] = result.started_at, result.done_at
        if result.prediction is not None:
            preprocess[at], engine[at] = result.prediction.preprocess_ms, result.prediction.engine_ms
    return Trace(
        scheduled=pacer.scheduled[warmup:],
        pushed=pacer.pushed[warmup:],
        started=started[warmup:],
        done=done[warmup:],
        preprocess_ms=preprocess[warmup:],
        engine_ms=engine[warmup:],
        dropped=dropped[warmup:],
        failed=failed[warmup:],
        rate_hz=pacer.rate_hz,
        idle_fraction=idle,
        own_fraction=own,
    )


def ring_length(frame_bytes: int) -> int:
    """Frames of a ring larger than twice the last-level cache, so that each is read from memory as a camera's would
    be; at least 4, at most 1 GiB."""
    wanted = max(_FEWEST_RING_FRAMES, math.ceil(2 * last_level_cache_bytes() / frame_bytes))
    return max(1, min(wanted, MAX_RING_BYTES // frame_bytes))


def fill_ring(frames: Sequence[Frame]) -> list[Frame]:
    """A ring of :func:`ring_length` frames out of the given ones; where they are too few, copies shifted sideways."""
    length = ring_length(frames[0].nbytes)
    return [
        frames[at] if at < len(frames) else np.roll(frames[at % len(frames)], _ROLL * (at // len(frames)), axis=1)
        for at in range(length)
    ]
