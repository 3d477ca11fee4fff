"""The live path: capture → one-slot mailbox → inference thread → sink thread (DESIGN, section 4).

All times are seconds of ``time.monotonic()`` (CLOCK_MONOTONIC on Linux), and nothing else is ever compared with them.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.certified import check_stream, check_successor
from gensoup.runtime.classifier import FrameClassifier
from gensoup.runtime.delivery import Deadlines, Delivery
from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.events import Event
from gensoup.runtime.frame_pool import FramePool
from gensoup.runtime.home_process import HomeProcess
from gensoup.runtime.inference import SWAP_TOO_LATE, Inference
from gensoup.runtime.mailbox import Mailbox, MailboxClosed
from gensoup.runtime.outlet import ResultIterator
from gensoup.runtime.pixels import PixelFormat, check_frame
from gensoup.runtime.result import Result
from gensoup.runtime.stream_work import FrameSmoother, Job, StreamWork
from gensoup.runtime.swap import load_like, release

Mode = Literal["realtime", "throughput"]
LIMIT_MS, STALE_AFTER_MS = 15.625, 250.0  # one frame at 64 Hz; a quarter of a second
Frame = NDArray[np.uint8]


class Stream:
    """Classifies the newest frame, always; use it as a context manager.

    ``push`` may be called from any thread; one thread alone calls the classifier and the smoother; another one alone
    calls ``on_result(result)``, in the order of the frames, and ``on_event(event)``, so a slow consumer never holds up
    inference. Beside or instead of ``on_result``, any number of ``for result in stream`` loops may run, in other
    threads than the one that pushes; each gets every result from its beginning on, and ends when the stream is closed.
    What a consumer leaves in its queue of ``sink_size`` results is dropped, oldest first, and counted in
    ``undelivered``; the state is judged anew on delivery, so that what waited there too long comes as STALE.
    If a callback raises, the stream goes on; the first exception stays in ``callback_error`` and :meth:`close`
    raises it, unless the ``with`` block ends in an exception of its own. Callbacks must not wait for their own stream:
    in them, and in the smoother, ``drain`` and ``swap`` raise UsageError, and so does ``push`` where it would wait.
    A stream that is not closed ends with the program, or when nothing refers to it any more.

    realtime: ``push`` never waits; a frame that still waits when a newer one comes is dropped, counted in ``drops`` and
        told to ``on_drop(frame_id)``, called in the pushing thread. A result older than ``limit_ms`` is LATE, one older
        than ``stale_after_ms`` STALE.
    throughput: every frame, in order; ``push`` waits for its turn, inference for the consumers; no deadline is judged.

    With a classifier of :func:`gensoup.runtime.load_guarded` an engine that fails is replaced: results are DEGRADED
    meanwhile. Without, results are FAILED while the engine raises, and there are none while it hangs.
    """

    def __init__(
        self,
        classifier: FrameClassifier,
        on_result: Callable[[Result], None] | None = None,
        *,
        limit_ms: float = LIMIT_MS,
        stale_after_ms: float = STALE_AFTER_MS,
        mode: Mode = "realtime",
        on_drop: Callable[[int], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        sink_size: int = 1,
        smoother: FrameSmoother | None = None,
    ) -> None:
        """The threads start at once. smoother: sees every prediction, within the time that counts.

        Raises UsageError for an unknown mode, limits that are not positive, or what is no classifier; CertificateError
        where it was loaded with a certificate, and ``limit_ms`` is shorter than certified or there is no deadline.
        """
        _check_classifier(classifier)
        if mode not in get_args(Mode):
            raise UsageError(f"mode '{mode}': must be one of {', '.join(get_args(Mode))}")
        check_stream(classifier, limit_ms, realtime=mode == "realtime")
        deadlines = Deadlines(limit_ms, stale_after_ms, judged=mode == "realtime")
        self.clock_faults = 0
        self._home = HomeProcess("a stream", "open one in this process")
        self._delivery = Delivery(deadlines, sink_size, on_result, on_event, self._home)
        self._on_drop = on_drop
        self._mailbox: Mailbox[Job] = Mailbox(blocking=mode == "throughput")
        self._pool = FramePool()
        self._next_id = 0
        self._pushing, self._swapping = threading.Lock(), threading.Lock()
        self._loaded: FrameClassifier | None = None  # by a swap: ours to close
        work = StreamWork(self._delivery, self._mailbox, self._pool, smoother, deadlines)
        self._inference: Inference[Job] = Inference(classifier, self._mailbox, work, self._home)
        weakref.finalize(self, self._inference.stop).atexit = False  # at the exit the inference sees to it itself

    @property
    def drops(self) -> int:
        """Frames replaced by newer ones so far."""
        return self._mailbox.drops

    @property
    def undelivered(self) -> int:
        """Results dropped because a consumer was slow, of all consumers together."""
        return self._delivery.undelivered

    @property
    def callback_error(self) -> BaseException | None:
        """The first exception of a callback; ``close`` raises it, and it is gone."""
        return self._delivery.callback_error

    def push(self, frame: Frame, captured_at: float | None = None, format: PixelFormat = "bgr") -> int:
        """Hand in a uint8 frame; return its id: 0, 1, 2, …

        frame: of any size, any strides; its shape as :mod:`gensoup.runtime.pixels` says, [height, width, 3] for BGR and
            RGB. It is copied as it is, its owner may change it at once, and made BGR in the inference thread.
        captured_at: when it arrived, in seconds of ``time.monotonic()``; None means now. One in the future is taken for
            now and counted in ``clock_faults``; one before the last frame's is believed: it can only make a result old.
        Raises DataError for anything but a frame or a time, UsageError after ``close`` and in a forked child.
        """
        self._home.check()
        check_frame(frame, format)
        if captured_at is not None and not _is_time(captured_at):
            raise DataError(f"captured_at must be seconds of time.monotonic(), got {captured_at!r}")
        if self._mailbox.blocking:
            self._check_thread("push() in throughput mode")
        with self._pushing:
            try:
                if self._mailbox.blocking:
                    self._mailbox.wait_until_free()
                pushed_at = time.monotonic()
                arrived_at = pushed_at if captured_at is None else float(captured_at)
                if arrived_at > pushed_at:
                    arrived_at = pushed_at
                    self.clock_faults += 1
                buffer = self._pool.take(frame.shape)
                np.copyto(buffer, frame)
                job = Job(self._next_id, buffer, format, arrived_at, pushed_at)
                replaced = self._put(job)
            except MailboxClosed as error:
                raise UsageError("the stream is closed: push frames before close()") from error
            self._next_id += 1
            if replaced is not None:
                self._pool.give_back(replaced.frame)
                self._delivery.settle(replaced.frame_id)
        if replaced is not None and self._on_drop is not None:  # outside of the lock: it may push
            try:
                self._on_drop(replaced.frame_id)
            except Exception as error:  # as of the other callbacks: capturing goes on
                self._delivery.failed(error)
        return job.frame_id

    def latest(self) -> Result | None:
        """The newest result, None before the first. In real time it is STALE once older than ``stale_after_ms``."""
        self._home.check()
        return self._delivery.latest()

    def __iter__(self) -> ResultIterator:
        """Results from now on, to the end at :meth:`close`."""
        self._home.check()
        return self._delivery.iterate()

    def swap(self, bundle: str | Path | FrameClassifier) -> None:
        """Let another bundle answer: opened with the options of the running one and proven on its golden frames beside
        it, in the calling thread, then switched to between two frames. Labels may change: ``Result.bundle`` tells.

        A classifier that is loaded already is taken as it is, and stays the caller's to close. Raises BundleError, and
        all else that loading may, UsageError after ``close``, in a callback and for what is no classifier,
        CertificateError where the running one is certified and the other is not, or not by the same certificate; the
        running one then goes on.
        """
        self._home.check()
        self._check_thread("swap()")
        with self._swapping:
            if self._mailbox.closed:
                raise UsageError(SWAP_TOO_LATE)  # now, and not only when the other one is loaded
            if isinstance(bundle, (str, Path)):
                loaded = fresh = load_like(self._inference.classifier, Path(bundle))
            else:
                _check_classifier(bundle)
                loaded, fresh = None, bundle
            try:
                check_successor(self._inference.classifier, fresh)
                self._inference.switch(fresh)
            except Exception:
                if loaded is not None:
                    release(loaded)
                raise
            before, self._loaded = self._loaded, loaded
            if before is not None:
                release(before)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every frame pushed so far is dropped, or classified and passed to ``on_result``; what waits for a
        ``for`` loop does not count. False if ``timeout`` seconds are too few."""
        self._home.check()
        self._check_thread("drain()")
        return self._delivery.drain(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Classify and deliver what was accepted, end all threads, raise the first exception of a callback once.

        Called from a callback or the smoother it only asks for the end: waiting there would be for ever. So would
        waiting for a callback that hangs, or an engine that does without a guard: with ``timeout`` seconds, False says
        that it was not waited for.
        """
        self._home.check()
        self._inference.stop()
        if self._is_mine() or not self._inference.join(timeout):
            return False
        with self._swapping:
            loaded, self._loaded = self._loaded, None
            if loaded is not None:
                release(loaded)
        error, self._delivery.callback_error = self._delivery.callback_error or self._inference.failure, None
        self._inference.failure = None
        if error is not None:
            raise error
        return True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise

    def _put(self, job: Job) -> Job | None:
        """Hand a frame over; what it replaced. It is expected first: its result may come before this returns."""
        self._delivery.expect(job.frame_id)
        try:
            return self._mailbox.put(job)
        except BaseException:
            self._delivery.settle(job.frame_id)
            raise

    def _is_mine(self) -> bool:
        """Whether the caller is a callback or the smoother."""
        me = threading.current_thread()
        return self._delivery.is_mine(me) or self._inference.is_mine(me)

    def _check_thread(self, call: str) -> None:
        if self._is_mine():
            raise UsageError(f"{call} from a callback or smoother would wait for itself: call it in another thread")


def _check_classifier(classifier: object) -> None:
    if not callable(classifier) or getattr(getattr(classifier, "engine", None), "name", None) is None:
        raise UsageError(
            f"a {type(classifier).__name__} is no classifier: load one by Classifier.load(path) or load_guarded(path)"
        )


def _is_time(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
