"""Measurements of the gate made up from latencies, to be judged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gensoup.bench.measurement import GateSource, Measurement
from gensoup.bench.tier import CERTIFY, QUICK, Tier
from gensoup.bench.trace import Trace

LIMIT_MS = 1000 / 64
SHA = "ab" * 32


def trace_of(
    latencies_ms: np.ndarray, *, late_ms: float = 0.0, idle: float = 0.5, taken: float = 0.0, rate: float = 64.0
) -> Trace:
    """A trace with these latencies; ∞ is a drop. The clocks ran alike, the process never waited for a core."""
    count = len(latencies_ms)
    scheduled = 100 + np.arange(count) / rate
    dropped = np.isinf(latencies_ms)
    stage = np.where(dropped, math.nan, 0.5)
    seconds = 100 + np.arange(max(1, round(count / rate)) + 1.0)
    return Trace(
        scheduled=scheduled,
        pushed=scheduled + late_ms / 1e3,
        started=np.where(dropped, math.nan, scheduled + 1e-3),
        done=np.where(dropped, math.nan, scheduled + np.where(dropped, 0, latencies_ms) / 1e3),
        preprocess_ms=stage,
        engine_ms=stage * 10,
        dropped=dropped,
        failed=np.zeros(count, bool),
        rate_hz=rate,
        idle_fraction=idle,
        own_fraction=1 - idle - taken,
        waited_s=np.zeros(count),
        cpu_s=np.full(count, 4e-3),
        clocks=np.stack([seconds, seconds + 50, seconds + 1.7e9], axis=1),
        bundle_after=SHA,
    )


def latencies(count: int = 1920, **at: float) -> np.ndarray:
    """8 ms each, except where told (``_7=20.0``)."""
    values = np.full(count, 8.0)
    for place, value in at.items():
        values[int(place[1:])] = value
    return values


def spread(misses: int, value: float = 20.0, count: int = 1920) -> np.ndarray:
    """8 ms each, but for some misses far apart."""
    values = latencies(count)
    values[np.arange(misses) * (count // max(misses, 1))] = value
    return values


def measurement_of(*traces: Trace, tier: Tier = QUICK, min_fps: float = 64.0, **changes: Any) -> Measurement:
    """A finished measurement of these repetitions."""
    plain = Measurement(
        tier=tier,
        min_fps=min_fps,
        source=GateSource("synthetic", "synthetic", 1080, 1920, 11),
        engine="onnxruntime-cpu",
        precision="fp32",
        bundle_sha256=SHA,
        device={"cpu": "a processor", "cores": 4},
        repetitions=traces,
        started_at="2026-01-02T03:04:05+00:00",
        gensoup="0.1.0",
    )
    return replace(plain, **changes)


def certified(*values: np.ndarray, **changes: Any) -> Measurement:
    """Tier certify, three repetitions: these latencies, healthy ones for those that are not given."""
    rest = (latencies(38_400),) * (3 - len(values))
    return measurement_of(*(trace_of(each) for each in (*values, *rest)), tier=CERTIFY, **changes)
