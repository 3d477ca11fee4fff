"""The real-time gate: does this bundle keep up with a camera on this machine? (DESIGN, section 4)

Frames go through the very stream that serves live ones, with smoothing and with the reference engine standing by, as
``gensoup run`` has it. Measuring is done here and in :mod:`gensoup.bench.paced`; judging in :mod:`gensoup.bench.judge`.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gensoup import __version__
from gensoup.bench.finding import Finding
from gensoup.bench.gate_source import GateFrames, find_source, seen, take_frames
from gensoup.bench.judge import camera_limited
from gensoup.bench.measurement import Measurement
from gensoup.bench.paced import run_live, run_paced
from gensoup.bench.tier import QUICK, Tier
from gensoup.bench.trace import Trace
from gensoup.runtime.bundle import bundle_digest
from gensoup.runtime.classifier import FrameClassifier
from gensoup.runtime.device import fingerprint
from gensoup.runtime.engines.catalogue import AUTO, REFERENCE, obstacle
from gensoup.runtime.errors import BundleError, EngineError, UsageError
from gensoup.runtime.failover import load_live
from gensoup.runtime.identity import device_facts
from gensoup.runtime.smoothing import Labelling, Smoother, Smoothing
from gensoup.runtime.swap import released

_CAPACITY_SECONDS = 2.0
MIN_RATE_HZ, MAX_RATE_HZ = 1.0, 1000.0

Frame = NDArray[np.uint8]
Progress = Callable[[int, int], None]
Keep = Callable[[Measurement], None]


class DeviceWatch(Protocol):
    """What watches the device while the gate measures: clocks, temperature, throttling, other work.

    ``start`` comes before the first warm-up, ``stop`` after the last repetition or when it is broken off. ``findings``
    and ``log`` are read after every repetition and after ``stop``, and enter the measurement as they are then: findings
    are judged, the log (plain values for JSON) is kept for reports.
    """

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def findings(self) -> Sequence[Finding]: ...

    def log(self) -> Mapping[str, Any]: ...


def run_gate(
    bundle_path: Path,
    min_fps: float = 64.0,
    source: str | None = None,
    *,
    tier: Tier = QUICK,
    resolution: str | None = None,
    engine: str = AUTO,
    precision: str | None = None,
    engines_dir: Path | None = None,
    threads: int | None = None,
    require_signature: Path | None = None,
    progress: Progress | None = None,
    watch: Callable[[str], DeviceWatch] | None = None,
    keep: Keep | None = None,
    begun: Measurement | None = None,
) -> Measurement:
    """Measure a bundle on this machine: frames at ``min_fps``, at the source's full size, as long as ``tier`` says.

    source, resolution: see :func:`gensoup.bench.gate_source.find_source`. A recording's own rate plays no part, a
    camera's must reach ``min_fps``. engine, precision, engines_dir, threads, require_signature: as
    :meth:`gensoup.runtime.classifier.Classifier.load` takes them.
    progress: called with frames due so far and all of the tier, once a second. watch: makes, from the engine's name,
    what watches the device. keep: called with the measurement after every repetition and at the end. begun: a
    measurement of the same that was broken off; what is missing is measured.
    Raises UsageError, BundleError, DataError or EngineError, one line each, for what cannot be measured at all.
    """
    if not MIN_RATE_HZ <= min_fps <= MAX_RATE_HZ:
        raise UsageError(f"--min-fps {min_fps:g}: must lie between {MIN_RATE_HZ:g} and {MAX_RATE_HZ:g}")
    found = find_source(source, resolution)  # a wrong one is told before anything takes time
    classifier = load_live(
        bundle_path,
        engine,
        precision,
        threads,
        require_signature,
        engines_dir,
        None,
        failover=obstacle(REFERENCE) is None,
        saliency=False,
        realtime=False,  # how fast the engine is, the gate judges; nobody stands in for a slow one
    )
    with released(classifier):
        frames = take_frames(found, resolution)
        empty = Measurement(
            tier=tier,
            min_fps=min_fps,
            source=frames.facts,
            engine=classifier.engine.name,
            precision=classifier.precision,
            bundle_sha256=classifier.sha256,
            device=fingerprint(classifier.engine.name),
            facts=device_facts(),
            started_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            gensoup=__version__,
            threads=threads,
            bundle=bundle_path.name,
        )
        start = empty if begun is None else taken_up(begun, empty)
        if begun is not None and keep is not None:
            keep(start)  # now: that it was taken up counts, whether anything comes of it or not
        watching = None if watch is None else watch(classifier.engine.name)
        return measure(classifier, frames, start, bundle_path, progress, watching, keep)


def measure(
    classifier: FrameClassifier,
    frames: GateFrames,
    start: Measurement,
    bundle_path: Path | None = None,
    progress: Progress | None = None,
    watch: DeviceWatch | None = None,
    keep: Keep | None = None,
) -> Measurement:
    """Add to ``start`` the repetitions that it lacks; see :func:`run_gate`. bundle_path: is read after each of them."""
    tier, measurement = start.tier, start
    with ExitStack() as stack:
        if frames.live is not None:
            stack.callback(frames.live.close)
        if watch is not None:
            watch.start()
            stack.callback(watch.stop)
        for number in range(len(start.repetitions), tier.repetitions):
            told = _of_all(progress, number, tier.repetitions)
            trace, measurement = _repetition(classifier, frames, measurement, told)
            if bundle_path is not None:
                trace = replace(trace, bundle_after=_digest(bundle_path))
            measurement = _watched(measurement.with_repetition(trace), start, watch)
            if keep is not None:
                keep(measurement)
            if frames.live is not None and camera_limited(trace, start.min_fps):
                break  # what a camera does not send cannot be measured by waiting longer
    # After the watch has ended: frames back to back heat and slow a device as those of a camera do not.
    if frames.ring and measurement.capacity_fps is None:
        seconds = min(_CAPACITY_SECONDS, tier.seconds)
        measurement = replace(measurement, capacity_fps=capacity_fps(classifier, frames.ring, seconds))
    measurement = _watched(measurement, start, watch)
    if keep is not None:
        keep(measurement)
    return measurement


def _watched(measurement: Measurement, start: Measurement, watch: DeviceWatch | None) -> Measurement:
    """With what the watch has found by now, and what was found before the measurement was broken off."""
    if watch is None:
        return measurement
    log: Mapping[str, Any] = watch.log()
    if start.device_log:  # of the first part alone, or of each
        before = {"1": start.device_log} if "1" not in start.device_log else start.device_log
        log = {**before, str(len(before) + 1): log}
    return replace(measurement, findings=(*start.findings, *watch.findings()), device_log=log)


def _repetition(
    classifier: FrameClassifier, frames: GateFrames, measurement: Measurement, progress: Progress | None
) -> tuple[Trace, Measurement]:
    tier, rate_hz = measurement.tier, measurement.min_fps
    smoother = Smoother(Labelling.of_classifier(classifier), Smoothing())
    times = (rate_hz, tier.seconds, tier.warmup_s, progress, smoother)
    if frames.live is None:
        return run_paced(classifier, frames.ring, *times), measurement
    trace, size = run_live(classifier, frames.live, *times)
    return trace, replace(measurement, source=seen(frames, size))


def taken_up(begun: Measurement, now: Measurement) -> Measurement:
    """``begun``, which was broken off, to go on under the circumstances of ``now``.

    Raises UsageError, naming what differs, where it was begun under others.
    """
    differing = {
        "the bundle": (begun.bundle_sha256, now.bundle_sha256),
        "--tier": (begun.tier, now.tier),
        "--min-fps": (begun.min_fps, now.min_fps),
        "--source": (
            begun.source.spec if begun.source.kind == "camera" else begun.source,
            now.source.spec if now.source.kind == "camera" else now.source,
        ),
        "the engine": (begun.engine, now.engine),
        "the precision": (begun.precision, now.precision),
        "--threads": (begun.threads, now.threads),
        "the device": (begun.device, now.device),
        "the device's setting": (begun.facts, now.facts),
        "gensoup's version": (begun.gensoup, now.gensoup),
    }
    for what, (before, after) in differing.items():
        if before != after:
            raise UsageError(f"--resume: {what} is not what the measurement began with; measure anew without it")
    if begun.complete:
        raise UsageError("--resume: the measurement is finished; --from-trace shows its verdict")
    return replace(begun, interruptions=begun.interruptions + 1)


def capacity_fps(classifier: FrameClassifier, ring: Sequence[Frame], seconds: float) -> float | None:
    """Frames per second when each follows the last one at once; None when the engine fails."""
    started = time.monotonic()
    count = 0
    try:
        while count == 0 or time.monotonic() - started < seconds:
            classifier(ring[count % len(ring)])
            count += 1
    except EngineError:
        return None
    return count / (time.monotonic() - started)


def _of_all(progress: Progress | None, number: int, repetitions: int) -> Progress | None:
    """Progress over all repetitions, during the one of that number, from 0 on."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, repetitions * total)


def _digest(path: Path) -> str:
    """The bundle's digest now; empty when it is gone or damaged."""
    try:
        return bundle_digest(path.read_bytes())
    except (OSError, BundleError):
        return ""
