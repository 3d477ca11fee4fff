"""The gate's answer and the numbers behind it: what ``gensoup bench --json`` holds, and what reports are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from gensoup.bench.finding import Finding
from gensoup.bench.measurement import GateSource
from gensoup.runtime.errors import DataError

SCHEMA_VERSION = 2
Percentiles = dict[str, float]  # p50, p95, p99, max: milliseconds; drops and failures are infinite latencies


class Outcome(str, Enum):
    """PASS: see the tier's claim. FAIL: does not keep up. INVALID: the measurement says nothing."""

    PASS = "PASS"
    FAIL = "FAIL"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """Of ``gensoup bench``: 0, 1 or 2."""
        return list(Outcome).index(self)


@dataclass(frozen=True)
class Limits:
    """What was demanded. latency_ms: a frame's time at the limit; a later result is a miss. The rest as
    :class:`gensoup.bench.tier.Tier` has it; confidence: of the bounds, one-sided."""

    rate_hz: float
    latency_ms: float
    max_miss_rate: float
    confidence: float
    max_miss_run: int | None
    block_s: float | None
    drift_s: float | None
    drift_ratio: float
    drift_ms: float
    throttling_fails: bool


@dataclass(frozen=True)
class RepetitionStatistics:
    """One repetition. number: 1, 2, … miss_rate_upper: the exact bound by count. block_rate_upper: the bound from the
    means of blocks, None where the tier has none. first_p99_ms, last_p99_ms: what drift is judged by, None without.

    idle_fraction, taken_fraction: shares of all cores' time idle and taken by others, NaN where unknown. rate_hz: of
    the arrivals. paused_s: for how long the process stood still, of all its pauses together.
    """

    number: int
    frames: int
    misses: int
    drops: int
    failures: int
    miss_rate_upper: float
    block_rate_upper: float | None
    longest_miss_run: int
    latency_ms: Percentiles
    lateness_ms: Percentiles
    first_p99_ms: float | None
    last_p99_ms: float | None
    rate_hz: float
    idle_fraction: float
    taken_fraction: float
    paused_s: float


@dataclass(frozen=True)
class Verdict:
    """The answer. reason: one sentence that says why. findings: all that was found, what decided first.

    rate_hz: the limit. frames, misses, drops, failures: of all repetitions together, the percentiles too.
    miss_rate_upper, block_rate_upper, longest_miss_run, idle_fraction, taken_fraction: of the worst repetition.
    stages_ms: arrival, handover, preprocess, engine, delivery. claim: what a PASS of this tier says. complete: all
    repetitions of the tier were measured. capacity_fps: closed-loop frames a second, for information; None where it was
    not measured. threads: of the engine, None: its default.
    """

    verdict: Outcome
    reason: str
    tier: str
    claim: str
    rate_hz: float
    limits: Limits
    source: GateSource
    frames: int
    misses: int
    drops: int
    failures: int
    miss_rate_upper: float
    block_rate_upper: float | None
    longest_miss_run: int
    latency_ms: Percentiles
    lateness_ms: Percentiles
    stages_ms: dict[str, Percentiles]
    idle_fraction: float
    taken_fraction: float
    repetitions: tuple[RepetitionStatistics, ...]
    findings: tuple[Finding, ...]
    complete: bool
    interruptions: int
    capacity_fps: float | None
    engine: str
    precision: str
    bundle_sha256: str
    device: Mapping[str, Any]
    started_at: str
    gensoup: str
    threads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``gensoup bench --json``: plain values, None for what is infinite or unknown."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["limits"], values["source"] = vars(self.limits), vars(self.source)
        values["repetitions"] = [vars(repetition) for repetition in self.repetitions]
        values["findings"] = [finding.to_dict() for finding in self.findings]
        values["verdict"] = self.verdict.value
        return {"schema_version": SCHEMA_VERSION, **_plain(values)}


def check_schema(values: Any, path: Path) -> dict[str, Any]:
    """The values of a ``gensoup bench --json`` file, read as JSON. Raises DataError, naming the file, for others."""
    if not isinstance(values, dict) or not isinstance(values.get("schema_version"), int) or "verdict" not in values:
        raise DataError(f"{path}: not a verdict of gensoup bench; give a file that --json wrote")
    if values["schema_version"] != SCHEMA_VERSION:
        raise DataError(
            f"{path}: verdict of schema {values['schema_version']}, this gensoup reads {SCHEMA_VERSION}; "
            "judge its trace again: gensoup bench --from-trace"
        )
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
