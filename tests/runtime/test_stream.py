from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime import Classifier, Prediction, Result, State, Stream
from gensoup.runtime.delivery import Deadlines
from gensoup.runtime.engines.catalogue import ENGINES
from gensoup.runtime.errors import DataError, EngineError, UsageError
from gensoup.runtime.pixels import PixelFormat
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
        assert len(stream._pool) <= 3
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
    assert not [one for one in threading.enumerate() if one.name.startswith("gensoup-")]


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


class Counting:
    """A smoother that counts what it saw, and refuses frames of the value ``bad``."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad
        self.seen: list[tuple[str, float, int, str]] = []

    def update(self, prediction: Prediction, captured_at: float, frame: np.ndarray) -> int:
        if int(frame[0, 0, 0]) == self.bad:
            raise ValueError("cannot be smoothed")
        self.seen.append((prediction.label, captured_at, int(frame[0, 0, 0]), threading.current_thread().name))
        return len(self.seen)

    def reset(self) -> None:
        self.seen.clear()


def test_a_smoother_sees_every_prediction_in_the_inference_thread(gate: Gate) -> None:
    gate.open.set()
    results: list[Result] = []
    smoother = Counting(bad=2)
    with Stream(gate, results.append, mode="throughput", smoother=smoother) as stream:
        for number in range(4):
            stream.push(FRAMES[number])
    assert [result.smoothed for result in results] == [1, 2, None, 3]
    assert [result.state for result in results] == [State.OK, State.OK, State.FAILED, State.OK]
    assert results[2].error == "cannot be smoothed"
    assert [(at, value) for _, at, value, _ in smoother.seen] == [
        (result.captured_at, result.frame_id) for result in results if result.prediction is not None
    ]
    assert {thread for *_, thread in smoother.seen} == {"gensoup-inference"}


def test_every_format_and_any_view_is_classified_as_what_it_shows(tiny_bundle: Path) -> None:
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 2] = 200
    noise = np.random.default_rng(0).integers(0, 20, (80, 120, 3), np.uint8)
    noise[::2, ::2] = red
    yuyv = np.empty((40, 60, 2), np.uint8)
    yuyv[..., 0], yuyv[:, ::2, 1], yuyv[:, 1::2, 1] = 80, 90, 240
    nv12 = np.full((60, 60), 80, np.uint8)
    nv12[40:, ::2], nv12[40:, 1::2] = 90, 240
    frames: list[tuple[np.ndarray, PixelFormat]] = [
        (red, "bgr"),
        (red[:, :, ::-1], "rgb"),
        (noise[::2, ::2], "bgr"),
        (red.transpose(1, 0, 2), "bgr"),
        (red[::-1, ::-1], "bgr"),
        (np.dstack([red, red[..., 0]]), "bgra"),
        (yuyv, "yuyv"),
        (nv12, "nv12"),
        (np.zeros((1, 1, 3), np.uint8), "bgr"),
        (np.zeros((30, 30), np.uint8), "grey"),
    ]
    results: list[Result] = []
    with Stream(Classifier.load(tiny_bundle, threads=1), results.append, mode="throughput") as stream:
        for frame, name in frames:
            stream.push(frame, format=name)
    predictions = [result.prediction for result in results]
    assert [one.label for one in predictions[:8] if one is not None] == ["red"] * 8
    black = predictions[8:]  # nothing to see: nothing is more likely
    assert all(one is not None and one.probabilities == pytest.approx([1 / 3] * 3) for one in black)


def test_a_time_in_the_future_is_now_and_one_that_runs_backwards_is_believed(gate: Gate) -> None:
    gate.open.set()
    results: list[Result] = []
    with Stream(gate, results.append, limit_ms=60_000, stale_after_ms=90_000, sink_size=9) as stream:
        for captured_at in (time.time(), time.monotonic() - 70, time.monotonic() - 100, np.float64(time.monotonic())):
            stream.push(FRAMES[0], captured_at)
            assert stream.drain(30)
        assert stream.clock_faults == 1
    assert results[0].captured_at == results[0].pushed_at
    assert [result.state for result in results] == [State.OK, State.LATE, State.STALE, State.OK]
    assert all(result.age_ms > 0 for result in results)


@pytest.mark.parametrize("captured_at", [float("nan"), float("inf"), -float("inf"), "now"])
def test_what_is_no_time_is_refused(gate: Gate, captured_at: float) -> None:
    gate.open.set()
    with Stream(gate) as stream:
        with pytest.raises(DataError, match="captured_at must be seconds of"):
            stream.push(FRAMES[0], captured_at)
        assert stream.push(FRAMES[0]) == 0


@pytest.mark.parametrize("frame", [np.zeros((0, 8, 3), np.uint8), np.zeros((9000, 2, 3), np.uint8)])
def test_frames_without_pixels_or_far_too_large_are_refused(gate: Gate, frame: np.ndarray) -> None:
    with Stream(gate) as stream, pytest.raises(DataError, match="pixels"):
        stream.push(frame)


def test_pushing_does_not_wait_for_the_engine(gate: Gate) -> None:
    frame = np.zeros((1080, 1920, 2), np.uint8)
    with Stream(gate) as stream:
        stream.push(frame, format="yuyv")
        assert gate.entered.wait(30)
        started = time.monotonic()
        for _ in range(10):
            stream.push(frame, format="yuyv")
        assert time.monotonic() - started < 2
        assert stream.drops == 9
        gate.open.set()


def test_every_loop_gets_every_result_from_its_beginning_on(gate: Gate) -> None:
    called: list[int] = []
    got: dict[str, list[int]] = {"early": [], "late": []}

    def loop(name: str, results: Iterable[Result]) -> threading.Thread:
        thread = threading.Thread(target=lambda: got[name].extend(result.frame_id for result in results))
        thread.start()
        return thread

    gate.open.set()
    stream = Stream(gate, lambda result: called.append(result.frame_id), mode="throughput")
    loops = [loop("early", iter(stream))]
    for number in range(3):
        stream.push(FRAMES[number])
    assert stream.drain(30)
    loops.append(loop("late", iter(stream)))
    for number in range(3, 6):
        stream.push(FRAMES[number])
    stream.close()
    for thread in loops:
        thread.join(30)
    assert called == got["early"] == [0, 1, 2, 3, 4, 5]
    assert got["late"] == [3, 4, 5]
    assert list(stream) == []


@pytest.mark.parametrize("mode", ["realtime", "throughput"])
def test_a_loop_may_close_the_stream_or_end_early(gate: Gate, mode: Mode) -> None:
    gate.open.set()
    stream = Stream(gate, mode=mode, sink_size=1)
    results = iter(stream)
    for number in range(3):
        stream.push(FRAMES[number])
        if mode == "realtime":
            assert stream.drain(30)
    seen = []
    for result in results:
        seen.append(result.frame_id)
        stream.close()  # in throughput mode, inference waits for this very loop
    assert seen == ([2] if mode == "realtime" else [0, 1, 2])
    assert stream.undelivered == (2 if mode == "realtime" else 0)


def test_a_loop_that_is_left_holds_nobody_up(gate: Gate) -> None:
    gate.open.set()
    with Stream(gate, mode="throughput") as stream:
        results = iter(stream)
        stream.push(FRAMES[0])
        assert next(results).frame_id == 0
        results.close()
        for number in range(5):
            stream.push(FRAMES[number])
    assert len(gate.seen) == 6


def test_an_old_result_is_stale_in_a_loop_too(gate: Gate) -> None:
    gate.open.set()
    stream = Stream(gate, limit_ms=20_000, stale_after_ms=60)
    results = iter(stream)
    stream.push(FRAMES[0])
    stream.close()
    time.sleep(0.1)
    assert [result.state for result in results] == [State.STALE]


def test_a_forked_child_is_told_and_the_parent_goes_on(gate: Gate) -> None:
    gate.open.set()
    results: list[Result] = []
    with Stream(gate, results.append, sink_size=4) as stream:
        stream.push(FRAMES[0])
        assert stream.drain(30)
        waiting = iter(stream)
        child = os.fork()
        if child == 0:
            told = 0
            uses: list[Callable[[], object]] = [
                lambda: stream.push(FRAMES[1]),
                lambda: stream.drain(1),
                lambda: iter(stream),
                lambda: next(waiting),
                stream.latest,
                lambda: stream.swap("other.gensoup"),
                stream.close,
            ]
            for use in uses:
                try:
                    use()
                except UsageError as error:
                    told += "fork" in str(error)
            os._exit(told)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        stream.push(FRAMES[2])
    assert [result.frame_id for result in results] == [0, 1]


def test_closing_a_stream_whose_engine_hangs_need_not_wait(gate: Gate) -> None:
    stream = Stream(gate)
    stream.push(FRAMES[0])
    assert gate.entered.wait(30)
    assert stream.close(timeout=0.05) is False
    gate.open.set()
    assert stream.close(timeout=30) is True
    assert stream.close() is True


def test_many_threads_may_push(gate: Gate) -> None:
    gate.open.set()
    results: list[Result] = []
    with Stream(gate, results.append, sink_size=400) as stream:
        pushers = [threading.Thread(target=lambda: [stream.push(frame) for frame in FRAMES[:50]]) for _ in range(4)]
        for pusher in pushers:
            pusher.start()
        for pusher in pushers:
            pusher.join(60)
        assert stream.drain(30)
    assert len(results) + stream.drops == 200
    assert [result.frame_id for result in results] == sorted({result.frame_id for result in results})


@pytest.mark.parametrize("given", ["polyp.gensoup", None, lambda frame: frame])
def test_what_is_no_classifier_is_refused(gate: Gate, given: object) -> None:
    with pytest.raises(UsageError, match=r"is no classifier: load one by"):
        Stream(given)  # type: ignore[arg-type]
    gate.open.set()
    if not isinstance(given, str):
        with Stream(gate) as stream, pytest.raises(UsageError, match="is no classifier"):
            stream.swap(given)  # type: ignore[arg-type]


def test_a_callback_that_exits_ends_nothing_before_the_stream_is_closed(gate: Gate) -> None:
    seen: list[int] = []

    def leave(result: Result) -> None:
        seen.append(result.frame_id)
        sys.exit("enough")

    gate.open.set()
    stream = Stream(gate, leave, mode="throughput")
    for number in range(3):
        stream.push(FRAMES[number])
    assert stream.drain(30)
    with pytest.raises(SystemExit, match="enough"):
        stream.close()
    assert seen == [0, 1, 2]


def test_a_classifier_that_exits_fails_that_frame_alone(gate: Gate) -> None:
    class Leaves:
        engine = gate.engine

        def __call__(self, frame: np.ndarray) -> Prediction:
            if frame[0, 0, 0] == 1:
                sys.exit("enough")
            return gate.real(frame)

    results: list[Result] = []
    with Stream(Leaves(), results.append, mode="throughput") as stream:
        for number in range(3):
            stream.push(FRAMES[number])
    assert [(result.state, result.error) for result in results] == [
        (State.OK, ""),
        (State.FAILED, "enough"),
        (State.OK, ""),
    ]


def test_on_drop_that_raises_does_not_disturb_the_capture_loop(gate: Gate) -> None:
    def fail(frame_id: int) -> None:
        raise ValueError(f"dropped {frame_id}")

    stream = Stream(gate, on_drop=fail)
    stream.push(FRAMES[0])
    assert gate.entered.wait(30)
    assert [stream.push(FRAMES[number]) for number in (1, 2, 3)] == [1, 2, 3]
    gate.open.set()
    assert stream.drain(30)
    with pytest.raises(ValueError, match="dropped 1"):
        stream.close()


def test_draining_waits_for_what_was_pushed_before_and_no_longer(gate: Gate) -> None:
    turns, entered = threading.Semaphore(0), threading.Event()

    class InTurns:
        engine = gate.engine

        def __call__(self, frame: np.ndarray) -> Prediction:
            entered.set()
            assert turns.acquire(timeout=30)
            return gate.real(frame)

    drained: list[bool] = []
    with Stream(InTurns(), sink_size=9) as stream:
        stream.push(FRAMES[0])
        assert entered.wait(30)
        stream.push(FRAMES[1])
        waiting = threading.Thread(target=lambda: drained.append(stream.drain(30)))
        waiting.start()
        waiting.join(0.05)
        stream.push(FRAMES[2])  # drops 1
        stream.push(FRAMES[3])
        assert waiting.is_alive()
        turns.release()
        waiting.join(30)
        assert drained == [True]
        assert not stream.drain(0.01)  # 3 is in work
        turns.release(9)


@pytest.mark.parametrize("caller", ["callback", "smoother"])
def test_what_would_wait_for_itself_is_refused(gate: Gate, caller: str) -> None:
    told: list[str] = []

    def ask() -> None:
        uses: list[Callable[[], object]] = [
            lambda: stream.push(FRAMES[1]),
            stream.drain,
            lambda: stream.swap(gate),
        ]
        for use in uses:
            with pytest.raises(UsageError, match="would wait for itself") as caught:
                use()
            told.append(str(caught.value).split("(")[0])

    class Asking(Counting):
        def update(self, prediction: Prediction, captured_at: float, frame: np.ndarray) -> int:
            ask()
            return 0

    gate.open.set()
    smoother, on_result = (Asking(), None) if caller == "smoother" else (None, lambda result: ask())
    with Stream(gate, on_result, mode="throughput", smoother=smoother) as stream:
        stream.push(FRAMES[0])
    assert told == ["push", "drain", "swap"]


def test_a_smoother_that_cannot_be_reset_fails_frames_until_it_can(gate: Gate) -> None:
    class Stuck(Counting):
        failures = 2

        def reset(self) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise ValueError("cannot be reset")
            super().reset()

    gate.open.set()
    other = Gate.__new__(Gate)
    other.__dict__.update(gate.__dict__)  # without labels: they may be others
    results: list[Result] = []
    with Stream(gate, results.append, mode="throughput", smoother=Stuck()) as stream:
        stream.push(FRAMES[0])
        assert stream.drain(30)
        stream.swap(other)
        for number in range(4):
            stream.push(FRAMES[number])
    assert [result.smoothed for result in results] == [1, None, None, 1, 2]
    assert [result.error for result in results] == ["", "cannot be reset", "cannot be reset", "", ""]


def test_closing_need_not_wait_for_a_callback_that_hangs(gate: Gate) -> None:
    gate.open.set()
    free = threading.Event()
    stream = Stream(gate, lambda result: free.wait(30) and None)
    stream.push(FRAMES[0])
    assert stream.close(timeout=0.2) is False
    free.set()
    assert stream.close(timeout=30) is True


def test_a_result_older_than_stale_after_ms_is_stale_whatever_the_limit() -> None:
    deadlines = Deadlines(limit_ms=1000, stale_after_ms=250, judged=True)
    assert [deadlines.state(age, False) for age in (249.0, 251.0, 1001.0)] == [State.OK, State.STALE, State.STALE]
    assert Deadlines(1000, 250, judged=False).state(9e9, False) is State.OK


def test_nothing_is_stale_in_throughput_mode(gate: Gate) -> None:
    gate.open.set()
    with Stream(gate, mode="throughput", stale_after_ms=0.001) as stream:
        stream.push(FRAMES[0])
        assert stream.drain(30)
        latest = stream.latest()
    assert latest is not None and latest.state is State.OK


def test_a_stream_that_nobody_has_any_more_ends(gate: Gate) -> None:
    gate.open.set()
    before = set(threading.enumerate())
    stream = Stream(gate, lambda result: None)
    stream.push(FRAMES[0])
    del stream
    gc.collect()
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) == before


EXITING = """
import sys
import cv2
import numpy as np
from gensoup.runtime import Classifier, Stream
real = Classifier.load(sys.argv[1], "onnxruntime-cpu", threads=1)

class Busy:  # in C++ without the interpreter's lock, as a large network would be
    engine = real.engine

    def __call__(self, frame):
        cv2.bilateralFilter(np.zeros((1200, 1600), np.uint8), 25, 90, 90)
        return real(frame)

stream = Stream(Busy(), lambda result: print(result.frame_id, flush=True))
stream.push(np.zeros((48, 64, 3), np.uint8))
"""


def test_a_program_that_forgets_to_close_ends_in_order(tiny_bundle: Path) -> None:
    command = [sys.executable, "-c", EXITING, str(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
