from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty import Rig

from gensoup.runtime import Classifier, Event, Guarded, Prediction, Result, State, Stream
from gensoup.runtime.pixels import PixelFormat
from gensoup.runtime.stream_work import StreamWork

FRAME = np.full((48, 64, 3), 90, np.uint8)


class Watched:
    """A guarded stream at 100 Hz, with what it told."""

    def __init__(self, rig: Rig, **options: float) -> None:
        self.rig = rig
        self.results: list[Result] = []
        self.events: list[Event] = []
        self.stream = Stream(
            rig.guard,
            self.results.append,
            on_event=self.events.append,
            sink_size=1000,
            **{"limit_ms": 9e4, "stale_after_ms": 9e4, **options},  # type: ignore[arg-type]
        )

    def push_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "nothing happened"
            self.stream.push(FRAME)
            time.sleep(0.01)

    def last(self, state: State) -> bool:
        return bool(self.results) and self.results[-1].state is state

    def close(self) -> None:
        """Close all; every frame must have been dropped or answered, in order."""
        assert self.stream.drain(30)
        pushed = self.stream.push(FRAME)
        self.stream.close()
        self.rig.close()
        ids = [result.frame_id for result in self.results]
        assert ids == sorted(set(ids))
        assert len(ids) + self.stream.drops + self.stream.undelivered == pushed + 1


@pytest.fixture
def watch(tiny_bundle: Path) -> Iterator[Callable[..., Watched]]:
    before = set(threading.enumerate())
    made: list[Watched] = []

    def build(stale_after_ms: float = 9e4, **options: float) -> Watched:
        made.append(Watched(Rig(tiny_bundle, **options), stale_after_ms=stale_after_ms))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for watched in made:
        watched.close()
    deadline = time.monotonic() + 20
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_a_hanging_engine_is_replaced_within_a_second_and_one_frame_is_lost(watch: Callable[..., Watched]) -> None:
    watched = watch(patience_s=0.4, retry_s=60)
    watched.push_until(lambda: watched.last(State.OK))
    watched.rig.first.fault = "hang"
    started = time.monotonic()
    watched.push_until(lambda: watched.last(State.DEGRADED))
    assert time.monotonic() - started < 1.0
    (lost,) = [result for result in watched.results if result.state is State.FAILED]
    assert "first gave no answer in 0.4" in lost.error and lost.prediction is None and lost.engine == "first"
    assert watched.results[-1].engine == "second"
    assert watched.results[-1].bundle == watched.rig.bundle.sha256
    assert [(event.kind, event.engine) for event in watched.events] == [("failed over", "second")]
    assert watched.rig.guard.hanging == 1


def test_a_raising_engine_costs_no_frame_and_comes_back(watch: Callable[..., Watched]) -> None:
    watched = watch(retry_s=0.1)
    watched.rig.first.fault = "raise"
    watched.push_until(lambda: len(watched.results) > 5)
    assert {result.state for result in watched.results} == {State.DEGRADED}
    watched.rig.first.fault = ""
    watched.push_until(lambda: watched.last(State.OK))
    assert [event.kind for event in watched.events] == ["failed over", "recovered"]
    assert {result.engine for result in watched.results} == {"first", "second"}
    assert all((result.state is State.OK) == (result.engine == "first") for result in watched.results)


def test_a_slow_engine_is_replaced_within_a_second(watch: Callable[..., Watched]) -> None:
    watched = watch(slow_ms=20.0, retry_s=60)
    watched.push_until(lambda: len(watched.results) > 5)
    watched.rig.first.fault = "slow"
    started = time.monotonic()
    watched.push_until(lambda: watched.last(State.DEGRADED))
    assert time.monotonic() - started < 1.0
    assert watched.rig.second.calls > 0
    assert all((result.state is State.OK) == (result.engine == "first") for result in watched.results)


def test_a_degraded_result_that_is_too_old_is_stale(watch: Callable[..., Watched]) -> None:
    watched = watch(stale_after_ms=500, retry_s=60)
    watched.rig.first.fault = "raise"
    watched.stream.push(FRAME, captured_at=time.monotonic() - 1)
    assert watched.stream.drain(30)
    assert watched.last(State.STALE)


def test_both_engines_hanging_gives_failed_results_and_then_goes_on(watch: Callable[..., Watched]) -> None:
    watched = watch(patience_s=0.2, retry_s=0.1)
    watched.rig.first.fault = watched.rig.next_fault = watched.rig.second.fault = "hang"
    watched.push_until(lambda: bool(watched.results) and "hangs too" in watched.results[-1].error)
    assert {result.state for result in watched.results} == {State.FAILED}
    assert [event.kind for event in watched.events[:2]] == ["failed over", "no engine"]
    watched.rig.next_fault = watched.rig.first.fault = watched.rig.second.fault = ""
    for engine in (watched.rig.first, watched.rig.second, *watched.rig.loaded):
        engine.release.set()
    watched.push_until(lambda: watched.last(State.OK))


def test_a_stream_may_be_closed_while_its_engine_hangs(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def start_and_wait(thread: threading.Thread) -> None:
        start(thread)
        time.sleep(0.1)  # the thread is at its end before the one that started it goes on

    watched = watch(patience_s=0.3, retry_s=60)
    watched.rig.first.fault = "hang"
    watched.stream.push(FRAME)
    started = time.monotonic()
    monkeypatch.setattr(threading.Thread, "start", start_and_wait)
    watched.stream.close()
    assert time.monotonic() - started < 5
    assert watched.last(State.FAILED)
    watched.close = lambda: watched.rig.close()  # type: ignore[method-assign]


def test_an_idle_guard_is_no_hanging_one(watch: Callable[..., Watched]) -> None:
    watched = watch(patience_s=0.1)
    watched.push_until(lambda: watched.last(State.OK))
    time.sleep(0.5)
    watched.push_until(lambda: len(watched.results) > 3)
    assert watched.events == [] and watched.last(State.OK)


def test_what_breaks_the_thread_off_ends_the_stream_and_is_raised_on_closing(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: StreamWork, job: object, answer: object) -> None:
        raise MemoryError("no room for a result")

    monkeypatch.setattr(StreamWork, "answered", fail)
    stream = Stream(Classifier.load(tiny_bundle, threads=1), lambda result: None)
    stream.push(FRAME)
    assert stream.drain(30)
    with pytest.raises(MemoryError, match="no room"):
        stream.close()
    assert stream.close() is True


@pytest.mark.parametrize("pixel_format", ["bgr", "rgb"])
def test_a_call_that_was_given_up_keeps_its_frame(tiny_bundle: Path, pixel_format: PixelFormat) -> None:
    real = Classifier.load(tiny_bundle, threads=1)
    free, seen = threading.Event(), []

    class HangsFirst:
        engine = real.engine

        def __call__(self, frame: np.ndarray) -> Prediction:
            assert free.wait(30)
            seen.append(int(frame.max()))
            return real(frame)

    guard = Guarded(HangsFirst(), real, lambda classifier: 1.0, patience_s=0.1, retry_s=60)
    with Stream(guard) as stream:
        for value in range(7, 20):
            stream.push(np.full((48, 64, 3), value, np.uint8), format=pixel_format)
            assert stream.drain(30)
        free.set()
        deadline = time.monotonic() + 30
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
    guard.close()
    assert seen == [7]
