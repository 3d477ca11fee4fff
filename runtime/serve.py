"""What ``gensoup run`` does: a source through the live stream into results, pictures and a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.admission import Admission
from gensoup.runtime.annotated_video import AnnotatedVideo
from gensoup.runtime.certificate import Certificate
from gensoup.runtime.certified import check_plain
from gensoup.runtime.classifier import FrameClassifier
from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.events import Event
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.recording import Recording, RecordingOptions, RecordingSummary
from gensoup.runtime.replay_smoother import ReplaySmoother
from gensoup.runtime.result import Result
from gensoup.runtime.run_record import RunRecord, Takers
from gensoup.runtime.smoothing import Labelling, Smoother, Smoothing
from gensoup.runtime.smoothing_lag import LagMeter, SmoothingSummary
from gensoup.runtime.sources import Source
from gensoup.runtime.sources.arrivals import DEFAULT_RATE_HZ, arrivals
from gensoup.runtime.sources.live import LiveSource
from gensoup.runtime.stream import LIMIT_MS, Mode, Stream
from gensoup.runtime.throughput import classify_all

if TYPE_CHECKING:
    from gensoup.runtime.view import View

_QUEUED_RESULTS = 64  # a slow disk must not cost lines

Frame = NDArray[np.uint8]
Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class ServeSummary:
    """What became of a source's frames.

    frames: read from the source. results: delivered, failed ones too. drops: replaced by newer frames.
    undelivered: results dropped because writing fell behind. states: results per state.
    latency_ms, age_ms: p50, p95, p99 and max over the results that did not fail.
    fps: results per second from the first push to the last result. rate_hz: the pace, None in throughput mode.
    skipped: broken files, one line each. video_skipped: results that the annotated video lacks for it fell behind.
    failure: the error of the first failed frame. events: what happened to the engine, the first few.
    smoothing, recording: what became of them, None where not asked for. losses, reconnects, away_s, source_failure:
        of a live source, see :class:`gensoup.runtime.sources.live.LiveSource`.
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
    events: tuple[Event, ...] = ()
    smoothing: SmoothingSummary | None = None
    recording: RecordingSummary | None = None
    losses: int = 0
    reconnects: int = 0
    away_s: float = 0.0
    source_failure: str = ""


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
    workers: int | None = None,
    smoothing: Smoothing | None = None,
    recording: RecordingOptions | None = None,
    notify: Callable[[str], None] | None = None,
    view: View | None = None,
) -> ServeSummary:
    """Classify a source's frames and write what was asked for.

    realtime: frames come at ``pace_hz`` (None: the source's own rate, 30 Hz where it has none; a live source has no
        pace but its own), the newest wins, and drops have no line in ``json_out``. throughput: as fast as possible,
        every frame, in order; not for live sources.
    json_out: one JSON object a line, see :func:`gensoup.runtime.result_line.result_values`; each line is written at
        once, so that a run that is killed leaves whole lines. video_out: .avi or .mp4, see
        :class:`gensoup.runtime.annotated_video.AnnotatedVideo`; in throughput mode every frame is in it.
    max_frames: stop after so many. preprocess: the classifier's, for drawing the saliency maps of one
        that gives them into the video. progress: called with frames done and their number, None if unknown.
    workers: threads in throughput mode, see :class:`gensoup.runtime.throughput.Throughput`.
    smoothing: of results over time, None: none. recording: keep video and log in a folder; trouble with it ends the
        recording alone, and ``notify`` is called with the reason. view: is shown every frame and result; the caller
        closes it.
    With a classifier that was loaded with a certificate, its latency is the deadline, and a source that sends larger
    frames, or more a second, than certified is refused at its first frame; if it begins to do so later, ``notify`` is
    called once, for ending a live picture would be worse.
    An interrupt from the keyboard ends the run in order. Raises UsageError for options that do not go together,
    DataError for a source without frames, CertificateError, GenSoupError when a file cannot be written.
    """
    certificate: Certificate | None = getattr(classifier, "certificate", None)
    live = source if isinstance(source, LiveSource) else None
    check_options(source, mode, pace_hz, max_frames)
    if certificate is not None:
        check_plain(certificate, realtime=mode == "realtime")
    total = min((count for count in (source.frames, max_frames) if count is not None), default=None)
    every = mode == "throughput"
    stream: Stream | None = None
    frames, interrupted = 0, False
    with ExitStack() as stack:
        paced = closing(arrivals(source, pace_hz))
        arriving: Iterable[tuple[float, Frame]] = () if every else stack.enter_context(paced)
        if live is not None:
            try:
                arriving = _begun(arriving)
            except KeyboardInterrupt:
                interrupted, arriving = True, ()
        rate_hz = pace_hz or source.rate_hz or DEFAULT_RATE_HZ
        video = keeper = None
        if video_out is not None:
            video = AnnotatedVideo(video_out, rate_hz, wait=every, preprocess=preprocess)
            stack.callback(video.close)
        if recording is not None:
            keeper = Recording(recording, rate_hz, wait=every, preprocess=preprocess, on_event=notify)
            stack.callback(keeper.close)
        smoother = None if smoothing is None else Smoother(Labelling.of_classifier(classifier), smoothing)
        replay = ReplaySmoother(smoother, rate_hz) if smoother is not None and every else None
        lag = None if smoothing is None else LagMeter(smoothing, rate_hz, timed_by_frames=every)
        record = RunRecord(json_out, Takers(video, keeper, view, replay, lag), stack, realtime=not every)

        def counted() -> None:
            nonlocal frames
            frames += 1
            if progress is not None:
                progress(frames, total)

        def take(result: Result) -> None:
            record.add(result)
            counted()

        try:
            if every:
                interrupted = not classify_all(classifier, source, take, workers, max_frames, record.expect)
            else:
                with (
                    Stream(
                        classifier,
                        record.add,
                        on_drop=record.drop,
                        on_event=record.note,
                        sink_size=_QUEUED_RESULTS,
                        smoother=smoother,
                        limit_ms=LIMIT_MS if certificate is None else certificate.limit_ms,
                    ) as stream,
                    paced,
                ):
                    admission = Admission(certificate, notify)
                    for due, frame in islice(arriving, max_frames):
                        admission.check(frame, source.rate_hz if live is not None else rate_hz)
                        record.expect(frames, frame)
                        stream.push(frame, captured_at=due)
                        counted()
                        if stream.callback_error is not None:
                            break  # results cannot be written any more: end now, close() tells why
        except KeyboardInterrupt:
            interrupted = True
    if frames == 0 and not interrupted:
        raise DataError(f"{source.name}: holds no frames")
    return ServeSummary(
        mode=mode,
        engine=classifier.engine.name,
        frames=frames,
        results=sum(record.states.values()),
        drops=stream.drops if stream is not None else 0,
        undelivered=stream.undelivered if stream is not None else 0,
        states=dict(record.states),
        latency_ms=record.latencies.summary(),
        age_ms=record.ages.summary(),
        fps=record.fps(),
        rate_hz=None if every else source.rate_hz if live is not None else rate_hz,
        skipped=tuple(source.skipped),
        video_skipped=video.skipped if video is not None else 0,
        failure=record.failure,
        interrupted=interrupted,
        events=tuple(record.events),
        smoothing=lag.summary() if lag is not None else None,
        recording=keeper.summary if keeper is not None else None,
        losses=live.losses if live is not None else 0,
        reconnects=live.reconnects if live is not None else 0,
        away_s=live.away_s if live is not None else 0.0,
        source_failure=live.failure if live is not None else "",
    )


def _begun(arriving: Iterable[tuple[float, Frame]]) -> Iterator[tuple[float, Frame]]:
    """The same, once the first frame is there: a live source tells its rate only then."""
    rest = iter(arriving)
    return chain(list(islice(rest, 1)), rest)


def check_options(source: Source, mode: Mode, pace_hz: float | None, max_frames: int | None) -> None:
    """Raise UsageError for options of :func:`serve` that do not go together."""
    if isinstance(source, LiveSource) and mode == "throughput":
        raise UsageError(f"--mode throughput: {source.name} is live and cannot be held back; use --mode realtime")
    if isinstance(source, LiveSource) and pace_hz is not None:
        raise UsageError(f"--pace: {source.name} is live and has a pace of its own; leave it out")
    if pace_hz is not None and mode == "throughput":
        raise UsageError("--pace: throughput mode has no pace; leave it out or use --mode realtime")
    if pace_hz is not None and not 0 < pace_hz <= 1000:
        raise UsageError(f"--pace {pace_hz:g}: must lie between 0 and 1000 Hz")
    if max_frames is not None and max_frames < 1:
        raise UsageError(f"--frames {max_frames}: must be at least 1")
