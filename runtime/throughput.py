"""Every frame of a source, in order, on all cores: for recordings, where nothing is late and nothing may be left out.

Each worker thread takes the next frame under a lock, so decoding is serial, then resizes and classifies it by itself.
A frame stays with the core that decoded it, and no thread only decodes or only waits: measured on 2 cores with
SqueezeNet 1.1 at 224 px, a 1080p frame took no more core time than decode, resize and engine take one by one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Protocol, runtime_checkable

from gensoup.runtime.attempt import attempt
from gensoup.runtime.classifier import FrameClassifier
from gensoup.runtime.device import usable_cores
from gensoup.runtime.errors import UsageError
from gensoup.runtime.interrupts import interrupt_calls
from gensoup.runtime.preprocess import Frame
from gensoup.runtime.result import Result, State
from gensoup.runtime.sources import Source
from gensoup.runtime.sources.video import VideoSource

_AHEAD = 4  # results a worker that may wait for an earlier frame or for the consumer
_LAST_FRAME_SECONDS = 5.0


@runtime_checkable
class ReplicableClassifier(FrameClassifier, Protocol):
    """A classifier that can be had once a thread: :class:`gensoup.runtime.Classifier` can."""

    def replicas(self, count: int) -> Sequence[FrameClassifier]:
        """See :meth:`gensoup.runtime.Classifier.replicas`."""
        ...


class Throughput:
    """Classifies every frame; iterate over it for the results, in the order of the frames, inside a ``with`` block:

        with Throughput(Classifier.load(path, threads=1), open_source("recording.mp4")) as results:
            for result in results: ...

    Results are OK or FAILED: a frame that cannot be classified fails alone. Workers wait for a consumer that is slower
    than they are, so memory is bounded by one frame a worker and some results, however long the recording is.
    Times in the results: ``captured_at`` and ``pushed_at`` are when the frame was decoded. drops are always 0.
    """

    def __init__(self, classifier: FrameClassifier, frames: Iterable[Frame], workers: int | None = None) -> None:
        """The threads start at once.

        classifier: with ``replicas``; one without is used in one thread. frames: BGR uint8 [height, width, 3], each an
        array of its own; fetched by one thread at a time. workers: threads; None: as many as there are cores.
        Raises UsageError for no workers, EngineError as ``replicas``.
        """
        if workers is not None and workers < 1:
            raise UsageError(f"workers {workers}: must be at least 1")
        count = usable_cores() if workers is None else workers
        classifiers = classifier.replicas(count) if isinstance(classifier, ReplicableClassifier) else [classifier]
        self._frames = iter(frames)
        self._turn = threading.Lock()  # to fetch the next frame; guards _frames, _fetched, _ended
        self._fetched = 0
        self._ended = False
        self._changed = threading.Condition()  # guards what follows
        self._done: dict[int, Result] = {}
        self._next = 0
        self._working = len(classifiers)
        self._error: BaseException | None = None
        self._stopped = False
        self._window = len(classifiers) * _AHEAD
        self._threads = [
            threading.Thread(target=self._work, args=(one,), name="gensoup-throughput", daemon=True)
            for one in classifiers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Fetch no more frames; those under way still give their results. May be called from a signal handler."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopped

    def __iter__(self) -> Iterator[Result]:
        """One iteration in all: a second one goes on where the first was left. Raises what the source raised, last."""
        while (result := self._in_order()) is not None:
            yield result
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Throughput:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop, and wait for the frames under way, for some seconds where an engine hangs."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + _LAST_FRAME_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _in_order(self) -> Result | None:
        """The next frame's result, waiting for it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._next in self._done or self._working == 0)
            result = self._done.pop(self._next, None)
            if result is not None:
                self._next += 1
                self._changed.notify_all()
        return result

    def _work(self, classifier: FrameClassifier) -> None:
        try:
            while (fetched := self._fetch()) is not None:
                frame_id, frame = fetched
                result = _classified(classifier, frame_id, frame)
                del fetched, frame  # what waits for its turn holds no frame
                with self._changed:
                    self._done[frame_id] = result
                    if frame_id == self._next:
                        self._changed.notify_all()
        except BaseException as error:  # the consumer's thread raises it
            with self._changed:
                self._error = self._error or error
                self._stopped = True
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _fetch(self) -> tuple[int, Frame] | None:
        """The next frame and its number; None when there is none, or no more is wanted."""
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._fetched - self._next < self._window)
            if self._stopped or self._ended:
                return None
            try:
                frame = next(self._frames)
            except StopIteration:
                self._ended = True
                return None
            except BaseException:
                self._ended = True
                raise
            self._fetched += 1
            return self._fetched - 1, frame


def classify_all(
    classifier: FrameClassifier,
    source: Source,
    take: Callable[[Result], None],
    workers: int | None = None,
    max_frames: int | None = None,
    expect: Callable[[int, Frame], None] | None = None,
) -> bool:
    """Hand every result of a source to ``take``, in order, in this thread; False if an interrupt cut it short.

    The first interrupt from the keyboard ends it in order: what was decoded is still classified and handed over. A
    second one raises KeyboardInterrupt. expect: told each frame when it is fetched, in a worker's thread.
    Raises what the source or ``take`` raises, and as :class:`Throughput`.
    """
    if isinstance(source, VideoSource):
        source.decoding_threads = decoding_threads(workers or usable_cores())
    frames = islice(source, max_frames)
    with Throughput(classifier, _told(frames, expect) if expect else frames, workers) as results:
        with interrupt_calls(results.stop):
            for result in results:
                take(result)
        return not results.stopped


def decoding_threads(cores: int) -> int:
    """How many threads a video decoder should have beside as many workers as there are ``cores``.

    More threads decode a frame at more core time in all; one alone holds up more than some two workers (1080p).
    """
    return max(1, cores // 2)


def _told(frames: Iterable[Frame], expect: Callable[[int, Frame], None]) -> Iterator[Frame]:
    for frame_id, frame in enumerate(frames):
        expect(frame_id, frame)
        yield frame


def _classified(classifier: FrameClassifier, frame_id: int, frame: Frame) -> Result:
    decoded_at = time.monotonic()
    prediction, problem = attempt(lambda: classifier(frame))
    state = State.FAILED if prediction is None else State.OK
    times = (decoded_at, decoded_at, decoded_at, time.monotonic())
    return Result(frame_id, *times, 0, state, prediction, classifier.engine.name, problem)
