"""Frames that arrive open-loop, at exactly their rate, whether the last one is done or not (DESIGN, section 4).

All times are ``time.monotonic()`` seconds, the clock of :class:`gensoup.runtime.Stream`: every frame goes through one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.pacer import LivePacer, Pacer, ScheduledPacer
from gensoup.bench.trace import Trace
from gensoup.runtime.classifier import FrameClassifier
from gensoup.runtime.device import CpuTimes, cpu_times, last_level_cache_bytes, usable_cores
from gensoup.runtime.errors import DataError, EngineError
from gensoup.runtime.events import Event
from gensoup.runtime.result import Result, State
from gensoup.runtime.sources.live import LiveSource
from gensoup.runtime.stream import Stream
from gensoup.runtime.stream_work import FrameSmoother

MAX_RING_BYTES = 1 << 30
HANGS_S = 30.0
_FEWEST_RING_FRAMES = 4
_ROLL = 16  # pixels

Frame = NDArray[np.uint8]
Progress = Callable[[int, int], None]


def run_paced(
    classifier: FrameClassifier,
    frames: Sequence[Frame],
    rate_hz: float,
    seconds: float,
    warmup_s: float = 0.0,
    progress: Progress | None = None,
    smoother: FrameSmoother | None = None,
) -> Trace:
    """Send ``frames`` round and round through a real Stream: frame k is due at t0 + k / ``rate_hz``.

    Frames due in the first ``warmup_s`` seconds are not in the trace. progress: called with frames due so far and all,
    once a second at most, as drawing it takes cores. smoother: as :class:`gensoup.runtime.Stream` takes it.
    Raises DataError when there are no frames to measure.
    """
    warmup, total = round(warmup_s * rate_hz), round((warmup_s + seconds) * rate_hz)
    if not frames or total <= warmup:
        raise DataError(f"nothing to measure: {len(frames)} frames in the ring, {seconds:g} s at {rate_hz:g} Hz")
    record = _Record(total)
    with _stream(classifier, record, total, smoother) as stream:
        pacer = ScheduledPacer(stream, frames, rate_hz, total)
        shares = _pace(pacer, warmup / rate_hz, progress, rate_hz)
    return record.trace(pacer, warmup, rate_hz, *shares)


def run_live(
    classifier: FrameClassifier,
    source: LiveSource,
    rate_hz: float,
    seconds: float,
    warmup_s: float = 0.0,
    progress: Progress | None = None,
    smoother: FrameSmoother | None = None,
) -> tuple[Trace, tuple[int, int]]:
    """Send a live source's frames through a real Stream as they arrive, thinned out to ``rate_hz`` if they come faster.

    Also gives height and width of the frames. Latencies run from the arrival in this process. What the source sent, up
    to ``rate_hz``, and nobody took in time is lost. A source that turns out too slow in the warm-up is measured for two
    seconds only. Raises DataError for one that gives no frame at all.
    """
    most = math.ceil((warmup_s + seconds) * rate_hz) + 2
    record = _Record(most)
    with _stream(classifier, record, most, smoother) as stream:
        pacer = LivePacer(stream, source, rate_hz, warmup_s, seconds)
        shares = _pace(pacer, warmup_s, progress, rate_hz)
    warmup = int(np.searchsorted(pacer.scheduled, (pacer.scheduled or [0.0])[0] + warmup_s)) if warmup_s > 0 else 0
    trace = record.trace(pacer, warmup, pacer.arrived_hz, *shares)
    failure = "" if pacer.complete else source.failure or f"no more frames after {pacer.scheduled_s:.1f} s"
    return replace(trace, live=True, lost=sum(pacer.lost[warmup:]), source_failure=failure), pacer.size


@contextmanager
def _stream(
    classifier: FrameClassifier, record: _Record, size: int, smoother: FrameSmoother | None
) -> Iterator[Stream]:
    """A stream that ends with every result delivered. Raises EngineError for an engine that hangs and has no guard."""
    stream = Stream(classifier, record.add, on_event=record.note, sink_size=size, smoother=smoother)
    try:
        yield stream
    finally:
        ended = stream.close(HANGS_S)
    if not ended:
        raise EngineError(f"{classifier.engine.name} hangs: no answer for {HANGS_S:g} s")


def _pace(pacer: Pacer, warmup_s: float, progress: Progress | None, rate_hz: float) -> tuple[float, float]:
    """Run a pacer to its end; the shares of all cores' time idle and in this process after the warm-up."""

    def tell(elapsed_s: float) -> None:
        if progress is not None:
            progress(round(elapsed_s * rate_hz), round(pacer.duration_s * rate_hz))

    pacer.start()
    pacer.wait(warmup_s, tell)
    before, own, started = cpu_times(), time.process_time(), time.monotonic()
    pacer.wait(math.inf, tell)
    after, own = cpu_times(), time.process_time() - own
    pacer.join()
    if pacer.error is not None:
        raise pacer.error
    return _idle(before, after), own / ((time.monotonic() - started) * usable_cores())


def _idle(before: CpuTimes | None, after: CpuTimes | None) -> float:
    idle = before.idle_fraction_until(after) if before is not None and after is not None else None
    return math.nan if idle is None else idle


class _Record:
    """Takes results as they come, into arrays: nothing of a frame is kept but its numbers."""

    def __init__(self, total: int) -> None:
        self._started, self._done, self._preprocess_ms, self._engine_ms = (np.full(total, math.nan) for _ in range(4))
        self._dropped, self._failed = np.ones(total, bool), np.zeros(total, bool)
        self._fell_back: list[str] = []

    def add(self, result: Result) -> None:
        """In the stream's sink thread."""
        at = result.frame_id
        self._dropped[at] = False
        self._failed[at] = result.state is State.FAILED
        self._started[at], self._done[at] = result.started_at, result.done_at
        if result.prediction is not None:
            self._preprocess_ms[at], self._engine_ms[at] = result.prediction.preprocess_ms, result.prediction.engine_ms

    def note(self, event: Event) -> None:
        """In the stream's sink thread, too."""
        if event.kind != "recovered":
            self._fell_back.append(f"{event.kind}: {event.engine} ({event.reason})")

    def trace(self, pacer: Pacer, warmup: int, rate_hz: float, idle: float, own: float) -> Trace:
        """Of all frames after the first ``warmup``."""
        pushed = slice(warmup, len(pacer.scheduled))
        waited, cpu = (np.diff(total, prepend=total[:1]) for total in (pacer.waited_s, pacer.cpu_s))
        return Trace(
            scheduled=np.array(pacer.scheduled)[pushed],
            pushed=np.array(pacer.pushed)[pushed],
            started=self._started[pushed],
            done=self._done[pushed],
            preprocess_ms=self._preprocess_ms[pushed],
            engine_ms=self._engine_ms[pushed],
            dropped=self._dropped[pushed],
            failed=self._failed[pushed],
            rate_hz=rate_hz,
            idle_fraction=idle,
            own_fraction=own,
            waited_s=np.zeros(0) if np.isnan(waited).any() else waited[pushed],
            cpu_s=cpu[pushed],
            clocks=np.array(pacer.clocks).reshape(-1, 3),
            fell_back=tuple(self._fell_back),
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
