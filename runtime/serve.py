"""What ``gensoup run`` does: a source through the live stream into a file of results and an annotated video."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError, GenSoupError, UsageError
from gensoup.runtime.overlay import AnnotatedVideo
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources import Source
from gensoup.runtime.stream import FrameClassifier, Mode, Result, Stream

_QUEUED_RESULTS = 64  # a slow disk must not cost lines
DEFAULT_RATE_HZ = 30.0  # for images, which have no rate of their own

Frame = NDArray[np.uint8]
Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class ServeSummary:
    """What became of a source's frames.

    frames: read from the source. results: delivered, failed ones too. drops: replaced by newer frames.
    undelivered: results dropped because writing fell behind. states: results per state.
    latency_ms, age_ms: p50, p95, p99 and max over the results that did not fail.
    fps: results per second from the first push to the last result. rate_hz: the pace, None in throughput mode.
    skipped: broken files, one line each. video_skipped: results the annotated video leaves out.
    failure: the error of the first failed frame.
    """

    mode: Mode
    engine: str
    frames: int
    results: int
    drops: int
    undelivered: int
    states: dict[str, int]
    latency_ms: dict[str, float]
    age_ms: dict[str, float]
    fps: float
    rate_hz: float | None
    skipped: tuple[str, ...]
    video_skipped: int
    failure: str
    interrupted: bool


def serve(
    classifier: FrameClassifier,
    source: Source,
    *,
    mode: Mode = "realtime",
    pace_hz: float | None = None,
    json_out: Path | None = None,
    video_out: Path | None = None,
    max_frames: int | None = None,
    preprocess: Preprocess | None = None,
    progress: Progress | None = None,
) -> ServeSummary:
    """Classify a source's frames and write what was asked for.

    realtime: frames come at ``pace_hz`` (None: the source's own rate, 30 Hz where it has none), the newest wins, and
        drops have no line in ``json_out``. throughput: as fast as possible, every frame, in order.
    json_out: one JSON object a line: frame, label, probability, latency_ms, age_ms, state; each line is written at
        once, so that a run that is killed leaves whole lines. video_out: .avi or .mp4.
    max_frames: stop after so many. preprocess: the classifier's, for drawing the saliency maps of one
        that gives them into the video. progress: called with frames done and their number, None if unknown.
    An interrupt from the keyboard ends the run in order. Raises UsageError for options that do not go together,
    DataError for a source without frames, GenSoupError when a file cannot be written.
    """
    _check_options(mode, pace_hz, max_frames)
    rate_hz = pace_hz or source.rate_hz or DEFAULT_RATE_HZ
    total = _fewest(source.frames, max_frames)
    with ExitStack() as stack:
        video = _video(video_out, rate_hz, mode, preprocess, stack)
        record = _Record(json_out, video, stack)
        stream = Stream(classifier, record.add, mode=mode, sink_size=_QUEUED_RESULTS)
        frames = 0
        interrupted = False
        try:
            with stream:
                for due, frame in _paced(source, rate_hz if mode == "realtime" else None, max_frames):
                    record.expect(frames, frame)
                    stream.push(frame, captured_at=due)
                    frames += 1
                    if stream.callback_error is not None:
                        break  # results cannot be written any more: end now, close() tells why
                    if progress is not None:
                        progress(frames, total)
        except KeyboardInterrupt:
            interrupted = True
    if frames == 0 and not interrupted:
        raise DataError(f"{source.name}: holds no frames")
    return ServeSummary(
        mode=mode,
        engine=classifier.engine.name,
        frames=frames,
        results=sum(record.states.values()),
        drops=stream.drops,
        undelivered=stream.undelivered,
        states=dict(record.states),
        latency_ms=_percentiles(record.latencies),
        age_ms=_percentiles(record.ages),
        fps=record.fps(),
        rate_hz=rate_hz if mode == "realtime" else None,
        skipped=tuple(source.skipped),
        video_skipped=video.skipped if video is not None else 0,
        failure=record.failure,
        interrupted=interrupted,
    )


class _Record:
    """Takes results in the sink thread: counts, writes lines, passes frames on to the video."""

    def __init__(self, json_out: Path | None, video: AnnotatedVideo | None, stack: ExitStack) -> None:
        self.states: Counter[str] = Counter()
        self.latencies = array("d")
        self.ages = array("d")
        self.failure = ""
        self._json_out = json_out
        self._file = None
        if json_out is not None:
            try:
                self._file = stack.enter_context(json_out.open("wb", buffering=0))
            except OSError as error:
                raise GenSoupError(f"--json {json_out}: cannot be written ({error.strerror})") from error
        self._video = video
        self._frames: dict[int, Frame] = {}
        self._first_push = math.inf
        self._last_done = -math.inf

    def expect(self, frame_id: int, frame: Frame) -> None:
        """Keep a frame for the video until its result comes; to be called before it is pushed."""
        if self._video is not None:
            self._frames[frame_id] = frame

    def add(self, result: Result) -> None:
        """Take a result; frames before it that have none were dropped, and are let go."""
        self.states[result.state.value] += 1
        self._first_push = min(self._first_push, result.pushed_at)
        self._last_done = result.done_at
        if result.prediction is not None:
            self.latencies.append(result.latency_ms)
            self.ages.append(result.age_ms)
        self.failure = self.failure or result.error
        self._write(result)
        if self._video is not None:
            frame = self._frames[result.frame_id]
            for frame_id in [known for known in tuple(self._frames) if known <= result.frame_id]:
                del self._frames[frame_id]
            self._video.add(frame, result)

    def fps(self) -> float:
        """Results per second from the first push to the last result."""
        seconds = self._last_done - self._first_push
        return sum(self.states.values()) / seconds if seconds > 0 else 0.0

    def _write(self, result: Result) -> None:
        if self._file is None:
            return
        line = result_line(result).encode()
        try:
            written = self._file.write(line)
            if written != len(line):  # the disk is full: take the half line back
                self._file.truncate(self._file.tell() - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise GenSoupError(f"--json {self._json_out}: cannot be written ({error.strerror})") from error


def result_line(result: Result) -> str:
    """One line of ``run --json``, line end included. A failed frame has null for label and probability."""
    prediction = result.prediction
    values = {
        "frame": result.frame_id,
        "label": prediction.label if prediction is not None else None,
        "probability": round(prediction.probability, 6) if prediction is not None else None,
        "latency_ms": round(result.latency_ms, 3),
        "age_ms": round(result.age_ms, 3),
        "state": result.state.value,
    }
    return json.dumps(values, ensure_ascii=False) + "\n"


def _paced(source: Source, rate_hz: float | None, max_frames: int | None) -> Iterator[tuple[float | None, Frame]]:
    """Frames with the time they arrived, held back to ``rate_hz``; None: as fast as they are fetched.

    A source that cannot keep the pace delays its later frames, as a slow camera would; it causes no burst.
    """
    due = -math.inf
    for frame in islice(source, max_frames):
        if rate_hz is None:
            yield None, frame
            continue
        now, due = time.monotonic(), due + 1 / rate_hz
        if now > due + 1 / rate_hz:
            due = now
        time.sleep(max(0.0, due - now))
        yield max(due, now), frame


def _video(
    path: Path | None, rate_hz: float, mode: Mode, preprocess: Preprocess | None, stack: ExitStack
) -> AnnotatedVideo | None:
    if path is None:
        return None
    video = AnnotatedVideo(path, rate_hz, wait=mode == "throughput", preprocess=preprocess)
    stack.callback(video.close)
    return video


def _check_options(mode: Mode, pace_hz: float | None, max_frames: int | None) -> None:
    if pace_hz is not None and mode == "throughput":
        raise UsageError("--pace: throughput mode has no pace; leave it out or use --mode realtime")
    if pace_hz is not None and not 0 < pace_hz <= 1000:
        raise UsageError(f"--pace {pace_hz:g}: must lie between 0 and 1000 Hz")
    if max_frames is not None and max_frames < 1:
        raise UsageError(f"--frames {max_frames}: must be at least 1")


def _fewest(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)


def _percentiles(values: array[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p95, p99, most = np.percentile(values, [50, 95, 99, 100])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(most)}
