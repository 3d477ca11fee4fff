from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime import Classifier, Prediction, State
from gensoup.runtime.classifier import Explaining
from gensoup.runtime.errors import DataError, EngineError, UsageError
from gensoup.runtime.sources import open_source
from gensoup.runtime.sources.video import VideoSource
from gensoup.runtime.throughput import Throughput, classify_all, decoding_threads


def plain(number: int) -> np.ndarray:
    return np.full((48, 64, 3), number, np.uint8)


class Frames:
    """A source of ``count`` frames, numbered by their brightness, that notes how many are fetched and how many live."""

    name = "frames"
    rate_hz: float | None = None

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.frames: int | None = count
        self.skipped: list[str] = []
        self.error = error
        self.fetched = 0
        self.alive = self.most_alive = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(self.frames or 0):
            frame = plain(number % 256)
            self.fetched += 1
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
            weakref.finalize(frame, self._gone)
            yield frame
            del frame
        if self.error is not None:
            raise self.error

    def _gone(self) -> None:
        self.alive -= 1


class Uneven:
    """A real classifier that takes longer for some frames, and fails on those of the values ``bad``."""

    def __init__(self, real: Classifier, bad: tuple[int, ...] = ()) -> None:
        self.real, self.bad = real, bad
        self.engine = real.engine
        self.threads: list[str] = []

    def replicas(self, count: int) -> Sequence[Uneven]:
        copies = [Uneven(one, self.bad) for one in self.real.replicas(count)]
        for one in copies:
            one.threads = self.threads
        return copies

    def __call__(self, frame: np.ndarray) -> Prediction:
        value = int(frame[0, 0, 0])
        self.threads.append(str(threading.get_ident()))
        time.sleep(0.02 if value % 5 == 0 else 0.001)
        if value in self.bad:
            raise EngineError("device lost")
        return self.real(frame)


@pytest.fixture
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, "onnxruntime-cpu", threads=1)


def test_every_frame_comes_once_in_order_from_several_threads(classifier: Classifier) -> None:
    uneven = Uneven(classifier)
    with Throughput(uneven, Frames(60), workers=4) as results:
        got = list(results)
    assert [result.frame_id for result in got] == list(range(60))
    assert {result.state for result in got} == {State.OK}
    assert len(set(uneven.threads)) == 4
    # Otherwise the order would be kept by chance: some frame was done before an earlier one.
    done = [result.done_at for result in got]
    assert done != sorted(done)
    for result in got:
        assert result.captured_at == result.pushed_at <= result.started_at <= result.done_at
        assert result.drops == 0
        assert result.engine == "onnxruntime-cpu"


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-cpu"])
def test_results_are_those_of_the_classifier_itself(tiny_bundle: Path, video_file: Path, engine: str) -> None:
    classifier = Classifier.load(tiny_bundle, engine, threads=1)
    expected = [classifier(frame).probabilities for frame in open_source(str(video_file))]
    with Throughput(classifier, open_source(str(video_file)), workers=3) as results:
        got = [result.prediction.probabilities for result in results if result.prediction is not None]
    np.testing.assert_array_equal(got, expected)


def test_saliency_comes_from_every_worker(looking_bundle: Path, video_file: Path) -> None:
    classifier = Classifier.load(looking_bundle, "onnxruntime-cpu", threads=1)
    expected = [classifier(frame, saliency=True).saliency for frame in open_source(str(video_file))]
    with Throughput(Explaining(classifier), open_source(str(video_file)), workers=3) as results:
        got = [result.prediction.saliency for result in results if result.prediction is not None]
    np.testing.assert_array_equal(np.array(got), np.array(expected))


def test_frames_that_cannot_be_classified_fail_alone(classifier: Classifier) -> None:
    frames = [plain(0), plain(1), np.zeros((4, 4), np.uint8), plain(3), np.zeros((0, 4, 3), np.uint8), plain(5)]
    with Throughput(Uneven(classifier, bad=(1,)), frames[:2] + frames[3:4], workers=2) as results:
        got = list(results)
    assert [(result.state, result.error) for result in got] == [
        (State.OK, ""),
        (State.FAILED, "device lost"),
        (State.OK, ""),
    ]
    with Throughput(classifier, frames, workers=2) as results:
        got = list(results)
    assert [result.frame_id for result in got if result.state is State.FAILED] == [2, 4]
    assert "must be a BGR uint8 array" in got[2].error
    assert "must have pixels" in got[4].error


def test_a_probability_that_is_not_finite_is_no_prediction(classifier: Classifier) -> None:
    class Broken:
        engine = classifier.engine

        def __call__(self, frame: np.ndarray) -> Prediction:
            found = classifier(frame)
            return Prediction(found.label, 0, float("nan"), found.probabilities, 1.0, 1.0)

    with Throughput(Broken(), Frames(2), workers=2) as results:
        assert [(result.state, result.prediction) for result in results] == [(State.FAILED, None)] * 2


def test_memory_is_bounded_though_the_consumer_is_slow(classifier: Classifier) -> None:
    source = Frames(400)
    with Throughput(classifier, source, workers=3) as results:
        taken = iter(results)
        next(taken)
        settled = -1
        while settled != source.fetched:  # workers wait once they are far enough ahead
            settled = source.fetched
            time.sleep(0.1)
        assert source.fetched < 20
        assert sum(1 for _ in taken) == 399
    assert source.fetched == 400
    assert source.most_alive <= 4  # one a worker, and the one the source is about to give up


def test_what_the_source_raises_comes_after_the_frames_before_it(classifier: Classifier) -> None:
    source = Frames(5, DataError("frames: the cable is out"))
    got = []
    with pytest.raises(DataError, match="cable"), Throughput(classifier, source, workers=3) as results:
        for result in results:
            got.append(result.frame_id)
    assert got == [0, 1, 2, 3, 4]


def test_a_consumer_that_gives_up_leaves_no_thread(classifier: Classifier) -> None:
    before = set(threading.enumerate())
    source = Frames(10_000)
    with pytest.raises(RuntimeError, match="enough"), Throughput(classifier, source, workers=3) as results:
        for result in results:
            if result.frame_id == 7:
                raise RuntimeError("enough")
    assert set(threading.enumerate()) == before
    assert source.fetched < 40


def test_an_engine_without_copies_serves_one_frame_at_a_time_while_others_are_prepared(classifier: Classifier) -> None:
    class Single:
        """Like an engine on a GPU: it has no ``replica``, and two threads at once would ruin it."""

        name = "single"

        def __init__(self) -> None:
            self.busy = False
            self.threads: set[int] = set()

        def infer(self, frame: np.ndarray) -> np.ndarray:
            assert not self.busy
            self.busy = True
            self.threads.add(threading.get_ident())
            time.sleep(0.002)
            self.busy = False
            return real.infer(frame)

    real = classifier.engine
    single = Single()
    classifier.engine = single  # type: ignore[assignment]
    with Throughput(classifier, Frames(40), workers=3) as results:
        got = list(results)
    assert {(result.state, result.error, result.engine) for result in got} == {(State.OK, "", "single")}
    assert len(single.threads) == 3


def test_an_interrupt_ends_in_order_with_what_was_decoded(classifier: Classifier) -> None:
    source = Frames(100_000)
    got: list[int] = []

    def take(result: object) -> None:
        got.append(result.frame_id)  # type: ignore[attr-defined]
        if len(got) == 5:
            signal.raise_signal(signal.SIGINT)  # in this thread, at once

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert classify_all(classifier, source, take, workers=3) is False
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert got == list(range(source.fetched))
    assert 5 <= len(got) < 40


def test_a_second_interrupt_does_not_wait_for_the_consumer(classifier: Classifier) -> None:
    def take(result: object) -> None:
        signal.raise_signal(signal.SIGINT)  # in this thread, at once

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            classify_all(classifier, Frames(1000), take, workers=3)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_decoder_gets_some_of_the_threads(classifier: Classifier, video_file: Path) -> None:
    assert [decoding_threads(cores) for cores in (1, 2, 3, 8)] == [1, 1, 1, 4]
    source = open_source(str(video_file))
    assert isinstance(source, VideoSource)
    assert classify_all(classifier, source, lambda result: None, workers=4, max_frames=3) is True
    assert source.decoding_threads == 2


def test_no_workers_are_a_mistake(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="workers 0"):
        Throughput(classifier, Frames(1), workers=0)
