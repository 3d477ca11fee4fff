"""What clocks and cores tell: whether the process stood still, the machine slept, a clock was set."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time

import numpy as np

from gensoup.bench.trace import Floats, Trace

PAUSE_S = 0.05
# A standstill of which the process computed, or waited for a core, for so much is no pause. Measured on two cores, of
# which others took 81 to 88%: 97 standstills of 50 ms and more were explained to .98 and more; 25 of 26 stops of 100 ms
# to less than this, though threads that are woken together wait for a core as well.
_NO_PAUSE = 0.75
_EXPLAINED = 0.5
SUSPENDED_S = 0.02
SET_S = 0.05
_SLEW = 1e-3  # clocks are corrected by 500 ppm at most without a step
_WIDTH_S = 1e-3
_TRIES = 20


def read_clocks() -> tuple[float, float, float]:
    """Seconds of the monotonic, the boot-time and the real-time clock at one instant; NaN for what there is not.

    The boot-time clock goes on while the machine sleeps, the monotonic one does not; both are never set. The three are
    read again when something came in between; NaN when that went on.
    """
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    for _ in range(_TRIES):
        before = time.monotonic()
        boot = math.nan if boot_clock is None else time.clock_gettime(boot_clock)
        real = time.time()
        after = time.monotonic()
        if after - before < _WIDTH_S:
            return (before + after) / 2, boot, real
    return math.nan, math.nan, math.nan


def clock_faults(clocks: Floats) -> list[str]:
    """What is wrong with samples [n, 3] of :func:`read_clocks`, a sentence each; none where all clocks ran alike.

    A real-time clock that is set does not touch the gate's own times; but after a virtual machine stood still, that may
    be the only trace of it.
    """
    known = clocks[np.isfinite(clocks[:, 0])]
    steps = np.diff(known, axis=0)
    if not len(steps):
        return []
    slept = steps[:, 1] - steps[:, 0]
    moved = steps[:, 2] - steps[:, 0]
    moved = moved - np.where(np.isfinite(slept), slept, 0)
    slew = _SLEW * steps[:, 0]
    faults = []
    suspended = slept[np.abs(slept) > SUSPENDED_S + slew]
    if len(suspended):
        faults.append(f"the machine slept, or its clock jumped, for {suspended.sum():.2f} s")
    jumped = moved[np.abs(moved) > SET_S + slew]
    if len(jumped):
        faults.append(f"the real-time clock was set by {jumped[np.argmax(np.abs(jumped))]:+.2f} s")
    return faults


def paused_seconds(trace: Trace) -> float:
    """For how long the process stood still, of all pauses of 50 ms and more together.

    A frame that was pushed late without the process having computed, or waited for a core, in the meantime: it was
    stopped (SIGSTOP, a frozen container, a debugger), or the whole machine was. Where the system does not tell how long
    threads waited for a core, none is found. Frames of a camera have no schedule to be late for.
    """
    if trace.live or not len(trace.waited_s) or not len(trace.cpu_s):
        return 0.0
    # Of the first frame it is not known how late the one before it was, which may have held it up.
    ready = np.maximum(trace.scheduled, np.append(math.inf, trace.pushed[:-1]))
    stood = trace.pushed - ready
    paused = (stood > PAUSE_S) & (np.maximum(trace.waited_s, trace.cpu_s) < _NO_PAUSE * stood)
    return float(stood[paused].sum())


def waited_for_cores(trace: Trace, late_ms: float) -> bool:
    """Whether frames that were pushed more than ``late_ms`` late were so, for the most part, because threads of this
    process waited for a core. False where the system does not tell."""
    late = trace.lateness_ms > late_ms
    if not len(trace.waited_s) or not late.any():
        return False
    lateness_s = trace.lateness_ms[late] / 1e3
    return bool(np.minimum(trace.waited_s[late], lateness_s).sum() >= _EXPLAINED * lateness_s.sum())


def longest_gap_s(trace: Trace) -> float:
    """The longest time without a frame, of those in which this process was not kept from a core: 0 without frames."""
    gaps = np.diff(trace.scheduled)
    if len(trace.waited_s):
        gaps = gaps[trace.waited_s[1:] < _EXPLAINED * gaps]
    return float(gaps.max(initial=0.0))


class CoreWait:
    """For how long this process' Python threads were ready to run but had no core, as Linux counts it; NaN elsewhere.

    All of them: a thread may as well wait for another one that holds the interpreter's lock and waits for a core.
    """

    def __init__(self) -> None:
        """Of the threads that there are now."""
        self._files: dict[int, float] = {}
        for thread in threading.enumerate():
            with contextlib.suppress(OSError):
                self._files[os.open(f"/proc/self/task/{thread.native_id}/schedstat", os.O_RDONLY)] = 0.0

    def seconds(self) -> float:
        """Of all threads together, since they began; about a microsecond's work a thread. One that ended keeps its."""
        for file in self._files:
            with contextlib.suppress(OSError, ValueError, IndexError):
                self._files[file] = int(os.pread(file, 80, 0).split()[1]) / 1e9
        return sum(self._files.values()) if self._files else math.nan

    def close(self) -> None:
        """Once."""
        while self._files:
            os.close(self._files.popitem()[0])
