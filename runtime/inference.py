"""The thread that classifies, and the watchdog that puts another in its place when the engine hangs."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.classifier import FrameClassifier, Prediction
from gensoup.runtime.errors import EngineError, UsageError
from gensoup.runtime.events import Event
from gensoup.runtime.guard import GaveUp, Guarded
from gensoup.runtime.mailbox import Mailbox, MailboxClosed

Job = TypeVar("Job")
Taken = TypeVar("Taken", contravariant=True)


_SWITCH_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What a classifier made of a frame: a prediction, or the reason why there is none.

    started_at: ``time.monotonic()`` seconds. frame: BGR uint8 [height, width, 3]; None where the call was given up, and
    the job's frame may still be read. engine, bundle: see :class:`gensoup.runtime.Result`. degraded: the engine stands
    in for another.
    """

    prediction: Prediction | None
    error: str
    started_at: float
    frame: NDArray[np.uint8] | None
    engine: str
    bundle: str
    degraded: bool


class Handler(Protocol[Taken]):
    """Who owns the jobs. All methods are called by one thread at a time, in the order of the jobs."""

    def picture(self, job: Taken) -> NDArray[np.uint8]:
        """The job's frame, BGR uint8 [height, width, 3]."""
        ...

    def answered(self, job: Taken, answer: Answer) -> None:
        """A job is done."""
        ...

    def told(self, event: Event) -> None:
        """Something happened to the engine."""
        ...

    def switched(self, before: FrameClassifier, now: FrameClassifier) -> None:
        """Between two jobs the classifier became another."""
        ...

    def ended(self) -> None:
        """There will be no more jobs."""
        ...


class Inference(Generic[Job]):
    """Takes jobs from a mailbox and classifies them in a thread of its own, until the mailbox is closed and empty.

    With a :class:`Guarded` classifier a second thread watches: a call that hangs is given up, its job is answered
    without a prediction, and another thread goes on. It looks at the clock when the call would be overdue, twice a
    second where there are none, so that a frame costs no change of threads.
    """

    def __init__(self, classifier: FrameClassifier, mailbox: Mailbox[Job], handler: Handler[Job]) -> None:
        self.classifier = classifier
        self._mailbox = mailbox
        self._handler = handler
        self._next: FrameClassifier | None = None
        self._job: Job | None = None
        self._started_at = 0.0
        self._changed = threading.Condition()  # guards all above, and the threads
        self._ended = threading.Event()
        self._watchdog: threading.Thread | None = None
        self._go_on()
        self._watch_if_guarded()

    def switch(self, classifier: FrameClassifier) -> FrameClassifier:
        """Let another classifier answer from the next frame on, and give back the one before.

        Waits for the frame in work. Raises UsageError when the mailbox is closed and empty, EngineError when the frame
        in work takes more than 10 s.
        """
        with self._changed:
            before, self._next = self.classifier, classifier
            if self._job is None and not self._ended.is_set():
                self._settle()
            self._changed.wait_for(lambda: self._next is None or self._ended.is_set(), _SWITCH_S)
            if self._next is not None:
                self._next = None
                if self._ended.is_set():
                    raise UsageError("the stream is closed: swap before close()")
                raise EngineError(f"{before.engine.name} hangs: there is no moment between two frames to swap in")
        self._watch_if_guarded()
        return before

    def join(self, timeout_s: float | None) -> bool:
        """Wait until the mailbox is closed and empty and the threads are gone; False after ``timeout_s`` seconds."""
        if not self._ended.wait(timeout_s):
            return False
        for thread in (self._thread, self._watchdog):
            if thread is not None:
                thread.join()
        return True

    def is_mine(self, thread: threading.Thread) -> bool:
        """Whether ``thread`` classifies or watches."""
        return thread in (self._thread, self._watchdog)

    def _go_on(self) -> None:
        """In a new thread, known before it begins: it may end at once, and who joins must not join the one before."""
        self._thread = threading.Thread(target=self._run, name="gensoup-inference", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                job = self._mailbox.get()
            except MailboxClosed:
                self._handler.ended()
                with self._changed:
                    self._ended.set()
                    self._changed.notify_all()
                return
            if job is None:
                continue
            with self._changed:
                self._job, self._started_at = job, time.monotonic()
                classifier = self.classifier
            try:
                answer = self._answer(job, classifier)
            except GaveUp:
                return  # another thread is in this one's place
            self._finish(job, answer, classifier)

    def _answer(self, job: Job, classifier: FrameClassifier) -> Answer:
        prediction: Prediction | None = None
        error, frame = "", None
        try:
            frame = self._handler.picture(job)
            prediction = classifier(frame)
            if not math.isfinite(prediction.probability):
                prediction, error = None, "the engine gave a probability that is not finite"
        except GaveUp:
            raise
        except Exception as caught:
            error = str(caught) or type(caught).__name__
        return self._told(classifier, prediction, error, frame)

    def _told(
        self,
        classifier: FrameClassifier,
        prediction: Prediction | None,
        error: str,
        frame: NDArray[np.uint8] | None,
    ) -> Answer:
        degraded = isinstance(classifier, Guarded) and classifier.degraded
        bundle = str(getattr(classifier, "sha256", ""))
        return Answer(prediction, error, self._started_at, frame, classifier.engine.name, bundle, degraded)

    def _finish(self, job: Job, answer: Answer, classifier: FrameClassifier) -> None:
        if isinstance(classifier, Guarded):
            for event in classifier.take_events():
                self._handler.told(event)
        self._handler.answered(job, answer)
        with self._changed:
            self._job = None
            self._settle()

    def _settle(self) -> None:
        """With the lock, between two frames: switch if that is wanted."""
        if self._next is not None:
            before, self.classifier, self._next = self.classifier, self._next, None
            self._handler.switched(before, self.classifier)
            self._changed.notify_all()

    def _watch_if_guarded(self) -> None:
        with self._changed:
            if isinstance(self.classifier, Guarded) and self._watchdog is None and not self._ended.is_set():
                self._watchdog = threading.Thread(target=self._watch, name="gensoup-watchdog", daemon=True)
                self._watchdog.start()

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._ended.wait(pause_s):
            classifier = self.classifier
            pause_s = 0.5
            if isinstance(classifier, Guarded):
                engine, degraded = classifier.engine.name, classifier.degraded
                if (reason := classifier.give_up()) is not None:
                    self._replace(classifier, reason, engine, degraded)
                pause_s = max(0.001, classifier.time_left_s())

    def _replace(self, classifier: Guarded, reason: str, engine: str, degraded: bool) -> None:
        """The thread that classifies hangs, in ``classifier``: answer in its place, and go on in another one."""
        job = self._job
        assert job is not None
        answer = Answer(None, reason, self._started_at, None, engine, classifier.sha256, degraded)
        self._finish(job, answer, classifier)
        self._go_on()
