from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pytest

from gensoup.bench import clocks
from gensoup.bench.clocks import CoreWait, clock_faults, read_clocks


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
