"""Who took the processor."""

from __future__ import annotations

import os

import psutil

from gensoup.bench.sensors.processes import ProcessTime, busiest, process_times


def test_shares_are_of_one_core_and_small_ones_are_not_named() -> None:
    before = {
        (1, 0.0): ProcessTime("init", 50.0),
        (7, 5.0): ProcessTime("updatedb", 2.0),
        (9, 6.0): ProcessTime("old", 80.0),
    }
    after = {
        (1, 0.0): ProcessTime("init", 50.4),
        (7, 5.0): ProcessTime("updatedb", 9.0),
        (9, 99.0): ProcessTime("new", 3.0),  # the same number for another process
    }
    assert busiest(before, after, 10.0) == {"updatedb (7)": 70.0, "new (9)": 30.0}


def test_the_five_busiest_are_named() -> None:
    after = {(pid, 0.0): ProcessTime("x", float(pid)) for pid in range(1, 9)}
    assert list(busiest({}, after, 10.0)) == [f"x ({pid})" for pid in (8, 7, 6, 5, 4)]


def test_this_process_is_not_among_the_others() -> None:
    found = {pid for pid, _ in process_times(psutil)}
    assert found and os.getpid() not in found
