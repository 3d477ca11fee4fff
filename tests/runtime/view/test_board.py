from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gensoup.runtime import Result, State
from gensoup.runtime.errors import UsageError
from gensoup.runtime.view import About
from gensoup.runtime.view.board import Board

Make = Callable[..., Result]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(about: About, clock: Clock) -> Board:
    return Board(about, clock)


def test_before_the_first_result_nothing_is_current(board: Board) -> None:
    now = board.now()
    assert (now.state, now.result, now.current) == ("WAITING", None, False)
    assert board.statistics()["p50_ms"] is None


def test_an_old_result_is_never_current_whatever_it_said(board: Board, clock: Clock, make_result: Make) -> None:
    board.add(make_result(0, clock.now))
    clock.now += 0.249
    assert (board.now().state, board.now().current) == ("OK", True)
    clock.now += 0.002
    assert (board.now().state, board.now().current) == ("STALE", False)
    assert "0.3 s old" in board.now().reason
    board.add(make_result(1, clock.now, 20))
    clock.now += 0.02
    assert (board.now().state, board.now().current) == ("LATE", True)
    assert "20 ms from capture to result; the limit is 15.625 ms" in board.now().reason


def test_a_result_that_came_stale_is_not_current_though_it_has_just_come(
    board: Board, clock: Clock, make_result: Make
) -> None:
    board.add(make_result(0, clock.now, state=State.STALE))
    assert (board.now().state, board.now().current) == ("STALE", False)


def test_a_failure_tells_why_and_hides_the_last_label(board: Board, clock: Clock, make_result: Make) -> None:
    board.add(make_result(0, clock.now))
    board.add(make_result(1, clock.now, error="the engine went away"))
    now = board.now()
    assert (now.state, now.reason, now.current) == ("FAILED", "the engine went away", False)


def test_the_end_is_the_end(board: Board, clock: Clock, make_result: Make) -> None:
    board.add(make_result(0, clock.now))
    board.end("unplugged")
    assert (board.now().state, board.now().reason, board.now().current) == ("ENDED", "unplugged", False)


def test_throughput_mode_counts_from_the_answer(about: About, clock: Clock, make_result: Make) -> None:
    board = Board(replace(about, mode="throughput"), clock)
    board.add(make_result(0, clock.now, 3000, state=State.OK))
    clock.now += 3.1
    assert board.now().current
    clock.now += 0.2
    assert board.now().state == "STALE"


def test_rows_keep_the_worst_of_a_tenth_of_a_second_and_come_once(
    board: Board, clock: Clock, make_result: Make
) -> None:
    for frame_id, (took_ms, drops) in enumerate([(5, 0), (40, 2), (6, 2)]):
        board.add(make_result(frame_id, clock.now, took_ms, winner=frame_id, drops=drops))
    assert board.rows(-1, 10) == []  # it is being filled yet
    clock.now += 0.1
    board.add(make_result(3, clock.now, error="gone", drops=3))
    clock.now += 0.1
    rows = board.rows(-1, 10)
    assert [row[:5] for row in rows] == [[0, 3, 40.0, "LATE", 2], [1, 1, 0.0, "FAILED", 1]]
    assert rows[0][5] == pytest.approx([0.1, 0.1, 0.8])
    assert rows[1][5] is None
    assert board.rows(0, 10) == rows[1:]
    assert board.rows(-1, 1) == rows[:1]
    assert board.rows(1, 10) == []


def test_history_is_bounded(board: Board, clock: Clock, make_result: Make) -> None:
    for frame_id in range(1500):
        clock.now += 0.1
        board.add(make_result(frame_id, clock.now - 0.005))
    assert len(board.rows(-1, 10**6)) <= 1200


def test_statistics_are_of_the_last_ten_seconds(board: Board, clock: Clock, make_result: Make) -> None:
    board.add(make_result(0, clock.now, 500))
    clock.now += 20
    for frame_id in range(1, 101):
        clock.now += 0.02
        late, drops = frame_id % 10 == 0, frame_id // 4
        board.add(make_result(frame_id, clock.now - 0.02, 20 if late else 5, drops=drops))
    got = board.statistics()
    assert got["p50_ms"] == pytest.approx(5)
    assert got["max_ms"] == pytest.approx(20)
    assert got["fps"] == pytest.approx(50, rel=0.03)
    assert got["drops"] == 25
    assert got["missed"] == pytest.approx((10 + 25) / (100 + 25))
    assert board.totals() == (25, {"OK": 90, "LATE": 11})
    clock.now += 60
    assert board.statistics()["p99_ms"] is None and board.statistics()["fps"] == 0


def test_events_tell_gaps_failures_and_other_engines_but_no_lateness(
    board: Board, clock: Clock, make_result: Make
) -> None:
    def add(**changes: object) -> None:
        board.add(make_result(0, clock.now, **changes))
        clock.now += 0.02

    add()
    add(took_ms=40)
    add()
    clock.now += 1
    add(error="engine lost")
    add(error="engine lost")
    add(engine="spare")
    told = [event[2] for event in board.events(0)]
    assert told == [
        "first result, from onnxruntime-cpu",
        "no result for 1.0 s",
        "failed: engine lost",
        "engine: onnxruntime-cpu → spare",
        "results again",
    ]
    assert board.events(4) == board.events(0)[4:]
    for number in range(200):
        board.note(str(number))
    assert len(board.events(0)) == 50


def test_readers_and_the_writer_do_not_disturb_one_another(about: About, make_result: Make) -> None:
    board, over, errors = Board(about), threading.Event(), []

    def read() -> None:
        try:
            while not over.is_set():
                board.now(), board.rows(-1, 100), board.statistics(), board.events(0), board.totals()
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for frame_id in range(2000):
        board.add(make_result(frame_id, time.monotonic()))
    over.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert sum(board.totals()[1].values()) == 2000


def test_limits_must_be_limits() -> None:
    with pytest.raises(UsageError, match="limits that are positive"):
        About(("a",), "b", "s", limit_ms=0)


def test_probabilities_of_another_bundle_never_stand_under_this_ones_labels(
    board: Board, clock: Clock, make_result: Make, about: About
) -> None:
    other = replace(make_result(0, clock.now + 0.2), bundle="cd" * 32)
    own = replace(make_result(1, clock.now), bundle=about.sha256)
    nobodys = make_result(2, clock.now)
    assert [board.is_ours(result) for result in (other, own, nobodys)] == [False, True, True]
    assert nobodys.prediction is not None
    more = replace(nobodys, prediction=replace(nobodys.prediction, probabilities=np.full(4, 0.25, np.float32)))
    assert not board.is_ours(more)
    board.add(own)
    clock.now += 0.2
    board.add(other)
    clock.now += 0.2
    rows = board.rows(-1, 10)
    assert rows[0][5] == [0.8, 0.1, 0.1] and rows[1][5] is None
    assert board.events(0)[-1][2] == "another bundle answers, not described here: cdcdcdcdcdcd"
    board.describe(replace(about, labels=("cat", "dog", "cow"), sha256="cd" * 32))
    assert board.is_ours(other) and not board.is_ours(own)
    assert [row[5] for row in board.rows(-1, 10)] == [None, None]
