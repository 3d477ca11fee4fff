"""What the gate itself costs: a classifier that does nothing, at 1080p and 64 Hz.

    python benchmarks/overhead.py [--seconds 60] [--json FILE]

Wanted: 99% of the frames within 1 ms, and at most 10% of one core beside the copy of the frame, which every capture
loop needs as well. The last row adds smoothing over time, which belongs to what the gate measures; the first is the
copy alone, at the same pace, from when a frame was due: what a machine's memory and scheduler leave room for.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gensoup.bench.gate_source import open_frames
from gensoup.bench.paced import run_paced
from gensoup.bench.statistics import percentile
from gensoup.runtime.classifier import Prediction
from gensoup.runtime.device import cpu_times, fingerprint, usable_cores
from gensoup.runtime.smoothing import Labelling, Smoother, Smoothing

RATE_HZ = 64.0
WARM_UP_S = 2.0
GOAL_P99_MS, GOAL_CORE = 1.0, 0.10
LABELS = ("normal", "polyp")


class Nothing:
    """Answers at once, always the same."""

    name = "nothing"

    def __init__(self) -> None:
        self.engine: Any = self
        self._answer = Prediction(LABELS[0], 0, 0.9, np.array([0.9, 0.1], np.float32), 0.0, 0.0)

    def __call__(self, frame: np.ndarray) -> Prediction:
        return self._answer


def copy_alone(ring: Sequence[np.ndarray], seconds: float) -> dict[str, Any]:
    """The frames copied when they are due, and nothing else done with them."""
    buffer, frames = np.empty_like(ring[0]), round(seconds * RATE_HZ)
    latency, late = np.empty(frames), np.empty(frames)
    due, used, started, before = time.monotonic(), time.process_time(), time.monotonic(), cpu_times()
    for number in range(frames):
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        late[number] = time.monotonic() - due
        np.copyto(buffer, ring[number % len(ring)])
        latency[number] = time.monotonic() - due
    cores, after = (time.process_time() - used) / (time.monotonic() - started), cpu_times()
    idle = before.idle_fraction_until(after) if before is not None and after is not None else None
    return {
        "what": "copying the frames alone",
        **{f"p{q}_ms": round(percentile(latency * 1e3, q), 3) for q in (50, 99, 100)},
        "pacer_p99_ms": round(percentile(late * 1e3, 99), 3),
        "busy_cores": round(cores, 4),
        "beside_the_copy": 0.0,
        "taken_by_others": math.nan if idle is None else round(max(0.0, 1 - idle - cores / usable_cores()), 3),
    }


def row(name: str, ring: Sequence[np.ndarray], seconds: float, copying: float, smoother: Any) -> dict[str, Any]:
    """One way of running it."""
    trace = run_paced(Nothing(), ring, RATE_HZ, seconds, WARM_UP_S, smoother=smoother)
    latency, cores = trace.latency_ms, trace.own_fraction * usable_cores()
    return {
        "what": name,
        **{f"p{q}_ms": round(percentile(latency, q), 3) for q in (50, 99, 100)},
        "pacer_p99_ms": round(percentile(trace.lateness_ms, 99), 3),
        "busy_cores": round(cores, 4),
        "beside_the_copy": round(cores - copying, 4),
        "taken_by_others": round(trace.taken_fraction, 3),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ring = open_frames("synthetic", "1080p").ring
    copied = copy_alone(ring, options.seconds)
    copying = copied["busy_cores"]
    rows = [
        copied,
        row("the gate alone", ring, options.seconds, copying, None),
        row("and smoothing", ring, options.seconds, copying, Smoother(Labelling.of(LABELS), Smoothing())),
    ]
    print("| what | p50, ms | p99, ms | max, ms | pacer late, p99, ms | one core | beside the copy | taken by others |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for values in rows:
        print(
            f"| {values['what']} | {values['p50_ms']:.2f} | {values['p99_ms']:.2f} | {values['p100_ms']:.2f} | "
            f"{values['pacer_p99_ms']:.2f} | {values['busy_cores']:.1%} | {values['beside_the_copy']:.1%} | "
            f"{values['taken_by_others']:.0%} |"
        )
    alone = rows[1]
    reached = alone["p99_ms"] <= GOAL_P99_MS and alone["beside_the_copy"] <= GOAL_CORE
    print(
        f"\ncopying the frames: {copying:.1%} of one core; wanted: p99 ≤ {GOAL_P99_MS:g} ms and ≤ {GOAL_CORE:.0%} of "
        f"one core beside it: {'reached' if reached else 'not reached'}"
    )
    if options.json is not None:
        values = {"device": fingerprint(), "copying": copying, "rows": rows, "reached": reached}
        options.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
