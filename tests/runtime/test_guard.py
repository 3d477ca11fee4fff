from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty import FaultyEngine, Rig

from gensoup.runtime.attempt import GaveUp
from gensoup.runtime.classifier import Classifier, FrameClassifier
from gensoup.runtime.errors import DataError, EngineError, UsageError
from gensoup.runtime.guard import Guarded
from gensoup.runtime.revival import MAX_ABANDONED

FRAME = np.full((48, 64, 3), 90, np.uint8)


@pytest.fixture
def make(tiny_bundle: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def build(**options: object) -> Rig:
        rigs.append(Rig(tiny_bundle, **options))  # type: ignore[arg-type]
        return rigs[-1]

    yield build
    for rig in rigs:
        rig.close()
    assert not [one for one in threading.enumerate() if one.name == "gensoup-reviver"]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def kinds(rig: Rig) -> list[str]:
    return [event.kind for event in rig.guard.take_events()]


def test_the_first_answers_while_it_can(make: Callable[..., Rig]) -> None:
    rig = make()
    proven = rig.second.calls
    for _ in range(5):
        rig.guard(FRAME)
    assert (rig.first.calls, rig.second.calls) == (5, proven)
    assert proven == len(rig.bundle.golden.frames)
    assert rig.guard.engine is rig.first and not rig.guard.degraded
    assert kinds(rig) == []


@pytest.mark.parametrize("fault", ["raise", "nan"])
def test_a_frame_on_which_the_first_fails_is_answered_by_the_second(make: Callable[..., Rig], fault: str) -> None:
    rig = make(retry_s=60)
    expected = rig.guard(FRAME).probabilities
    rig.first.fault = fault
    assert (rig.guard(FRAME).probabilities == expected).all()
    assert rig.guard.degraded and rig.guard.engine is rig.second
    calls = rig.first.calls
    rig.guard(FRAME)
    assert rig.first.calls == calls  # one failure is enough
    (event,) = rig.guard.take_events()
    assert (event.kind, event.engine) == ("failed over", "second")
    assert event.reason == (
        "first: device lost" if fault == "raise" else "first: the engine gave a probability that is not finite"
    )


def test_what_failed_comes_back_when_it_gives_the_golden_outputs(make: Callable[..., Rig]) -> None:
    rig = make(retry_s=0.05)
    rig.first.fault = "raise"
    rig.guard(FRAME)
    until(lambda: rig.first.calls >= 3)  # two attempts at least were in vain
    assert rig.guard(FRAME) and rig.guard.degraded
    rig.first.fault = "nan"
    calls = rig.first.calls
    until(lambda: rig.first.calls > calls)
    assert rig.guard(FRAME) and rig.guard.degraded
    rig.first.fault = ""
    until(lambda: bool(rig.guard(FRAME)) and not rig.guard.degraded)
    assert kinds(rig) == ["failed over", "recovered"]
    assert rig.guard.engine is rig.first and not rig.loaded


def test_waiting_doubles_and_goes_on_after_a_relapse(make: Callable[..., Rig]) -> None:
    rig = make(retry_s=0.02)
    waits = []
    for _ in range(3):
        rig.first.fault = "raise"
        rig.guard(FRAME)
        rig.first.fault = ""
        started = time.monotonic()
        until(lambda: bool(rig.guard(FRAME)) and not rig.guard.degraded)
        waits.append(time.monotonic() - started)
    assert [wait >= least for wait, least in zip(waits, (0.02, 0.04, 0.08), strict=True)] == [True] * 3


def test_a_slow_engine_is_out_within_a_second_if_the_other_is_faster(make: Callable[..., Rig]) -> None:
    rig = make(slow_ms=20.0, retry_s=60)
    for _ in range(10):
        rig.guard(FRAME)
    assert not rig.guard.degraded
    rig.first.fault = "slow"
    started = time.monotonic()
    while not rig.guard.degraded and time.monotonic() - started < 10:
        before = rig.first.calls
        rig.guard(FRAME)
        assert (rig.guard.engine is rig.first) == (rig.first.calls > before)  # who is named is who answered
    assert 0.3 < time.monotonic() - started < 1.0
    (event,) = rig.guard.take_events()
    assert event.kind == "failed over" and "first: slow: " in event.reason and "the limit is 20 ms" in event.reason


def test_what_was_slow_comes_back_once_it_is_proven_to_be_quick(make: Callable[..., Rig]) -> None:
    rig = make()
    taken = {rig.first: 3.0, rig.second: 1.0}
    proofs: list[str] = []

    def prove(classifier: FrameClassifier) -> float:
        engine = classifier.engine
        assert isinstance(engine, FaultyEngine)
        proofs.append(engine.name)
        return taken[engine]

    first, second = rig.classifier(rig.first), rig.classifier(rig.second)
    guard = Guarded(first, second, prove, slow_ms=20.0, retry_s=0.01, longest_retry_s=0.02)
    taken[rig.first], rig.first.fault = 30.0, "slow"
    until(lambda: bool(guard(FRAME)) and guard.degraded)
    until(lambda: proofs.count("first") >= 12, 5)  # every 20 ms at last; doubled for ever, that took a minute
    assert guard(FRAME) and guard.degraded
    taken[rig.first], rig.first.fault = 10.0, ""
    until(lambda: bool(guard(FRAME)) and not guard.degraded)
    guard.close()


@pytest.mark.parametrize(("usual_ms", "patience_s"), [(10.0, 0.5), (400.0, 1.6)])
def test_patience_is_as_long_as_the_other_engine_takes(
    make: Callable[..., Rig], usual_ms: float, patience_s: float
) -> None:
    classifier = make().guard.current
    assert Guarded(classifier, classifier, lambda one: usual_ms).patience_s == patience_s


def test_a_slow_engine_stays_where_the_other_is_no_faster(make: Callable[..., Rig]) -> None:
    rig = make(slow_ms=0.001)
    started = time.monotonic()
    while time.monotonic() - started < 0.6:
        rig.guard(FRAME)
    assert not rig.guard.degraded


def test_what_is_no_frame_is_nobodys_failure(make: Callable[..., Rig]) -> None:
    rig = make()
    with pytest.raises(DataError):
        rig.guard(np.zeros((0, 4, 3), np.uint8))
    assert not rig.guard.degraded


def test_the_second_one_failing_is_told_as_it_is(make: Callable[..., Rig]) -> None:
    rig = make(retry_s=60)
    rig.first.fault = rig.second.fault = "raise"
    with pytest.raises(EngineError, match="device lost"):
        rig.guard(FRAME)
    rig.second.fault = ""
    assert rig.guard(FRAME)


class Caller:
    """Calls a guard in a thread, as a stream does; ``ended`` holds what came of it."""

    def __init__(self, rig: Rig) -> None:
        self.ended: list[BaseException | None] = []
        self._rig = rig
        self.thread = threading.Thread(target=self._call)
        self.thread.start()

    def _call(self) -> None:
        try:
            self._rig.guard(FRAME)
            self.ended.append(None)
        except BaseException as error:
            self.ended.append(error)


def hang(rig: Rig, engine: FaultyEngine) -> Caller:
    """Let a call hang and give it up."""
    engine.fault = "hang"
    caller = Caller(rig)
    until(lambda: rig.guard.time_left_s() <= 0)
    reason = rig.guard.give_up()
    assert reason is not None and "gave no answer in 0." in reason
    return caller


def test_a_call_that_hangs_is_given_up_and_another_engine_loaded(make: Callable[..., Rig]) -> None:
    rig = make(retry_s=0.05)
    assert rig.guard.give_up() is None
    caller = hang(rig, rig.first)
    assert rig.guard.hanging == 1
    assert rig.guard(FRAME) and kinds(rig) == ["failed over"]
    until(lambda: bool(rig.guard(FRAME)) and not rig.guard.degraded)
    assert rig.guard.engine is rig.loaded[0]
    assert rig.first.closed == 0
    rig.first.release.set()
    caller.thread.join(30)
    assert isinstance(caller.ended[0], GaveUp)
    assert rig.guard.hanging == 0
    assert rig.first.closed == 1  # replaced while it hung: closed as soon as it can be
    assert rig.guard.engine is rig.loaded[0]


def test_without_a_way_to_load_it_anew_it_comes_back_when_its_call_returns(make: Callable[..., Rig]) -> None:
    rig = make(reload=False, retry_s=0.05)
    caller = hang(rig, rig.first)
    time.sleep(0.3)
    assert rig.guard(FRAME) and rig.guard.degraded
    rig.first.fault = ""
    rig.first.release.set()
    caller.thread.join(30)
    until(lambda: bool(rig.guard(FRAME)) and not rig.guard.degraded)
    assert rig.guard.engine is rig.first and rig.first.closed == 0


def test_threads_that_hang_for_good_are_few(make: Callable[..., Rig]) -> None:
    rig = make(retry_s=0.01, patience_s=0.1)
    hang(rig, rig.first)
    for number in range(1, MAX_ABANDONED):
        until(lambda: bool(rig.guard(FRAME)) and not rig.guard.degraded)
        hang(rig, rig.loaded[number - 1])
    assert rig.guard.hanging == MAX_ABANDONED
    time.sleep(0.5)
    assert rig.guard(FRAME) and rig.guard.degraded
    assert len(rig.loaded) == MAX_ABANDONED - 1


def test_both_hanging_is_an_error_at_once_until_one_is_back(make: Callable[..., Rig]) -> None:
    rig = make(retry_s=0.05, reload=False)
    hang(rig, rig.first)
    caller = hang(rig, rig.second)
    started = time.monotonic()
    with pytest.raises(EngineError, match="no engine: second hangs too"):
        rig.guard(FRAME)
    assert time.monotonic() - started < 0.2
    assert kinds(rig) == ["failed over", "no engine"]
    rig.second.fault = ""
    rig.second.release.set()
    caller.thread.join(30)
    until(lambda: rig.guard._second.usable)
    assert rig.guard(FRAME) and rig.guard.degraded


def test_an_attempt_that_hangs_is_left_alone(make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensoup.runtime.revival._TRIAL_S", 0.1)
    rig = make(retry_s=0.02)
    rig.first.fault = "raise"
    rig.guard(FRAME)
    rig.first.fault = "hang"
    until(lambda: rig.guard.hanging == 1)
    until(lambda: bool(rig.guard(FRAME)) and not rig.guard.degraded)
    assert rig.guard.engine is rig.loaded[0]
    rig.first.release.set()
    until(lambda: rig.guard.hanging == 0)


def test_an_engine_that_cannot_be_loaded_anew_in_time_leaves_the_old_one_stuck(
    make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gensoup.runtime.revival._TRIAL_S", 0.1)
    rig = make(retry_s=0.02)
    free, failed = threading.Event(), threading.Event()

    def fail_late() -> Classifier:
        assert free.wait(30)
        failed.set()
        raise EngineError("no memory")

    rig.guard._first.reload = fail_late
    hang(rig, rig.first)
    until(lambda: rig.guard.hanging == 2)
    calls = rig.first.calls
    free.set()
    until(failed.is_set)
    until(lambda: rig.guard.hanging == 1)
    time.sleep(0.2)
    assert rig.first.calls == calls  # its first call hangs still: nobody may call it beside that


def test_a_forked_child_is_told(make: Callable[..., Rig]) -> None:
    rig = make()
    child = os.fork()
    if child == 0:
        try:
            rig.guard(FRAME)
        except UsageError as error:
            os._exit(0 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rig.guard(FRAME)


def test_closing_ends_the_trying(make: Callable[..., Rig]) -> None:
    rig = make(retry_s=60)
    rig.first.fault = "raise"
    rig.guard(FRAME)
    assert [one for one in threading.enumerate() if one.name == "gensoup-reviver"]
    rig.guard.close(engines=True)
    assert not [one for one in threading.enumerate() if one.name == "gensoup-reviver"]
    assert (rig.first.closed, rig.second.closed) == (1, 1)


@pytest.mark.parametrize("options", [{"patience_s": 0}, {"retry_s": -1}, {"slow_ms": 0}])
def test_times_must_be_positive(tiny_bundle: Path, options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="positive"):
        Rig(tiny_bundle, **options)  # type: ignore[arg-type]
