"""What became of a frame, and how far it can be trusted.

All times are seconds of ``time.monotonic()`` (CLOCK_MONOTONIC on Linux), and nothing else is ever compared with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gensoup.runtime.classifier import Prediction


class State(str, Enum):
    """How far a result can be trusted as the present.

    OK: in time. LATE: its age passed the limit. DEGRADED: answered by the engine that stands in for one that failed,
    in time or late. STALE: too old to be shown as current, whichever engine answered. FAILED: no prediction.
    """

    OK = "OK"
    LATE = "LATE"
    DEGRADED = "DEGRADED"
    STALE = "STALE"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Result:
    """What became of one frame.

    captured_at, pushed_at, started_at, done_at: ``time.monotonic()`` seconds when the frame arrived (as the caller of
        :meth:`gensoup.runtime.stream.Stream.push` says, else ``pushed_at``), was handed to the stream, reached the
        inference thread, was done.
    drops: frames replaced by newer ones before they were classified, since the stream began.
    prediction: None if and only if the state is FAILED; ``error`` then says why.
    engine: the one that answered. bundle: the SHA-256 of the bundle it came from, empty where there is none.
    smoothed: what the stream's smoother made of the prediction, None without one.
    """

    frame_id: int
    captured_at: float
    pushed_at: float
    started_at: float
    done_at: float
    drops: int
    state: State
    prediction: Prediction | None
    engine: str
    error: str = ""
    smoothed: object = None
    bundle: str = ""

    @property
    def age_ms(self) -> float:
        """Milliseconds from capture to the result."""
        return (self.done_at - self.captured_at) * 1e3

    @property
    def latency_ms(self) -> float:
        """Milliseconds from push to the result: copy, wait, preprocessing and inference."""
        return (self.done_at - self.pushed_at) * 1e3
