"""What a stream's inference thread does beside classifying: convert, smooth, judge, pass on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.classifier import FrameClassifier, Prediction
from gensoup.runtime.delivery import Deadlines, Delivery
from gensoup.runtime.events import Event
from gensoup.runtime.frame_pool import FramePool
from gensoup.runtime.inference import Answer
from gensoup.runtime.mailbox import Mailbox
from gensoup.runtime.pixels import PixelFormat, to_bgr
from gensoup.runtime.result import Result, State
from gensoup.runtime.swap import same_labels

Frame = NDArray[np.uint8]


class FrameSmoother(Protocol):
    """What a stream needs of a smoother over time; both methods are called in the inference thread alone."""

    def update(self, prediction: Prediction, captured_at: float, frame: Frame) -> object:
        """Take the next prediction; what is returned becomes ``Result.smoothed``.

        captured_at: ``time.monotonic()`` seconds, never later than now; it may run backwards, as a camera's clock may.
        frame: what was classified, BGR uint8 [height, width, 3] of the camera's size; valid during this call only.
        """
        ...

    def reset(self) -> None:
        """Forget everything: the next prediction has other labels."""
        ...


@dataclass(frozen=True)
class Job:
    """A frame that was pushed, in a buffer of the pool's."""

    frame_id: int
    frame: Frame
    format: PixelFormat
    captured_at: float
    pushed_at: float


class StreamWork:
    """See :class:`gensoup.runtime.inference.Handler`."""

    def __init__(
        self,
        delivery: Delivery,
        mailbox: Mailbox[Job],
        pool: FramePool,
        smoother: FrameSmoother | None,
        deadlines: Deadlines,
    ) -> None:
        self._delivery = delivery
        self._mailbox = mailbox
        self._pool = pool
        self._smoother = smoother
        self._deadlines = deadlines
        self._converted: Frame | None = None
        self._other_labels = False

    def picture(self, job: Job) -> Frame:
        """The frame as BGR, in a buffer that the next one takes over."""
        if job.format == "bgr":
            return job.frame
        self._converted = to_bgr(job.frame, job.format, self._converted)
        return self._converted

    def answered(self, job: Job, answer: Answer) -> None:
        """Smooth, judge, pass on; the buffer is free unless a call that was given up may still read it."""
        prediction, error = answer.prediction, answer.error
        smoothed: object = None
        if prediction is not None and answer.frame is not None:
            try:
                smoothed = self._smoothed(prediction, job.captured_at, answer.frame)
            except Exception as caught:
                prediction, error = None, str(caught) or type(caught).__name__
        done_at = time.monotonic()
        if answer.frame is None:
            self._converted = None
        else:
            self._pool.give_back(job.frame)
        state = State.FAILED
        if prediction is not None:
            state = self._deadlines.state((done_at - job.captured_at) * 1e3, answer.degraded)
        times = (job.captured_at, job.pushed_at, answer.started_at, done_at)
        drops, engine, bundle = self._mailbox.drops, answer.engine, answer.bundle
        result = Result(job.frame_id, *times, drops, state, prediction, engine, error, smoothed, bundle)
        self._delivery.publish(result)

    def told(self, event: Event) -> None:
        """Pass on what happened to the engine."""
        self._delivery.tell(event)

    def switched(self, before: FrameClassifier, now: FrameClassifier) -> None:
        """Another bundle answers: what was smoothed holds only for the same labels."""
        self._other_labels = self._other_labels or not same_labels(before, now)
        bundle = str(getattr(now, "sha256", ""))
        self._delivery.tell(Event("swapped", time.monotonic(), now.engine.name, f"bundle {bundle[:16]}"))

    def hurry(self) -> None:
        """The stream is closing."""
        self._delivery.hurry()

    def ended(self) -> None:
        """The last frame is done."""
        self._delivery.end()

    def delivered(self, timeout_s: float | None) -> bool:
        """Whether the callbacks have had everything."""
        return self._delivery.join(timeout_s)

    def _smoothed(self, prediction: Prediction, captured_at: float, frame: Frame) -> object:
        if self._smoother is None:
            return None
        if self._other_labels:  # not when they changed: that was in another thread, with a lock held
            self._smoother.reset()
            self._other_labels = False
        return self._smoother.update(prediction, captured_at, frame)
