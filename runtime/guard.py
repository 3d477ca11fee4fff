"""A classifier that outlives its engine: what fails is replaced by the reference engine, and tried again later."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.attempt import NOT_FINITE, GaveUp
from gensoup.runtime.certificate import Certificate
from gensoup.runtime.classifier import FrameClassifier, Prediction
from gensoup.runtime.engines import Engine
from gensoup.runtime.errors import DataError, EngineError, UsageError
from gensoup.runtime.events import Event, EventKind
from gensoup.runtime.home_process import HomeProcess
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.revival import Call, Proof, Revival, Unit
from gensoup.runtime.slowness import Slowness

SLOW_MS = 15.625  # a frame's time at 64 Hz
_PATIENT_FACTOR = 4.0  # a call that takes so many times its usual time hangs, where that is more than patience_s
_RELAPSE_S = 60.0


class Guarded:
    """Two classifiers as one: the first answers until its engine raises, hangs or is slow, then the other stands in.

    An engine that raises once is out: the frame is answered by the other, none is lost. It is slow when over half a
    second more than half of its calls take longer than ``slow_ms``, and out only if the other would not, or is twice as
    fast. It hangs when a call takes longer than ``patience_s``, or four times what the other one takes if that is more;
    a :class:`gensoup.runtime.stream.Stream` then gives the call up and goes on in another thread. A plain caller waits.
    A frame that is none (DataError) is nobody's failure.

    What is out is tried again after ``retry_s`` seconds, then after twice as many and so on up to ``longest_retry_s``,
    in a thread of its own, by ``prove``; what passes answers from the next call on. An engine that hangs still is
    loaded anew for that, if ``reload`` says how and fewer than three threads hang. For an engine that fails again
    within a minute of its recovery the waiting goes on from where it was.

    For one caller at a time. Close it to end the trying; a forked child must not use it.
    """

    def __init__(
        self,
        first: FrameClassifier,
        second: FrameClassifier,
        prove: Proof,
        *,
        reload_first: Callable[[], FrameClassifier] | None = None,
        reload_second: Callable[[], FrameClassifier] | None = None,
        slow_ms: float | None = SLOW_MS,
        patience_s: float = 0.5,
        retry_s: float = 1.0,
        longest_retry_s: float = 60.0,
    ) -> None:
        """``another(path)``, where it is set, opens another bundle in the same way. certificate: of the first one.

        ``prove(classifier)`` raises for one that may not answer, else gives its usual milliseconds; ``second`` is
        proven at once. slow_ms: None judges no speed. Raises UsageError for times that are not positive."""
        if not (patience_s > 0 and longest_retry_s >= retry_s > 0 and (slow_ms is None or slow_ms > 0)):
            raise UsageError("slow_ms, patience_s and retry_s must be positive, longest_retry_s no shorter")
        self.another: Callable[[Path], Guarded] | None = None
        self.certificate: Certificate | None = None
        self._first = Unit(first, reload_first)
        self._second = Unit(second, reload_second)
        self._second_ms = prove(second)
        self._slowness = None if slow_ms is None else Slowness(slow_ms, self._second_ms)
        self.patience_s = max(patience_s, _PATIENT_FACTOR * self._second_ms / 1e3)
        self._changed = threading.Condition()  # guards all below
        self._current = self._first
        self._call: Call | None = None
        self._too_slow: str | None = None
        self._events: deque[Event] = deque(maxlen=256)
        self._recovered_at = -float("inf")
        self._home = HomeProcess("a guarded classifier", "load it in the child")
        units = (self._second, self._first)
        self._revival = Revival(self._changed, units, prove, slow_ms, retry_s, longest_retry_s, self._home)

    @property
    def current(self) -> FrameClassifier:
        """The classifier that answered last, or answers next."""
        return self._current.classifier

    @property
    def engine(self) -> Engine:
        """The engine that answered last."""
        return self.current.engine

    @property
    def degraded(self) -> bool:
        """Whether the second one stands in."""
        return self._current is not self._first

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the one that answers."""
        return tuple(getattr(self.current, "labels", ()))

    @property
    def preprocess(self) -> Preprocess:
        """Of the one that answers, where it has one."""
        found: Preprocess = getattr(self.current, "preprocess")  # noqa: B009
        return found

    @property
    def sha256(self) -> str:
        """The digest of the bundle."""
        return str(getattr(self.current, "sha256", ""))

    @property
    def precision(self) -> str:
        """Of the graph that answers."""
        return str(getattr(self.current, "precision", "fp32"))

    @property
    def hanging(self) -> int:
        """Threads that hang in an engine's call which was given up, four at most."""
        return self._revival.hanging

    def __call__(self, frame: NDArray[np.uint8]) -> Prediction:
        """Classify a BGR uint8 frame [height, width, 3].

        Raises DataError for anything else, EngineError when neither engine gives an answer, GaveUp when the call was
        given up meanwhile.
        """
        call = self._begin()
        try:
            return self._answer(call, frame)
        except (DataError, GaveUp):
            raise
        except Exception as error:
            if call.unit is self._second:
                raise
            self._fail_over(str(error) or type(error).__name__)
        return self._answer(self._begin(), frame)

    def time_left_s(self) -> float:
        """Seconds until the present call counts as hanging; ``patience_s`` where there is none."""
        with self._changed:
            call = self._call
            return self.patience_s if call is None else call.started + self.patience_s - time.monotonic()

    def give_up(self) -> str | None:
        """Give the present call up if it hangs, and say so in a line; None where nothing hangs.

        The caller must go on in another thread: the present one gets GaveUp, if it ever returns.
        """
        with self._changed:
            call, now = self._call, time.monotonic()
            if call is None or now < call.started + self.patience_s:
                return None
            call.given_up = call.unit.stuck = True
            self._call = None
            self._revival.hanging += 1
            reason = f"{call.classifier.engine.name} gave no answer in {now - call.started:.2f} s"
            if call.unit is self._first:
                self._out(reason)
            else:
                self._second.usable = False
                self._tell("no engine", call.classifier, reason)
                self._revival.start()
            return reason

    def take_events(self) -> list[Event]:
        """What happened since the last time."""
        if not self._events:
            return []
        with self._changed:
            events = list(self._events)
            self._events.clear()
            return events

    def close(self, engines: bool = False) -> None:
        """End the trying; an attempt under way is waited for. The engines that the guard loaded itself are closed, with
        ``engines`` those it was given too; what hangs is left alone."""
        self._revival.close()
        for unit in (self._first, self._second):
            if (unit.mine or engines) and not unit.stuck:
                unit.classifier.engine.close()

    def _begin(self) -> Call:
        """Note the beginning of a call, on whichever classifier is to answer from now on."""
        self._home.check()
        with self._changed:
            if self._too_slow is not None:  # only now: the frame on which that was found out is the slow one's answer
                reason, self._too_slow = self._too_slow, None
                self._fail_over(reason, slow=True)
            if self._first.usable and self._current is not self._first:
                self._current = self._first
                self._recovered_at = time.monotonic()
                self._tell("recovered", self._first.classifier, "gives the golden outputs again")
            if not self._current.usable:
                raise EngineError(f"no engine: {self.engine.name} hangs too")
            call = Call(self._current, self._current.classifier, time.monotonic())
            self._call = call
            return call

    def _answer(self, call: Call, frame: NDArray[np.uint8]) -> Prediction:
        try:
            prediction = call.classifier(frame)
            if not np.isfinite(prediction.probability):
                raise EngineError(NOT_FINITE)
        finally:
            self._end(call)
        if call.unit is self._first and self._slowness is not None:
            self._too_slow = self._slowness.add(call.started, time.monotonic(), prediction.preprocess_ms)
        return prediction

    def _end(self, call: Call) -> None:
        with self._changed:
            if not call.given_up:
                self._call = None
                return
            self._revival.hanging -= 1
            if call.unit.classifier is call.classifier:
                call.unit.stuck = False
            else:  # replaced while it hung
                call.classifier.engine.close()
        raise GaveUp

    def _fail_over(self, reason: str, slow: bool = False) -> None:
        with self._changed:
            self._first.slow = slow
            self._out(f"{self._first.classifier.engine.name}: {reason}")

    def _out(self, reason: str) -> None:
        """With the lock: the first one is out."""
        self._first.usable = False
        self._current = self._second
        if self._slowness is not None:
            self._slowness.forget()
        if time.monotonic() - self._recovered_at > _RELAPSE_S:
            self._revival.be_quick()
        self._tell("failed over" if self._second.usable else "no engine", self._second.classifier, reason)
        self._revival.start()

    def _tell(self, kind: EventKind, classifier: FrameClassifier, reason: str) -> None:
        self._events.append(Event(kind, time.monotonic(), classifier.engine.name, reason))
