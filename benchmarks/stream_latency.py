"""A live endoscope's frames through our Stream and through a plain loop: latency, misses, drops, processor time.

    python benchmarks/stream_latency.py BUNDLE [--seconds 30] [--rounds 1] [--rate 64] [--engine auto] [--json FILE]

1080p frames from a ring larger than the last-level cache are due at a fixed rate; latency runs from when a frame was
due to its result. The plain loop is what one writes first: wait for the newest frame, ``cv2.resize``, ONNX Runtime's
session, the same graph; once with ONNX Runtime as it comes, once with our thread settings. A frame that is due while
an earlier one is still in work is a drop where a newer one is due as well, in the loop as in the stream. Nothing spins
while it waits. The ways take turns, ``--rounds`` times.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from gensoup.bench.paced import fill_ring, ring_length
from gensoup.runtime import Classifier, Result, Stream, load_guarded
from gensoup.runtime.bundle import Bundle, read_bundle
from gensoup.runtime.classifier import FrameClassifier
from gensoup.runtime.device import default_threads, usable_cores
from gensoup.runtime.sources import open_source

WARM_UP_S = 3.0
GOAL_P99_MS = 10.0


@dataclass
class Taken:
    """Latencies of the frames that have a result, ms; frames due, and the cores that were busy for all of it."""

    latencies: list[float]
    due: int
    cores: float

    def row(self, limit_ms: float) -> dict[str, float]:
        """Percentiles over the frames that have a result; misses: late ones and drops."""
        p50, p99 = np.percentile(self.latencies, [50, 99])
        drops = self.due - len(self.latencies)
        misses = drops + sum(latency > limit_ms for latency in self.latencies)
        return {
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
            "max_ms": round(max(self.latencies), 2),
            "misses": misses,
            "drops": drops,
            "frames": self.due,
            "busy_cores": round(self.cores, 3),
        }


Way = Callable[[list[np.ndarray], float, float], Taken]


def wait_for_frame(start: float, number: int, rate: float, total: int) -> int:
    """Sleep until frame ``number`` is due, at start + number / rate; give the newest that is due then."""
    time.sleep(max(0.0, start + number / rate - time.monotonic()))
    return min(total - 1, max(number, int((time.monotonic() - start) * rate)))


def plain_loop(bundle: Bundle, threads: int | None) -> Way:
    """Wait, resize, run. threads: of the session, which then does not spin; None: ONNX Runtime as it comes."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
    size = bundle.manifest.preprocess.size

    def run(ring: list[np.ndarray], rate: float, seconds: float) -> Taken:
        total, number, latencies = round((seconds + WARM_UP_S) * rate), 0, []
        warm_up = round(WARM_UP_S * rate)
        start = time.monotonic() + 0.1
        clock, wall = time.process_time(), time.monotonic()
        while number < total:
            number = wait_for_frame(start, number, rate, total)
            small = cv2.resize(ring[number % len(ring)], (size, size))
            probabilities = session.run(["probabilities"], {"frame": small[None]})[0][0]
            int(np.argmax(probabilities))
            if number >= warm_up:
                latencies.append((time.monotonic() - start - number / rate) * 1e3)
            number += 1
        busy = (time.process_time() - clock) / (time.monotonic() - wall)
        return Taken(latencies, total - warm_up, busy)

    return run


def stream(classifier: FrameClassifier) -> Way:
    """Our stream, pushed by a thread in place of the camera's."""

    def run(ring: list[np.ndarray], rate: float, seconds: float) -> Taken:
        total, warm_up = round((seconds + WARM_UP_S) * rate), round(WARM_UP_S * rate)
        latencies: list[float] = []
        start = time.monotonic() + 0.1

        def take(result: Result) -> None:
            assert result.prediction is not None, result.error
            if result.captured_at >= start + (warm_up - 0.5) / rate:
                latencies.append(result.age_ms)

        with Stream(classifier, take, sink_size=64) as opened:

            def capture() -> None:
                number = 0
                while number < total:
                    number = wait_for_frame(start, number, rate, total)
                    opened.push(ring[number % len(ring)], captured_at=start + number / rate)
                    number += 1

            camera = threading.Thread(target=capture)
            clock, wall = time.process_time(), time.monotonic()
            camera.start()
            camera.join()
            opened.drain()
            busy = (time.process_time() - clock) / (time.monotonic() - wall)
            assert opened.undelivered == 0
        return Taken(latencies, total - warm_up, busy)

    return run


def main() -> None:
    """Measure the ways in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=64.0)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--source", default="synthetic")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bundle = read_bundle(options.bundle)
    source = iter(open_source(options.source))
    first = next(source)
    ring = fill_ring([first, *islice(source, ring_length(first.nbytes) - 1)])
    loaded = Classifier.load(options.bundle, options.engine, threads=options.threads)
    guarded = load_guarded(options.bundle, options.engine, threads=options.threads)
    threads = options.threads or default_threads()
    ways: dict[str, Way] = {
        "plain loop": plain_loop(bundle, None),
        f"plain loop, {threads} thread{'s' * (threads > 1)}, no spinning": plain_loop(bundle, threads),
        f"Stream, {loaded.engine.name} {loaded.precision}": stream(loaded),
        "Stream with fail-over": stream(guarded),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            taken[name].append(way(ring, options.rate, options.seconds))
    limit_ms = 1e3 / options.rate
    height, width = first.shape[:2]
    print(
        f"{height}p ({width} × {height}) at {options.rate:g} Hz, {options.rounds} × {options.seconds:g} s, "
        f"{bundle.manifest.architecture} at {bundle.manifest.preprocess.size} px, {usable_cores()} cores, "
        f"limit {limit_ms:.3f} ms\n"
    )
    print("| way | p50, ms | p99, ms | max, ms | misses | drops | frames | busy cores |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows: dict[str, dict[str, float]] = {}
    for name, parts in taken.items():
        merged = Taken(
            [latency for part in parts for latency in part.latencies],
            sum(part.due for part in parts),
            float(np.mean([part.cores for part in parts])),
        )
        row = merged.row(limit_ms)
        rows[name] = row
        print(f"| {name} | " + " | ".join(f"{value:g}" for value in row.values()) + " |", flush=True)
    plain, *_, ours = rows.values()
    held = {
        "no drops": ours["drops"] == 0,
        f"p99 ≤ {GOAL_P99_MS:g} ms": ours["p99_ms"] <= GOAL_P99_MS,
        "no more processor time than the plain loop": ours["busy_cores"] <= plain["busy_cores"],
    }
    print("\nStream with fail-over: " + ", ".join(f"{goal}: {'yes' if met else 'no'}" for goal, met in held.items()))
    guarded.close(engines=True)
    if options.json:
        options.json.write_text(json.dumps([{"way": name, **row} for name, row in rows.items()], indent=1) + "\n")


if __name__ == "__main__":
    main()
