from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pytest
from gate_samples import latencies, trace_of

from gensoup.bench import clocks
from gensoup.bench.clocks import CoreWait, clock_faults, paused_seconds, read_clocks


def samples(*, slept: float = 0.0, set_by: float = 0.0, slew: float = 0.0, count: int = 5) -> np.ndarray:
    """Once a second; in the middle the machine sleeps and the real-time clock is set."""
    monotonic = np.arange(count) + 7.0
    late = np.arange(count) >= count // 2
    boot = monotonic + 100 + slept * late
    real = monotonic * (1 + slew) + 1.7e9 + slept * late + set_by * late
    return np.stack([monotonic, boot, real], axis=1)


def test_this_machines_clocks_run_alike() -> None:
    read = np.array([read_clocks() for _ in range(50)])
    assert np.isfinite(read).all() or sys.platform != "linux"
    assert clock_faults(read) == []


def test_clocks_that_run_alike_have_no_faults() -> None:
    assert clock_faults(samples()) == []
    assert clock_faults(samples(slew=5e-4)) == []  # corrected as fast as time servers may
    assert clock_faults(samples(count=1)) == []
    assert clock_faults(np.zeros((0, 3))) == []


@pytest.mark.parametrize("seconds", [0.3, -2.0, 3600.0])
def test_a_clock_that_was_set_is_told(seconds: float) -> None:
    (fault,) = clock_faults(samples(set_by=seconds))
    assert f"set by {seconds:+.2f} s" in fault


def test_sleep_is_told_once_though_the_real_time_clock_went_on_too() -> None:
    (fault,) = clock_faults(samples(slept=60.0))
    assert "slept" in fault
    assert "60.00 s" in fault


def test_samples_that_could_not_be_taken_are_left_out() -> None:
    holes = samples(set_by=1.0)
    holes[2] = np.nan
    assert len(clock_faults(holes)) == 1
    no_boot_clock = samples(set_by=1.0)
    no_boot_clock[:, 1] = np.nan
    assert len(clock_faults(no_boot_clock)) == 1


def test_clocks_are_read_at_one_instant_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking = iter(range(1000))
    monkeypatch.setattr(clocks.time, "monotonic", lambda: float(next(ticking)))
    assert np.isnan(read_clocks()).all()


@pytest.mark.parametrize(
    ("frame", "waited_s", "cpu_s", "paused"),
    [
        (7, 0.001, 0.007, True),  # stopped for 100 ms on an idle machine
        (7, 0.055, 0.005, True),  # on a busy one: all threads wake up and wait for a core
        (7, 0.097, 0.002, False),  # a core was missing
        (7, 0.003, 0.098, False),  # the process computed
        (0, 0.004, 0.003, False),  # held up by the last frame of the warm-up, which is not in the trace
    ],
)
def test_a_frame_is_late_for_a_pause_or_for_want_of_a_core(
    frame: int, waited_s: float, cpu_s: float, paused: bool
) -> None:
    trace = trace_of(latencies(64))
    for values, late in ((trace.pushed, 0.1), (trace.waited_s, waited_s), (trace.cpu_s, cpu_s)):
        values[frame] += late - (0 if values is trace.pushed else values[frame])
    assert paused_seconds(trace) == pytest.approx(0.1 if paused else 0.0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity, counted by Linux")
def test_waiting_for_a_core_is_counted_of_all_threads_and_sleeping_is_not() -> None:
    ended = threading.Event()

    def compute() -> None:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        while not ended.is_set():
            np.sort(np.random.default_rng(0).random(100_000))  # without the interpreter's lock

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    waits = CoreWait()
    before = waits.seconds()
    time.sleep(0.3)
    shared = waits.seconds() - before
    ended.set()
    for thread in threads:
        thread.join()
    before = waits.seconds()
    assert before > 0  # threads that ended keep what they had
    waits.close()
    assert np.isnan(waits.seconds())
    alone = CoreWait()
    before = alone.seconds()
    time.sleep(0.2)
    resting = alone.seconds() - before
    alone.close()
    assert shared > 0.1
    assert resting < shared / 2
