"""The thread that classifies, and the watchdog that puts another in its place when the engine hangs."""

from __future__ import annotations

import atexit
import threading
import time
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.attempt import GaveUp, attempt
from gensoup.runtime.classifier import FrameClassifier, Prediction
from gensoup.runtime.errors import EngineError, UsageError
from gensoup.runtime.events import Event
from gensoup.runtime.guard import Guarded
from gensoup.runtime.home_process import HomeProcess
from gensoup.runtime.mailbox import Mailbox, MailboxClosed

Job = TypeVar("Job")
Taken = TypeVar("Taken", contravariant=True)

SWAP_TOO_LATE = "the stream is closed: swap before close()"
_SWITCH_S = 10.0
_EXIT_S = 3.0


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
    """Who owns the jobs. Called by one thread at a time, in the order of the jobs, but for ``hurry``, ``delivered``."""

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
        """Between two jobs the classifier became another; with a lock held, in whichever thread asked for it."""
        ...

    def hurry(self) -> None:
        """The end was asked for: let nothing that was answered wait for anybody."""
        ...

    def ended(self) -> None:
        """There will be no more jobs."""
        ...

    def delivered(self, timeout_s: float | None) -> bool:
        """Wait, after the end, until all answers are delivered; False after ``timeout_s`` seconds. In any thread."""
        ...


class Inference(Generic[Job]):
    """Takes jobs from a mailbox and classifies them in a thread of its own, until the mailbox is closed and empty.

    With a :class:`Guarded` classifier a second thread watches: a call that hangs is given up, its job is answered
    without a prediction, and another thread goes on. It looks at the clock when the call would be overdue, twice a
    second where there are none, so that a frame costs no change of threads.
    """

    def __init__(
        self, classifier: FrameClassifier, mailbox: Mailbox[Job], handler: Handler[Job], home: HomeProcess
    ) -> None:
        """failure: what broke the thread off, None unless something here or in ``handler`` is broken."""
        self.classifier = classifier
        self.failure: BaseException | None = None
        self._home = home
        self._mailbox = mailbox
        self._handler = handler
        self._next: FrameClassifier | None = None
        self._job: Job | None = None
        self._started_at = 0.0
        self._changed = threading.Condition()  # guards all above, and the threads
        self._ended = threading.Event()
        self._watchdog: threading.Thread | None = None
        _RUNNING.add(self)
        self._go_on()
        self._watch_if_guarded()

    def stop(self) -> None:
        """Take no more jobs; what is in the mailbox is answered still. Does nothing in a forked child."""
        if self._home.is_here():
            self._mailbox.close()
            self._handler.hurry()

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
                    raise UsageError(SWAP_TOO_LATE)
                raise EngineError(f"{before.engine.name} hangs: there is no moment between two frames to swap in")
        self._watch_if_guarded()
        return before

    def join(self, timeout_s: float | None) -> bool:
        """Wait until the mailbox is closed and empty, all is delivered and the threads are gone.

        False after ``timeout_s`` seconds, or at once in a forked child.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._home.is_here() or not self._ended.wait(timeout_s):
            return False
        for thread in (self._thread, self._watchdog):
            if thread is not None:
                thread.join()
        return self._handler.delivered(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def is_mine(self, thread: threading.Thread) -> bool:
        """Whether ``thread`` classifies or watches."""
        return thread in (self._thread, self._watchdog)

    def _go_on(self) -> None:
        """In a new thread, known before it begins: it may end at once, and who joins must not join the one before."""
        self._thread = threading.Thread(target=self._run, name="gensoup-inference", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while (job := self._mailbox.get()) is not None:
                with self._changed:
                    self._job, self._started_at = job, time.monotonic()
                    classifier = self.classifier
                self._finish(job, self._answer(job, classifier), classifier)
        except MailboxClosed:
            pass
        except GaveUp:
            return  # another thread is in this one's place
        except BaseException as error:  # whoever pushes, drains or closes must not wait for a thread that is gone
            self.failure = error
            self._mailbox.close()
        self._handler.ended()
        with self._changed:
            self._ended.set()
            self._changed.notify_all()

    def _answer(self, job: Job, classifier: FrameClassifier) -> Answer:
        frame: NDArray[np.uint8] | None = None

        def classify() -> Prediction:
            nonlocal frame
            frame = self._handler.picture(job)
            return classifier(frame)

        prediction, error = attempt(classify)
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


_RUNNING: WeakSet[Inference[Any]] = WeakSet()


@atexit.register
def _await_engines() -> None:
    """End what was not closed, and wait for the frames in work, three seconds at most.

    Python before 3.14 ends a daemon thread that comes back from native code while the interpreter is shut down, and
    C++ answers that with ``terminate``: the process would be aborted instead of ending with its exit code.
    """
    deadline = time.monotonic() + _EXIT_S
    for inference in list(_RUNNING):
        inference.stop()
    for inference in list(_RUNNING):
        inference.join(max(0.0, deadline - time.monotonic()))
