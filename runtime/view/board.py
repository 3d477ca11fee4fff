"""What the live view knows: the newest result and the last minutes. One thread writes it, others read it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gensoup.runtime.errors import UsageError
from gensoup.runtime.result import Result, State
from gensoup.runtime.stream import LIMIT_MS, STALE_AFTER_MS, Mode

BUCKET_S = 0.1  # what the charts resolve; a bucket keeps the worst of what fell into it
HISTORY_S = 120.0
STATISTICS_S = 10.0  # what percentiles and shares are taken over
RATE_S = 2.0
_RECENT = 4096  # results at most, for statistics: 10 s at 400 Hz
_EVENTS = 50

# What a view can be in beside the states of a result.
WAITING, ENDED = "WAITING", "ENDED"
_GRAVITY = {State.OK.value: 0, State.LATE.value: 1, "DEGRADED": 2, State.STALE.value: 3, State.FAILED.value: 4}


@dataclass(frozen=True)
class About:
    """What does not change while a stream runs.

    labels: in the order of the probabilities. thresholds: label → least probability at which it counts as certain.
    limit_ms, stale_after_ms: the stream's, see :class:`gensoup.runtime.Stream`.
    """

    labels: tuple[str, ...]
    bundle: str
    source: str
    mode: Mode = "realtime"
    sha256: str = ""
    precision: str = "fp32"
    limit_ms: float = LIMIT_MS
    stale_after_ms: float = STALE_AFTER_MS
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.labels and self.limit_ms > 0 and self.stale_after_ms > 0):
            raise UsageError("a live view needs labels, and limits that are positive")


@dataclass(frozen=True)
class Now:
    """How the stream stands at this moment.

    state: a :class:`State`'s value, WAITING before the first result, ENDED after the last. reason: why it is not OK.
    result: the newest, None before the first. current: whether its label may be shown as the present one.
    age_ms: from the newest result's capture to now, NaN before the first.
    """

    state: str
    reason: str
    result: Result | None
    current: bool
    age_ms: float


@dataclass
class Bucket:
    """A tenth of a second of results.

    number: since the board was made. age_ms: the worst from capture to result. state: the gravest.
    probabilities: of the last result that had any. drops: frames dropped meanwhile.
    """

    number: int
    results: int = 0
    age_ms: float = 0.0
    state: str = State.OK.value
    probabilities: list[float] | None = None
    drops: int = 0

    def take(self, result: Result, drops: int, is_ours: bool) -> None:
        """Add a result; ``drops``: frames dropped since the one before. is_ours: see :meth:`Board.is_ours`."""
        self.results += 1
        self.drops += drops
        self.state = max(self.state, result.state.value, key=lambda state: _GRAVITY.get(state, 0))
        if result.prediction is not None:
            self.age_ms = max(self.age_ms, result.age_ms)
            self.probabilities = (
                [round(float(value), 3) for value in result.prediction.probabilities] if is_ours else None
            )

    def row(self) -> list[Any]:
        """What the page draws: number, results, age_ms, state, drops, probabilities."""
        return [self.number, self.results, round(self.age_ms, 2), self.state, self.drops, self.probabilities]


class Board:
    """The latest results of one stream; every method may be called from any thread and takes microseconds."""

    def __init__(self, about: About, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: the clock of the results' times."""
        self.about = about
        self.described = 0  # how often ``about`` was changed
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._newest: Result | None = None
        self._ended: str | None = None
        self._states: Counter[str] = Counter()
        self._recent: deque[tuple[float, float, bool, int]] = deque(maxlen=_RECENT)  # done_at, age_ms, missed, drops
        self._buckets: deque[Bucket] = deque(maxlen=round(HISTORY_S / BUCKET_S))
        self._events: deque[tuple[int, float, str]] = deque(maxlen=_EVENTS)  # number, time.time(), text
        self._noted = 0

    def add(self, result: Result) -> None:
        """Take the next result, in the order of the frames."""
        with self._lock:
            before, self._newest = self._newest, result
            drops = result.drops - (before.drops if before is not None else 0)
            self._states[result.state.value] += 1
            missed = result.prediction is None or result.age_ms > self.about.limit_ms
            self._recent.append((result.done_at, result.age_ms, missed, drops))
            number = int((result.done_at - self._began) / BUCKET_S)
            if not self._buckets or self._buckets[-1].number < number:
                self._buckets.append(Bucket(number))
            self._buckets[-1].take(result, drops, self._is_ours(result))
            self._note_change(before, result)

    def describe(self, about: About) -> None:
        """Another bundle answers from now on; what is known of probabilities so far belongs to the labels before."""
        with self._lock:
            if about.labels != self.about.labels:
                for bucket in self._buckets:
                    bucket.probabilities = None
            self.about = about
            self.described += 1
            self._note(f"bundle: {about.bundle}")

    def is_ours(self, result: Result) -> bool:
        """Whether the probabilities of a result are those of ``about``'s labels, in their order."""
        with self._lock:
            return self._is_ours(result)

    def note(self, text: str) -> None:
        """Add a line to the events that the page lists."""
        with self._lock:
            self._note(text)

    def end(self, reason: str) -> None:
        """The stream has ended; nothing is current any more."""
        with self._lock:
            self._ended = reason
            self._note(reason)

    def now(self) -> Now:
        """How the stream stands. Old results are never current, whatever their own state says."""
        with self._lock:
            result, ended = self._newest, self._ended
        if result is None:
            return Now(ENDED if ended else WAITING, ended or "no frame has been classified yet", None, False, np.nan)
        about, clock = self.about, self._clock()
        age_ms = (clock - result.captured_at) * 1e3
        fresh_ms = age_ms if about.mode == "realtime" else (clock - result.done_at) * 1e3
        if ended is not None:
            return Now(ENDED, ended, result, False, age_ms)
        if result.prediction is None:
            return Now(State.FAILED.value, result.error or "the engine failed", result, False, age_ms)
        if result.state is State.STALE or fresh_ms > about.stale_after_ms:
            reason = f"the newest result is {fresh_ms / 1e3:.1f} s old"
            return Now(State.STALE.value, reason, result, False, age_ms)
        return Now(result.state.value, self._why(result), result, True, age_ms)

    def rows(self, after: int, most: int) -> list[list[Any]]:
        """At most ``most`` whole buckets with numbers over ``after``, the oldest first."""
        open_number = self.bucket_now()
        with self._lock:
            fresh: list[Bucket] = []
            for bucket in reversed(self._buckets):
                if bucket.number <= after:
                    break
                if bucket.number < open_number:
                    fresh.append(bucket)
            return [bucket.row() for bucket in fresh[::-1][:most]]

    def bucket_now(self) -> int:
        """The number of the bucket that is being filled."""
        return int((self._clock() - self._began) / BUCKET_S)

    def events(self, after: int) -> list[list[Any]]:
        """Events with numbers over ``after``: number, seconds since 1970, text."""
        with self._lock:
            return [list(event) for event in self._events if event[0] > after]

    def totals(self) -> tuple[int, dict[str, int]]:
        """Frames dropped so far, and results per state."""
        with self._lock:
            return (self._newest.drops if self._newest is not None else 0), dict(self._states)

    def statistics(self) -> dict[str, float | None]:
        """Over the last ten seconds: p50_ms, p99_ms, max_ms (capture to result), missed (share), drops; fps over two.

        missed: results over the limit or failed, and drops, among results and drops. None where there is no result.
        """
        with self._lock:
            recent = list(self._recent)
        clock = self._clock()
        recent = [one for one in recent if one[0] > clock - STATISTICS_S]
        seconds = min(RATE_S, max(clock - self._began, BUCKET_S))
        fps = sum(one[0] > clock - seconds for one in recent) / seconds
        drops = sum(one[3] for one in recent)
        told: dict[str, float | None] = {"fps": fps, "drops": drops}
        if not recent:
            return {**told, "p50_ms": None, "p99_ms": None, "max_ms": None, "missed": None}
        p50, p99, most = (
            float(value) for value in np.percentile([age_ms for _, age_ms, _, _ in recent], [50, 99, 100])
        )
        missed = (sum(one[2] for one in recent) + drops) / (len(recent) + drops)
        return {**told, "p50_ms": p50, "p99_ms": p99, "max_ms": most, "missed": missed}

    def _is_ours(self, result: Result) -> bool:
        about, prediction = self.about, result.prediction
        if prediction is None or (about.sha256 and result.bundle and about.sha256 != result.bundle):
            return False
        return len(prediction.probabilities) == len(about.labels)

    def _why(self, result: Result) -> str:
        if result.state is State.LATE:
            return f"{result.age_ms:.0f} ms from capture to result; the limit is {self.about.limit_ms:g} ms"
        return f"answered by {result.engine}" if result.state.value == "DEGRADED" else ""

    def _note_change(self, before: Result | None, result: Result) -> None:
        """Events that results themselves tell; lateness is no event, it comes and goes many times a second."""
        if before is None:
            self._note(f"first result, from {result.engine}")
            return
        gap_s = result.done_at - before.done_at
        if gap_s * 1e3 > self.about.stale_after_ms:
            self._note(f"no result for {gap_s:.1f} s")
        if before.bundle != result.bundle and result.bundle != self.about.sha256:
            self._note(f"another bundle answers, not described here: {result.bundle[:12]}")
        if before.engine != result.engine:
            self._note(f"engine: {before.engine} → {result.engine}")
        if before.prediction is not None and result.prediction is None:
            self._note(f"failed: {result.error or 'the engine failed'}")
        elif before.prediction is None and result.prediction is not None:
            self._note("results again")

    def _note(self, text: str) -> None:
        self._noted += 1
        self._events.append((self._noted, time.time(), text))
