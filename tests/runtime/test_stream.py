from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime import Classifier, Prediction, Result, State, Stream
from gensoup.runtime.engines.catalogue import ENGINES
from gensoup.runtime.errors import DataError, EngineError, UsageError
from gensoup.runtime.stream import Mode

FRAMES = [np.full((48, 64, 3), value, np.uint8) for value in range(200)]


class Gate:
    """A classifier around a real one: waits until it is opened, and fails on frames of the value ``bad``."""

    def __init__(self, bundle: Path, bad: int | None = None) -> None:
        self.real = Classifier.load(bundle, threads=1)
        self.engine = self.real.engine
        self.bad = bad
        self.open = threading.Event()
        self.entered = threading.Event()
        self.seen: list[int] = []

    def __call__(self, frame: np.ndarray) -> Prediction:
        self.entered.set()
        assert self.open.wait(30)
        self.seen.append(int(frame[0, 0, 0]))
        if int(frame[0, 0, 0]) == self.bad:
            raise EngineError("device lost")
        return self.real(frame)


@pytest.fixture
def gate(tiny_bundle: Path) -> Gate:
    return Gate(tiny_bundle)


def test_a_result_carries_prediction_and_times(tiny_bundle: Path) -> None:
    results: list[Result] = []
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[..., 2] = 200
    with Stream(Classifier.load(tiny_bundle), results.append, limit_ms=60_000, stale_after_ms=60_000) as stream:
        captured = time.monotonic()
        assert stream.push(frame, captured_at=captured) == 0
        assert stream.drain(30)
    (result,) = results
    assert result.state is State.OK
    assert result.prediction is not None
    assert result.prediction.label == "red"
    assert result.captured_at == captured <= result.pushed_at <= result.started_at <= result.done_at
    assert result.age_ms == pytest.approx((result.done_at - captured) * 1e3)
    assert 0 < result.latency_ms <= result.age_ms
    assert result.engine in ENGINES


def test_newest_frame_wins_and_drops_are_counted_and_told(gate: Gate) -> None:
    results: list[Result] = []
    dropped: list[int] = []
    with Stream(gate, results.append, on_drop=dropped.append, sink_size=8) as stream:
        stream.push(FRAMES[0])
        assert gate.entered.wait(30)
        for number in range(1, 5):
            assert stream.push(FRAMES[number]) == number
        gate.open.set()
        assert stream.drain(30)
    assert gate.seen == [0, 4]
    assert dropped == [1, 2, 3]
    assert [result.frame_id for result in results] == [0, 4]
    assert results[-1].drops == stream.drops == 3


def test_the_owner_may_change_the_frame_after_push(gate: Gate) -> None:
    frame = FRAMES[11].copy()
    with Stream(gate) as stream:
        stream.push(frame)
        frame[:] = 99
        gate.open.set()
    assert gate.seen == [11]


def test_buffers_are_reused_and_may_change_in_size(gate: Gate) -> None:
    gate.open.set()
    with Stream(gate, mode="throughput") as stream:
        for number in range(30):
            stream.push(FRAMES[number])
        stream.push(np.full((80, 90, 3), 77, np.uint8))
        assert stream.drain(30)
        assert len(stream._spare) <= 3
    assert gate.seen == [*range(30), 77]


def test_throughput_mode_classifies_every_frame_in_order(gate: Gate) -> None:
    results: list[Result] = []
    gate.open.set()
    with Stream(gate, results.append, mode="throughput", sink_size=2) as stream:
        for frame in FRAMES:
            stream.push(frame)
    assert [result.frame_id for result in results] == list(range(200))
    assert gate.seen == list(range(200))
    assert stream.drops == stream.undelivered == 0
    assert {result.state for result in results} == {State.OK}


def test_a_failing_engine_gives_failed_results_and_the_stream_goes_on(tiny_bundle: Path) -> None:
    gate = Gate(tiny_bundle, bad=1)
    gate.open.set()
    results: list[Result] = []
    with Stream(gate, results.append, mode="throughput") as stream:
        for number in range(3):
            stream.push(FRAMES[number])
    assert [result.state for result in results] == [State.OK, State.FAILED, State.OK]
    assert results[1].prediction is None
    assert results[1].error == "device lost"
    assert results[2].prediction is not None
    assert results[2].error == ""


def test_a_probability_that_is_not_finite_is_a_failure(tiny_bundle: Path) -> None:
    class Broken:
        name = "broken"

        def infer(self, frame: np.ndarray) -> np.ndarray:
            return np.array([0.2, np.nan, 0.8], np.float32)

    real = Classifier.load(tiny_bundle)
    results: list[Result] = []
    with Stream(Classifier(real.labels, real.preprocess, Broken()), results.append) as stream:
        stream.push(FRAMES[0])
    assert results[0].state is State.FAILED
    assert "not finite" in results[0].error


def test_late_and_stale_results_say_so(tiny_bundle: Path) -> None:
    results: list[Result] = []
    with Stream(Classifier.load(tiny_bundle), results.append, limit_ms=60_000, stale_after_ms=120_000) as stream:
        for age in (0.0, 90.0, 150.0):
            stream.push(FRAMES[0], captured_at=time.monotonic() - age)
            assert stream.drain(30)
    assert [result.state for result in results] == [State.OK, State.LATE, State.STALE]


def test_latest_is_stale_once_it_is_old(tiny_bundle: Path) -> None:
    with Stream(Classifier.load(tiny_bundle), limit_ms=0.001, stale_after_ms=400) as stream:
        assert stream.latest() is None
        stream.push(FRAMES[0])
        assert stream.drain(30)
        time.sleep(0.5)
        latest = stream.latest()
    assert latest is not None
    assert latest.state is State.STALE
    assert latest.prediction is not None


def test_a_slow_consumer_does_not_hold_up_inference(gate: Gate) -> None:
    released = threading.Event()
    results: list[Result] = []

    def consume(result: Result) -> None:
        assert released.wait(30)
        results.append(result)

    gate.open.set()
    with Stream(gate, consume, sink_size=2) as stream:
        for number in range(10):
            stream.push(FRAMES[number])
            deadline = time.monotonic() + 30
            while len(gate.seen) <= number and time.monotonic() < deadline:
                time.sleep(0.001)
        assert gate.seen == list(range(10))
        released.set()
        assert stream.drain(30)
    assert stream.undelivered >= 6  # ten, less two in the queue, one in hand, one that may be on its way
    assert len(results) == 10 - stream.undelivered
    assert results[-1].frame_id == 9


def test_a_callback_that_raises_does_not_end_the_stream_and_is_reported_once(gate: Gate) -> None:
    called: list[int] = []

    def fail(result: Result) -> None:
        called.append(result.frame_id)
        raise ValueError(f"frame {result.frame_id}")

    gate.open.set()
    stream = Stream(gate, fail, mode="throughput")
    for number in range(3):
        stream.push(FRAMES[number])
    assert stream.drain(30)
    with pytest.raises(ValueError, match="frame 0"):
        stream.close()
    stream.close()
    assert called == [0, 1, 2]


def test_an_exception_of_the_with_block_is_not_hidden_by_the_callbacks(gate: Gate) -> None:
    def fail(result: Result) -> None:
        raise ValueError("of the callback")

    gate.open.set()
    with pytest.raises(KeyError, match="of the block"), Stream(gate, fail) as stream:
        stream.push(FRAMES[0])
        assert stream.drain(30)
        raise KeyError("of the block")


def test_closing_leaves_no_thread_and_refuses_frames(gate: Gate) -> None:
    before = set(threading.enumerate())
    results: list[Result] = []
    stream = Stream(gate, results.append)
    stream.push(FRAMES[0])
    assert set(threading.enumerate()) - before
    gate.open.set()
    stream.close()
    assert set(threading.enumerate()) == before
    assert len(results) == 1
    with pytest.raises(UsageError, match="closed"):
        stream.push(FRAMES[0])
    assert stream.drain(1)


def test_the_consumer_may_close_the_stream(gate: Gate) -> None:
    gate.open.set()
    stream = Stream(gate, lambda result: stream.close())
    stream.push(FRAMES[0])
    assert stream.drain(30)
    stream.close()
    assert not any(thread.is_alive() for thread in stream._threads)


@pytest.mark.parametrize("frame", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_frame_is_refused(gate: Gate, frame: np.ndarray) -> None:
    with Stream(gate) as stream, pytest.raises(DataError, match="BGR uint8"):
        stream.push(frame)


@pytest.mark.parametrize("options", [{"mode": "fast"}, {"limit_ms": 0}, {"stale_after_ms": float("nan")}])
def test_unusable_options_are_refused(gate: Gate, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Stream(gate, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["realtime", "throughput"])
def test_on_result_may_close_its_own_stream(gate: Gate, mode: Mode) -> None:
    gate.open.set()
    stream = Stream(gate, lambda result: stream.close(), mode=mode)
    stream.push(FRAMES[0])
    assert stream.drain(30)
    stream.close()
    with pytest.raises(UsageError, match="closed"):
        stream.push(FRAMES[1])


def test_what_waited_too_long_for_a_slow_consumer_comes_as_stale(gate: Gate) -> None:
    gate.open.set()
    states: list[State] = []
    free = threading.Event()

    def slow(result: Result) -> None:
        states.append(result.state)
        assert free.wait(30)

    with Stream(gate, slow, limit_ms=20_000, stale_after_ms=50, sink_size=8) as stream:
        stream.push(FRAMES[0])
        stream.push(FRAMES[1], captured_at=time.monotonic() - 10)
        time.sleep(0.1)
        free.set()
        assert stream.drain(30)
    assert states[-1] is State.STALE
