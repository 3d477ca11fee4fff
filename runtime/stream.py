"""The live path: capture → one-slot mailbox → inference thread → sink thread (DESIGN, section 4).

All times are seconds of ``time.monotonic()`` (CLOCK_MONOTONIC on Linux), and nothing else is ever compared with them.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.classifier import Prediction
from gensoup.runtime.engines import Engine
from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.mailbox import Mailbox, MailboxClosed

Mode = Literal["realtime", "throughput"]
Frame = NDArray[np.uint8]


class State(str, Enum):
    """How far a result can be trusted as the present.

    OK: in time. LATE: its age passed the limit. STALE: too old to be shown as current. FAILED: no prediction.
    """

    OK = "OK"
    LATE = "LATE"
    STALE = "STALE"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Result:
    """What became of one frame.

    captured_at, pushed_at, started_at, done_at: ``time.monotonic()`` seconds when the frame arrived (as the caller of
        :meth:`Stream.push` says, else ``pushed_at``), was handed to the stream, reached the inference thread, was done.
    drops: frames replaced by newer ones before they were classified, since the stream began.
    prediction: None if and only if the state is FAILED; ``error`` then says why.
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

    @property
    def age_ms(self) -> float:
        """Milliseconds from capture to the result."""
        return (self.done_at - self.captured_at) * 1e3

    @property
    def latency_ms(self) -> float:
        """Milliseconds from push to the result: copy, wait, preprocessing and inference."""
        return (self.done_at - self.pushed_at) * 1e3


class FrameClassifier(Protocol):
    """What a stream needs of a classifier: :class:`gensoup.runtime.Classifier` has it."""

    engine: Engine

    def __call__(self, frame: Frame) -> Prediction:
        """Classify a BGR uint8 frame [height, width, 3]."""
        ...


@dataclass(frozen=True)
class _Job:
    frame_id: int
    frame: Frame
    captured_at: float
    pushed_at: float


class Stream:
    """Classifies the newest frame, always; use it as a context manager.

    ``push`` may be called from any thread; one thread alone calls the classifier; another one alone calls
    ``on_result(result)``, in the order of the frames, so a slow consumer never holds up inference. What such a consumer
    leaves in the queue of ``sink_size`` results is dropped, oldest first, and counted in ``undelivered``; the state is
    judged anew on delivery, so that what waited there too long comes as STALE.
    If ``on_result`` raises, the stream goes on; the first exception stays in ``callback_error`` and :meth:`close`
    raises it, unless the ``with`` block ends in an exception of its own.

    realtime: ``push`` never waits; a frame that still waits when a newer one comes is dropped, counted in ``drops`` and
        told to ``on_drop(frame_id)``, called in the pushing thread. A result older than ``limit_ms`` is LATE, one older
        than ``stale_after_ms`` STALE.
    throughput: every frame, in order; ``push`` waits for its turn, inference waits for the consumer, and no deadline is
        judged: results are OK or FAILED.
    """

    def __init__(
        self,
        classifier: FrameClassifier,
        on_result: Callable[[Result], None] | None = None,
        *,
        limit_ms: float = 15.625,
        stale_after_ms: float = 250.0,
        mode: Mode = "realtime",
        on_drop: Callable[[int], None] | None = None,
        sink_size: int = 1,
    ) -> None:
        """The threads start at once. Raises UsageError for an unknown mode or limits that are not positive."""
        if mode not in get_args(Mode):
            raise UsageError(f"mode '{mode}': must be one of {', '.join(get_args(Mode))}")
        if not (0 < limit_ms < math.inf and 0 < stale_after_ms < math.inf and sink_size > 0):
            raise UsageError("limit_ms, stale_after_ms and sink_size must be positive")
        self.undelivered = 0
        self.callback_error: Exception | None = None
        self._classifier = classifier
        self._on_result = on_result
        self._on_drop = on_drop
        self._limit_ms = limit_ms
        self._stale_after_ms = stale_after_ms
        self._mode: Mode = mode
        self._mailbox: Mailbox[_Job] = Mailbox(blocking=mode == "throughput")
        self._results: queue.Queue[Result | None] = queue.Queue(sink_size)
        self._spare: list[Frame] = []
        self._latest: Result | None = None
        self._next_id = 0
        self._settled_frames = 0
        self._pushing = threading.Lock()
        self._settled = threading.Condition()  # guards _next_id, _settled_frames, _latest, _spare, undelivered
        self._threads = [
            threading.Thread(target=self._infer, name="gensoup-inference", daemon=True),
            threading.Thread(target=self._deliver, name="gensoup-sink", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def drops(self) -> int:
        """Frames replaced by newer ones so far."""
        return self._mailbox.drops

    def push(self, frame: Frame, captured_at: float | None = None) -> int:
        """Hand in a BGR uint8 frame [height, width, 3]; return its id: 0, 1, 2, …

        The frame is copied: its owner may change it at once. captured_at: when it arrived, in seconds of
        ``time.monotonic()``; None means now. Raises DataError for anything but a frame, UsageError after ``close``.
        """
        _check_frame(frame)
        with self._pushing:
            try:
                if self._mailbox.blocking:
                    self._mailbox.wait_until_free()
                pushed_at = time.monotonic()
                buffer = self._buffer(frame.shape)
                np.copyto(buffer, frame)
                job = _Job(self._next_id, buffer, pushed_at if captured_at is None else captured_at, pushed_at)
                replaced = self._mailbox.put(job)
            except MailboxClosed as error:
                raise UsageError("the stream is closed: push frames before close()") from error
            with self._settled:
                self._next_id += 1
            if replaced is not None:
                self._release(replaced.frame)
                self._settle()
        if replaced is not None and self._on_drop is not None:  # outside of the lock: it may push
            self._on_drop(replaced.frame_id)
        return job.frame_id

    def latest(self) -> Result | None:
        """The newest result, None before the first. Its state is STALE once it is older than ``stale_after_ms``."""
        with self._settled:
            result = self._latest
        return None if result is None else self._aged(result)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every frame pushed so far is dropped or delivered; False if ``timeout`` seconds are too few."""
        with self._settled:
            return self._settled.wait_for(lambda: self._settled_frames >= self._next_id, timeout)

    def close(self) -> None:
        """Classify and deliver what was accepted, end both threads, raise the first exception of ``on_result`` once.

        Called from ``on_result`` it only asks for the end: waiting there for the other thread would be for ever.
        """
        self._mailbox.close()
        if threading.current_thread() in self._threads:
            return
        for thread in self._threads:
            thread.join()
        error, self.callback_error = self.callback_error, None
        if error is not None:
            raise error

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise

    def _infer(self) -> None:
        try:
            while True:
                job = self._mailbox.get()
                if job is not None:
                    self._publish(self._classified(job))
        except MailboxClosed:
            self._results.put(None)

    def _classified(self, job: _Job) -> Result:
        started_at = time.monotonic()
        prediction: Prediction | None = None
        problem = ""
        try:
            prediction = self._classifier(job.frame)
            if not math.isfinite(prediction.probability):
                prediction, problem = None, "the engine gave a probability that is not finite"
        except Exception as error:
            problem = str(error) or type(error).__name__
        done_at = time.monotonic()
        self._release(job.frame)
        state = State.FAILED if prediction is None else self._judged((done_at - job.captured_at) * 1e3)
        engine = self._classifier.engine.name
        times = (job.captured_at, job.pushed_at, started_at, done_at)
        return Result(job.frame_id, *times, self.drops, state, prediction, engine, problem)

    def _judged(self, age_ms: float) -> State:
        if self._mode == "throughput" or age_ms <= self._limit_ms:
            return State.OK
        return State.STALE if age_ms > self._stale_after_ms else State.LATE

    def _aged(self, result: Result) -> Result:
        """The result as it counts now: STALE once it is older than ``stale_after_ms``."""
        age_ms = (time.monotonic() - result.captured_at) * 1e3
        if result.state is State.FAILED or age_ms <= self._stale_after_ms:
            return result
        return replace(result, state=State.STALE)

    def _publish(self, result: Result) -> None:
        with self._settled:
            self._latest = result
        if self._mode == "throughput":
            self._results.put(result)
            return
        while True:
            try:
                self._results.put_nowait(result)
                return
            except queue.Full:
                self._discard_oldest()

    def _discard_oldest(self) -> None:
        try:
            self._results.get_nowait()
        except queue.Empty:  # the sink took it meanwhile
            return
        with self._settled:
            self.undelivered += 1
        self._settle()

    def _deliver(self) -> None:
        while (result := self._results.get()) is not None:
            try:
                if self._on_result is not None:
                    self._on_result(result if self._mode == "throughput" else self._aged(result))
            except Exception as error:
                self.callback_error = self.callback_error or error
            self._settle()

    def _settle(self) -> None:
        with self._settled:
            self._settled_frames += 1
            self._settled.notify_all()

    def _buffer(self, shape: tuple[int, ...]) -> Frame:
        """A pooled buffer: at most three are in use at once (being filled, waiting, being classified)."""
        with self._settled:
            while self._spare:
                buffer = self._spare.pop()
                if buffer.shape == shape:
                    return buffer
        return np.empty(shape, np.uint8)

    def _release(self, buffer: Frame) -> None:
        with self._settled:
            self._spare.append(buffer)


def _check_frame(frame: object) -> None:
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3:
        return
    got = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
    raise DataError(f"a frame must be a BGR uint8 array [height, width, 3], got {got}")
