"""Trying engines that are out: proven again after growing pauses, in a thread that is left alone if it hangs."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakSet

from gensoup.runtime.classifier import FrameClassifier
from gensoup.runtime.home_process import HomeProcess

_TRIAL_S = 10.0  # loading an engine anew takes seconds
_EXIT_S = 3.0
MAX_ABANDONED = 3  # threads that hang in engines; no further engine is loaded beside them

Proof = Callable[[FrameClassifier], float]


@dataclass(eq=False)
class Unit:
    """A classifier and what is known of it.

    reload: opens it anew. usable: it may answer. stuck: a call of it that was given up has not returned. mine: loaded
    here, so closed here. slow: it is out for slowness.
    """

    classifier: FrameClassifier
    reload: Callable[[], FrameClassifier] | None
    usable: bool = True
    stuck: bool = False
    mine: bool = False
    slow: bool = False


@dataclass(eq=False)
class Call:
    """A call of a unit's classifier, which may be another by the time that it returns."""

    unit: Unit
    classifier: FrameClassifier
    started: float
    given_up: bool = False


class Revival:
    """Tries the units that are not usable, until all are; see :class:`gensoup.runtime.guard.Guarded`.

    Shares the guard's lock: what is said to be called with it guards the units too.
    """

    def __init__(
        self,
        changed: threading.Condition,
        units: Sequence[Unit],
        prove: Proof,
        slow_ms: float | None,
        retry_s: float,
        longest_retry_s: float,
        home: HomeProcess,
    ) -> None:
        """hanging: threads that hang in a call which was given up."""
        self.hanging = 0
        self._changed = changed
        self._units = units
        self._prove = prove
        self._slow_ms = slow_ms
        self._retry_s = self._wait_s = retry_s
        self._longest_retry_s = longest_retry_s
        self._thread: threading.Thread | None = None
        self._closed = False
        self._home = home
        _REVIVALS.add(self)

    def start(self) -> None:
        """With the lock: some unit is not usable."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="gensoup-reviver", daemon=True)
            self._thread.start()

    def be_quick(self) -> None:
        """With the lock: begin with the shortest wait again."""
        self._wait_s = self._retry_s

    def close(self, timeout_s: float | None = None) -> None:
        """End the trying; an attempt under way is waited for, ``timeout_s`` seconds at most."""
        if not self._home.is_here():
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, self._wait_s):
                    self._thread = None
                    return
                out = [unit for unit in self._units if not unit.usable]
                self._wait_s = min(2 * self._wait_s, self._longest_retry_s)
            for unit in out:
                self._attempt(unit)
            with self._changed:
                if all(unit.usable for unit in self._units):
                    self._thread = None
                    return

    def _attempt(self, unit: Unit) -> None:
        """Try one that is out, in a thread that is left alone if it hangs as well."""
        with self._changed:
            if unit.stuck and (unit.reload is None or self.hanging >= MAX_ABANDONED):
                return
        trial, done = Call(unit, unit.classifier, time.monotonic()), threading.Event()
        threading.Thread(target=self._try, args=(trial, done), name="gensoup-trial", daemon=True).start()
        if done.wait(_TRIAL_S):
            return
        with self._changed:
            if not done.is_set():
                trial.given_up = unit.stuck = True
                self.hanging += 1

    def _try(self, trial: Call, done: threading.Event) -> None:
        """The trial's thread: prove the classifier, or a new one where it hangs still, and let it answer again."""
        unit, fresh = trial.unit, None
        anew = unit.reload if unit.stuck else None
        try:
            if anew is not None:
                fresh = anew()
            usual_ms = self._prove(fresh or trial.classifier)
            passed = not unit.slow or self._slow_ms is None or usual_ms <= self._slow_ms
        except Exception:  # whatever it is: the engine is not fit to answer
            passed = False
        with self._changed:
            if trial.given_up:
                self.hanging -= 1
                unit.stuck = anew is not None  # then it is the old call that hangs still
            elif passed:
                if fresh is not None:
                    unit.classifier, unit.mine, unit.stuck = fresh, True, False
                    fresh = None
                unit.usable = True
            done.set()
        if fresh is not None:
            fresh.engine.close()


_REVIVALS: WeakSet[Revival] = WeakSet()


@atexit.register
def _await_trials() -> None:
    """Wait for attempts under way; see :mod:`gensoup.runtime.inference` for why."""
    for revival in list(_REVIVALS):
        revival.close(_EXIT_S)
