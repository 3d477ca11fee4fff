"""From a measurement to a verdict: a pure function, so that a trace is judged anew as it was judged at first."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gensoup.bench.clocks import clock_faults, longest_gap_s, waited_for_cores
from gensoup.bench.finding import Finding, Kind
from gensoup.bench.measurement import Measurement
from gensoup.bench.pacer import RATE_SHORTFALL
from gensoup.bench.repetition import joined, percentiles, stages, statistics_of
from gensoup.bench.statistics import fewest_frames, miss_rate_lower
from gensoup.bench.tier import CONFIDENCE, DRIFT_OF_LIMIT, DRIFT_RATIO
from gensoup.bench.trace import Trace
from gensoup.bench.verdict import Limits, Outcome, RepetitionStatistics, Verdict

MAX_LATENESS_MS = 1.0
# At least this share of all core time idle: then a core was free for the pacer, and its lateness is a measuring fault.
IDLE_CORES = 0.15
# At least this share of it taken by others: then the pacer's lateness may be theirs, and counts against the device.
TAKEN_CORES = 0.10
_GAP_PERIODS = 3.0
# Of a repetition's frames: a camera may send a few less than asked for, and begins and ends when it does.
_WHOLE, _EDGES = 0.99, 2
_ROUNDING = 1e-9


def judge(measurement: Measurement) -> Verdict:
    """INVALID as soon as anything says that the measurement is; else FAIL as soon as anything fails; else PASS.

    The rules are the tier's, on every repetition by itself; ``measurement.findings`` count like the gate's own.
    """
    tier, limits = measurement.tier, limits_of(measurement)
    traces = measurement.repetitions
    statistics = tuple(statistics_of(number, trace, limits) for number, trace in enumerate(traces, 1))
    found: list[Finding] = []
    for repetition, trace in zip(statistics, traces, strict=True):
        found += [*_invalid(repetition, trace, measurement), *_failed(repetition, statistics[0], limits)]
    found += [*_taken(statistics), *measurement.findings, *_incomplete(measurement), *_interrupted(measurement)]
    decisive = [finding for finding in found if _weight(finding, limits) == 0]
    failed = [finding for finding in found if _weight(finding, limits) == 1]
    if not measurement.complete and failed:  # what is missing cannot mend it
        decisive = [finding for finding in decisive if finding.source != _UNFINISHED]
    outcome = Outcome.INVALID if decisive else Outcome.FAIL if failed else Outcome.PASS
    reasons = decisive or failed
    latency = joined([trace.latency_ms for trace in traces])
    block_bounds = [each.block_rate_upper for each in statistics if each.block_rate_upper is not None]
    return Verdict(
        verdict=outcome,
        reason=_said(reasons[0], measurement) if reasons else _passed(statistics, measurement),
        tier=tier.name,
        claim=tier.claim,
        rate_hz=measurement.min_fps,
        limits=limits,
        source=measurement.source,
        frames=sum(each.frames for each in statistics),
        misses=sum(each.misses for each in statistics),
        drops=sum(each.drops for each in statistics),
        failures=sum(each.failures for each in statistics),
        miss_rate_upper=max((each.miss_rate_upper for each in statistics), default=1.0),
        block_rate_upper=max(block_bounds, default=None),
        longest_miss_run=max((each.longest_miss_run for each in statistics), default=0),
        latency_ms=percentiles(latency),
        lateness_ms=percentiles(joined([trace.lateness_ms for trace in traces])),
        stages_ms=stages(traces),
        idle_fraction=min((each.idle_fraction for each in statistics), default=math.nan),
        taken_fraction=max((each.taken_fraction for each in statistics), default=math.nan),
        repetitions=statistics,
        findings=tuple(sorted(found, key=lambda finding: _weight(finding, limits))),
        complete=measurement.complete,
        interruptions=measurement.interruptions,
        capacity_fps=measurement.capacity_fps,
        engine=measurement.engine,
        precision=measurement.precision,
        bundle_sha256=measurement.bundle_sha256,
        device=measurement.device,
        started_at=measurement.started_at,
        gensoup=measurement.gensoup,
        threads=measurement.threads,
    )


def limits_of(measurement: Measurement) -> Limits:
    """What the tier demands at the measurement's frame rate."""
    tier, latency_ms = measurement.tier, 1e3 / measurement.min_fps
    return Limits(
        rate_hz=measurement.min_fps,
        latency_ms=latency_ms,
        max_miss_rate=tier.max_miss_rate,
        confidence=CONFIDENCE,
        max_miss_run=tier.max_miss_run,
        block_s=tier.block_s,
        drift_s=tier.drift_s,
        drift_ratio=DRIFT_RATIO,
        drift_ms=DRIFT_OF_LIMIT * latency_ms,
        throttling_fails=tier.throttling_fails,
    )


_UNFINISHED = "gate: unfinished"


def camera_limited(trace: Trace, min_fps: float) -> bool:
    """Whether its frames came more seldom than ``min_fps``; of one frame alone, nothing can be told."""
    return trace.rate_hz < min_fps * (1 - (RATE_SHORTFALL if trace.live else _ROUNDING))


def _incomplete(measurement: Measurement) -> Iterator[Finding]:
    done, wanted = len(measurement.repetitions), measurement.tier.repetitions
    text = f"{done} of {wanted} repetitions were measured; --resume measures the rest"
    if done < wanted:
        yield Finding(Kind.INVALID, text, _UNFINISHED)


def _interrupted(measurement: Measurement) -> Iterator[Finding]:
    if (times := measurement.interruptions) > 0:
        often = "once" if times == 1 else f"{times} times"
        text = f"broken off and taken up again {often}: the device may have cooled, and what was under way is lost"
        yield Finding(Kind.NOTE, text)


def _taken(statistics: tuple[RepetitionStatistics, ...]) -> Iterator[Finding]:
    """Cores that others took decide nothing, but who reads FAIL should know of them."""
    taken = max((each.taken_fraction for each in statistics), default=math.nan)
    if taken >= TAKEN_CORES:
        told = f"others took {taken:.0%} of all cores' time: the verdict is of the device under that load"
        yield Finding(Kind.NOTE, f"{told}; to know it without, let the machine rest and measure again")


def _invalid(repetition: RepetitionStatistics, trace: Trace, measurement: Measurement) -> Iterator[Finding]:
    def invalid(text: str) -> Finding:
        return Finding(Kind.INVALID, text, repetition=repetition.number)

    if trace.bundle_after is not None and trace.bundle_after != measurement.bundle_sha256:
        yield invalid("the bundle changed during the measurement")
    if trace.fell_back:
        yield invalid(f"the engine fell back during the measurement ({trace.fell_back[0]})")
    if not len(trace.scheduled):
        yield invalid(f"no frames were measured{f': {trace.source_failure}' if trace.source_failure else ''}")
        return
    if trace.source_failure:
        yield invalid(f"the source ended early: {trace.source_failure}")
    if camera_limited(trace, measurement.min_fps):
        remedy = "; ask the camera for more, such as camera:0:1080p@60, or lower --min-fps" if trace.live else ""
        yield invalid(
            f"camera-limited: frames came at {trace.rate_hz:.4g} Hz, below the {measurement.min_fps:g} Hz asked "
            f"for{remedy}"
        )
    if not np.isfinite(trace.lateness_ms).all():
        yield invalid("the pacer broke off")
        return
    if trace.live:
        gap = longest_gap_s(trace)
        if gap > _GAP_PERIODS / measurement.min_fps:
            yield invalid(f"no frame arrived for {gap:.2f} s: the camera, or this process, stood still")
    if repetition.paused_s:
        yield invalid(f"the process was paused for {repetition.paused_s:.2f} s: stopped, frozen or held; measure again")
    for fault in clock_faults(trace.clocks):
        yield invalid(fault)
    late = repetition.lateness_ms["p99"]
    busy = trace.idle_fraction < IDLE_CORES or trace.taken_fraction >= TAKEN_CORES
    excused = busy or waited_for_cores(trace, MAX_LATENESS_MS)
    if late > MAX_LATENESS_MS and not excused and not trace.live:
        idle = "unknown" if math.isnan(trace.idle_fraction) else f"{trace.idle_fraction:.0%}"
        told = f"the pacer was late (p99 {late:.2f} ms) while cores were idle ({idle} of core time)"
        yield invalid(f"{told}: frames were not sent when due; measure again")
    most, most_run = measurement.tier.max_miss_rate, measurement.tier.max_miss_run
    whole = math.ceil(_WHOLE * measurement.tier.seconds * measurement.min_fps) - _EDGES
    needed = max(fewest_frames(most), whole)
    refuted = most_run is not None and repetition.longest_miss_run > most_run
    if repetition.frames < needed and not refuted and miss_rate_lower(repetition.misses, repetition.frames) <= most:
        yield invalid(f"too few frames to tell: {repetition.frames}, at least {needed} are needed")


def _failed(repetition: RepetitionStatistics, first: RepetitionStatistics, limits: Limits) -> Iterator[Finding]:
    def failed(text: str) -> Finding:
        return Finding(Kind.FAIL, text, repetition=repetition.number)

    run, most = repetition.longest_miss_run, limits.max_miss_rate
    missed = f"{repetition.misses} of {repetition.frames} frames missed"
    if repetition.frames and repetition.miss_rate_upper > most:
        yield failed(f"{missed}: the 99% bound of the miss rate is {repetition.miss_rate_upper:.2%}, above {most:.0%}")
    elif repetition.block_rate_upper is not None and repetition.block_rate_upper > most:
        bound = f"the 99% bound from blocks of {limits.block_s:g} s is {repetition.block_rate_upper:.2%}"
        yield failed(f"{missed}, in clusters (longest run {run}): {bound}, above {most:.0%}")
    if limits.max_miss_run is not None and run > limits.max_miss_run:
        yield failed(f"{run} misses in a row, more than {limits.max_miss_run}")
    last = repetition.last_p99_ms
    if last is None or last <= limits.drift_ms:
        return
    for base, name in ((repetition, "its first"), (first, "the first repetition's first")):
        if base.first_p99_ms is not None and last > limits.drift_ratio * base.first_p99_ms:
            yield failed(
                f"drift: the 99th percentile of the last {limits.drift_s:g} s is {_ms(last)}, "
                f"that of {name} {_ms(base.first_p99_ms)}"
            )
            return


def _ms(value: float) -> str:
    return "infinite (drops)" if math.isinf(value) else f"{value:.1f} ms"


def _weight(finding: Finding, limits: Limits) -> int:
    """0: makes the measurement invalid; 1: fails the device; 2: decides nothing."""
    if finding.kind is Kind.INVALID:
        return 0
    throttled = finding.kind is Kind.THROTTLED and limits.throttling_fails
    return 1 if finding.kind is Kind.FAIL or throttled else 2


def _said(finding: Finding, measurement: Measurement) -> str:
    several = measurement.tier.repetitions > 1 and finding.repetition is not None
    return f"repetition {finding.repetition}: {finding.text}" if several else finding.text


def _passed(statistics: tuple[RepetitionStatistics, ...], measurement: Measurement) -> str:
    worst = max(statistics, key=lambda each: each.misses)
    bound = max(max(each.miss_rate_upper, each.block_rate_upper or 0.0) for each in statistics)
    counted = f"{worst.misses} of {worst.frames} frames missed"
    if measurement.tier.repetitions > 1:
        counted = f"in each of {len(statistics)} repetitions at most {counted}"
    return f"{measurement.tier.claim}: {counted}, 99% bound {bound:.2%} of {measurement.tier.max_miss_rate:.0%}"
