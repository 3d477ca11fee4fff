"""The real-time gate: does this bundle keep up with a camera on this machine? (DESIGN, section 4)

Tier "quick" is a screen. A miss is a drop, a failure, or a result later than one frame's time after the frame's
scheduled arrival.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.paced import Trace, fill_ring, ring_length, run_paced
from gensoup.bench.statistics import fewest_frames, longest_run, miss_rate_lower, miss_rate_upper, percentile
from gensoup.runtime.bundle import bundle_digest
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.device import fingerprint
from gensoup.runtime.engines.catalogue import AUTO
from gensoup.runtime.errors import BundleError, DataError, EngineError, UsageError
from gensoup.runtime.sources import open_source
from gensoup.runtime.sources.live import LiveSource

SCHEMA_VERSION = 1
MAX_MISS_RATE = 0.01
MAX_MISS_RUN = 2
MAX_LATENESS_MS = 1.0
# At least this share of all core time idle: then a core was free for the pacer, and its lateness is a measuring fault.
IDLE_CORES = 0.15
# At least this share of it taken by others: then the pacer's lateness may be theirs, and counts against the device.
TAKEN_CORES = 0.10
_CAPACITY_SECONDS = 2.0
_SHORTFALL = 1e-9

Frame = NDArray[np.uint8]
Progress = Callable[[int, int], None]


class Outcome(str, Enum):
    """PASS: not refuted. FAIL: does not keep up. INVALID: the measurement says nothing."""

    PASS = "PASS"
    FAIL = "FAIL"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """Of ``gensoup bench``: 0, 1 or 2."""
        return list(Outcome).index(self)


@dataclass(frozen=True)
class Verdict:
    """The gate's answer and the numbers behind it.

    latency_ms, lateness_ms, stages_ms: percentiles in milliseconds; drops and failures are infinite latencies.
    capacity_fps: closed-loop frames per second, for information; None where it was not measured.
    """

    verdict: Outcome
    reason: str
    rate_hz: float
    frames: int
    misses: int
    drops: int
    failures: int
    miss_rate_upper: float
    longest_miss_run: int
    latency_ms: dict[str, float]
    lateness_ms: dict[str, float]
    stages_ms: dict[str, dict[str, float]]
    idle_fraction: float
    taken_fraction: float
    capacity_fps: float | None = None
    engine: str = ""
    precision: str = ""
    bundle_sha256: str = ""
    model_sha256: str = ""
    device: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``gensoup bench --json``: plain values, None for what is infinite or unknown."""
        values = {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}
        return {"schema_version": SCHEMA_VERSION, "tier": "quick", **values, "verdict": self.verdict.value}


def judge(trace: Trace, limit_hz: float, *, engine_changed: bool = False, bundle_changed: bool = False) -> Verdict:
    """Judge a trace of the paced run, tier quick; a pure function.

    PASS: the one-sided 99% Clopper–Pearson bound of the miss rate is at most 1%, and never more than two misses come in
    a row. INVALID, whatever the frames say: engine or bundle changed, frames came slower than ``limit_hz``, or the
    pacer was late (p99 over 1 ms) though cores were idle; late because the cores were taken counts against the device.
    INVALID as well: so few frames that PASS is out of reach and the misses prove nothing either.
    """
    latency = trace.latency_ms
    missed = latency > 1e3 / limit_hz
    frames, misses = len(latency), int(missed.sum())
    run = longest_run(missed)
    bound = miss_rate_upper(misses, frames) if frames else 1.0
    outcome, reason = _invalid(trace, limit_hz, engine_changed, bundle_changed) or _decided(misses, frames, bound, run)
    return Verdict(
        verdict=outcome,
        reason=reason,
        rate_hz=trace.rate_hz,
        frames=frames,
        misses=misses,
        drops=int(trace.dropped.sum()),
        failures=int(trace.failed.sum()),
        miss_rate_upper=bound,
        longest_miss_run=run,
        latency_ms=_percentiles(latency),
        lateness_ms=_percentiles(trace.lateness_ms),
        stages_ms=_stages(trace),
        idle_fraction=trace.idle_fraction,
        taken_fraction=trace.taken_fraction,
    )


def _invalid(trace: Trace, limit_hz: float, engine_changed: bool, bundle_changed: bool) -> tuple[Outcome, str] | None:
    reason = ""
    if bundle_changed:
        reason = "the bundle changed during the measurement"
    elif engine_changed:
        reason = "the engine changed during the measurement"
    elif not len(trace.scheduled):
        reason = "no frames were measured"
    elif trace.rate_hz < limit_hz * (1 - _SHORTFALL):
        reason = f"camera-limited: frames came at {trace.rate_hz:g} Hz, below the {limit_hz:g} Hz asked for"
    elif not np.isfinite(trace.pushed).all():
        reason = "the pacer broke off"
    else:
        late = percentile(trace.lateness_ms, 99)
        excused = trace.idle_fraction < IDLE_CORES or trace.taken_fraction >= TAKEN_CORES
        if late > MAX_LATENESS_MS and not excused:
            idle = "unknown" if math.isnan(trace.idle_fraction) else f"{trace.idle_fraction:.0%}"
            reason = f"the pacer was late (p99 {late:.2f} ms) while cores were idle ({idle} of core time)"
    return (Outcome.INVALID, reason) if reason else None


def _decided(misses: int, frames: int, bound: float, run: int) -> tuple[Outcome, str]:
    if run > MAX_MISS_RUN:
        return Outcome.FAIL, f"{run} misses in a row, more than {MAX_MISS_RUN}"
    if bound <= MAX_MISS_RATE:
        return Outcome.PASS, "not refuted: a screen, not a certificate"
    if frames < fewest_frames(MAX_MISS_RATE) and miss_rate_lower(misses, frames) <= MAX_MISS_RATE:
        needed = fewest_frames(MAX_MISS_RATE)
        return Outcome.INVALID, f"too few frames to tell: {frames}, at least {needed} are needed; measure longer"
    rate = f"{misses} of {frames} frames missed"
    return Outcome.FAIL, f"{rate}: the 99% bound of the miss rate is {bound:.2%}, above {MAX_MISS_RATE:.0%}"


def run_gate(
    bundle_path: Path,
    min_fps: float = 64.0,
    source: str | None = None,
    seconds: float = 30.0,
    warmup_s: float = 5.0,
    engine: str = AUTO,
    precision: str | None = None,
    engines_dir: Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    require_signature: Path | None = None,
) -> tuple[Verdict, Trace]:
    """Measure a bundle on this machine and judge it: frames come at ``min_fps`` from memory, at the source's full size.

    source: what :func:`gensoup.runtime.sources.open_source` takes; None: synthetic frames, 1080p. It is decoded
    beforehand, and its own rate plays no part. engine, precision, engines_dir, threads: as
    :meth:`gensoup.runtime.classifier.Classifier.load` takes them.
    progress: called with frames due so far and all, once a second. require_signature: a file of public keys, one of
    which must have signed the bundle.
    Raises UsageError, BundleError, DataError or EngineError, one line each, for what cannot be measured at all.
    """
    if not 1 <= min_fps <= 1000:
        raise UsageError(f"--min-fps {min_fps:g}: must lie between 1 and 1000")
    classifier = Classifier.load(bundle_path, engine, precision, threads, require_signature, engines_dir)
    engine_name = classifier.engine.name
    ring = load_ring(source)
    trace = run_paced(classifier, ring, min_fps, seconds, warmup_s, progress)
    verdict = judge(
        trace,
        min_fps,
        engine_changed=classifier.engine.name != engine_name,
        bundle_changed=_digest(bundle_path) != classifier.sha256,
    )
    verdict = replace(
        verdict,
        capacity_fps=capacity_fps(classifier, ring, min(_CAPACITY_SECONDS, seconds)),
        engine=engine_name,
        precision=classifier.precision,
        bundle_sha256=classifier.sha256,
        model_sha256=classifier.model_sha256,
        device=fingerprint(engine_name),
    )
    return verdict, trace


def load_ring(source: str | None = None) -> list[Frame]:
    """Frames of ``source`` (None: synthetic, 1080p) in memory: a ring larger than the last-level cache, 1 GiB at most.

    Raises DataError for a source without frames, UsageError for a live one; see
    :func:`gensoup.runtime.sources.open_source`.
    """
    opened = open_source(source or "synthetic")
    if isinstance(opened, LiveSource):
        raise UsageError(f"--source {opened.name}: the gate replays frames from memory; record a video and give that")
    frames: list[Frame] = []
    length = 1
    for frame in opened:
        length = length if frames else ring_length(frame.nbytes)
        if frames and frame.shape != frames[0].shape:
            continue  # images of mixed sizes: a camera has one
        frames.append(frame)
        if len(frames) >= length:
            break
    if not frames:
        raise DataError(f"{opened.name}: holds no frames")
    return fill_ring(frames)


def capacity_fps(classifier: Classifier, ring: Sequence[Frame], seconds: float) -> float | None:
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


def _digest(path: Path) -> str:
    """The bundle's digest now; empty when it is gone or damaged."""
    try:
        return bundle_digest(path.read_bytes())
    except (OSError, BundleError):
        return ""


def _stages(trace: Trace) -> dict[str, dict[str, float]]:
    """arrival: schedule to push; handover: copy and wait for the engine; preprocess; engine. Frames with a result."""
    done = ~(trace.dropped | trace.failed)
    stages = {
        "arrival": trace.lateness_ms[done],
        "handover": (trace.started - trace.pushed)[done] * 1e3,
        "preprocess": trace.preprocess_ms[done],
        "engine": trace.engine_ms[done],
    }
    return {name: _percentiles(values) for name, values in stages.items()}


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    points = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    known = len(values) > 0 and not np.isnan(values).any()
    return {name: percentile(values, q) if known else math.nan for name, q in points.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
