"""One repetition's numbers: misses and their bounds, percentiles over infinite latencies, stages."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.clocks import paused_seconds
from gensoup.bench.statistics import block_rate_upper, block_rates, longest_run, miss_rate_upper, percentile
from gensoup.bench.trace import Trace
from gensoup.bench.verdict import Limits, Percentiles, RepetitionStatistics


def statistics_of(number: int, trace: Trace, limits: Limits) -> RepetitionStatistics:
    """All that the rules look at, of the repetition of that number, from 1 on."""
    latency = trace.latency_ms
    missed, nowhere = _with_lost(latency > limits.latency_ms, trace, limits.rate_hz)
    frames, misses = len(missed) + nowhere, int(missed.sum()) + nowhere
    first = last = None
    if limits.drift_s is not None and len(latency):
        first = percentile(latency[trace.scheduled < trace.scheduled[0] + limits.drift_s], 99)
        last = percentile(latency[trace.scheduled > trace.scheduled[-1] - limits.drift_s], 99)
    return RepetitionStatistics(
        number=number,
        frames=frames,
        misses=misses,
        drops=int(trace.dropped.sum()) + trace.lost,
        failures=int(trace.failed.sum()),
        miss_rate_upper=miss_rate_upper(misses, frames, limits.confidence) if frames else 1.0,
        block_rate_upper=_block_bound(missed, nowhere, trace, limits),
        longest_miss_run=longest_run(missed),
        latency_ms=percentiles(latency),
        lateness_ms=percentiles(trace.lateness_ms),
        first_p99_ms=first,
        last_p99_ms=last,
        rate_hz=trace.rate_hz,
        idle_fraction=trace.idle_fraction,
        taken_fraction=trace.taken_fraction,
        paused_s=paused_seconds(trace),
    )


def _with_lost(missed: NDArray[np.bool_], trace: Trace, rate_hz: float) -> tuple[NDArray[np.bool_], int]:
    """``missed`` with a live source's lost frames, put into its longest gaps; how many of them found no place."""
    if not trace.lost or len(missed) < 2:
        return missed, trace.lost
    gaps = np.nan_to_num(np.diff(trace.scheduled) * min(rate_hz, trace.rate_hz))
    room = (np.round(gaps) - 1).clip(0, trace.lost).astype(int)
    longest_first = np.argsort(-gaps, kind="stable")
    filled = np.zeros_like(room)
    filled[longest_first] = np.diff(np.minimum(np.cumsum(room[longest_first]), trace.lost), prepend=0)
    return np.insert(missed, np.repeat(np.arange(1, len(missed)), filled), True), trace.lost - int(filled.sum())


def _block_bound(missed: NDArray[np.bool_], nowhere: int, trace: Trace, limits: Limits) -> float | None:
    """None where the tier has none, 1.0 where there are too few blocks. ``nowhere``: lost frames, for every block."""
    if limits.block_s is None:
        return None
    rates = block_rates(missed, limits.block_s * min(limits.rate_hz, trace.rate_hz)) if len(missed) else np.zeros(0)
    if len(rates) < 2:
        return 1.0
    return min(1.0, float(block_rate_upper(rates, limits.confidence)) + nowhere / (len(missed) + nowhere))


def stages(traces: tuple[Trace, ...]) -> dict[str, Percentiles]:
    """arrival: schedule to push; handover: copy and wait for the engine; preprocess; engine; delivery: smoothing and
    what else follows. Of frames with a result."""
    stages: dict[str, list[NDArray[np.float64]]] = {
        name: [] for name in ("arrival", "handover", "preprocess", "engine", "delivery")
    }
    for trace in traces:
        done = ~(trace.dropped | trace.failed)
        spent = (trace.done - trace.started)[done] * 1e3
        stages["arrival"].append(trace.lateness_ms[done])
        stages["handover"].append((trace.started - trace.pushed)[done] * 1e3)
        stages["preprocess"].append(trace.preprocess_ms[done])
        stages["engine"].append(trace.engine_ms[done])
        stages["delivery"].append(spent - trace.preprocess_ms[done] - trace.engine_ms[done])
    return {name: percentiles(joined(parts)) for name, parts in stages.items()}


def joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One array of several, or of none."""
    return np.concatenate([np.zeros(0), *parts])


def percentiles(values: NDArray[np.float64]) -> Percentiles:
    """NaN each for no values or unknown ones."""
    points = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    known = len(values) > 0 and not np.isnan(values).any()
    return {name: percentile(values, q) if known else math.nan for name, q in points.items()}
