"""Classifiers and cameras with the faults that the gate must notice, around a real bundle; and a very short gate.

    python gate_faults.py BUNDLE [CORE]

Runs that gate in a process of its own, on one core if told: "measuring" .1 s after the warm-up, then the verdict.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gensoup.bench.gate import measure
from gensoup.bench.gate_source import GateFrames, open_frames
from gensoup.bench.judge import judge
from gensoup.bench.measurement import Measurement
from gensoup.bench.tier import QUICK
from gensoup.bench.verdict import Verdict
from gensoup.runtime import Classifier, Prediction
from gensoup.runtime.engines import Engine
from gensoup.runtime.errors import EngineError

# As quick, but within a second: so few frames can tell no more than that less than a fifth of them are missed.
SHORT = replace(QUICK, name="short", seconds=0.75, warmup_s=0.2, max_miss_rate=0.2)
Frame = np.ndarray[Any, Any]


@cache
def small_frames() -> GateFrames:
    return open_frames("synthetic:480p")


def gate(
    classifier: Any,
    bundle: Path,
    frames: GateFrames | None = None,
    progress: Callable[[int, int], None] | None = None,
    seconds: float = SHORT.seconds,
) -> Verdict:
    """The real gate, only shorter, with this classifier in the bundle's place."""
    frames = frames or small_frames()
    start = Measurement(
        tier=replace(SHORT, seconds=seconds),
        min_fps=64.0,
        source=frames.facts,
        engine=classifier.engine.name,
        precision="fp32",
        bundle_sha256=classifier.sha256,
        device={},
        capacity_fps=1.0,  # is not measured again
    )
    return judge(measure(classifier, frames, start, bundle, progress))


class Healthy:
    """A real classifier. Those derived from it have one fault each, in ``before``, which is called with every frame."""

    def __init__(self, bundle: Path) -> None:
        self.real = Classifier.load(bundle, "onnxruntime-cpu", threads=1)
        self.labels, self.sha256 = self.real.labels, self.real.sha256
        self.calls = 0

    @property
    def engine(self) -> Engine:
        return self.real.engine

    def before(self) -> None: ...

    def after(self) -> None: ...

    def __call__(self, frame: Frame) -> Prediction:
        self.calls += 1
        self.before()
        prediction = self.real(frame)
        self.after()
        return prediction


class Slow(Healthy):
    """20 ms a frame."""

    def before(self) -> None:
        time.sleep(0.02)


class Stalling(Healthy):
    """Stands still for 100 ms every ``every_s`` seconds."""

    def __init__(self, bundle: Path, every_s: float = 5.0) -> None:
        super().__init__(bundle)
        self.every_s = every_s
        self.next_at = time.monotonic() + every_s

    def before(self) -> None:
        if time.monotonic() >= self.next_at:
            self.next_at += self.every_s
            time.sleep(0.1)


class SlowWhenPaced(Healthy):
    """Quick back to back; after a rest of 3 ms it takes 20 ms to wake up, as a device does that saves power."""

    rested_since = 0.0

    def before(self) -> None:
        if time.monotonic() - self.rested_since > 3e-3:
            time.sleep(0.02)

    def after(self) -> None:
        self.rested_since = time.monotonic()


class Failing(Healthy):
    """Its engine fails once, for good."""

    def before(self) -> None:
        if self.calls > 50:
            raise EngineError("device lost")


class Camera:
    """A capture of grey frames at ``rate_hz``, ``frames`` of them: what a connection of a live source gives."""

    def __init__(self, rate_hz: float, frames: int | None = None) -> None:
        self.rate_hz, self.frames = rate_hz, frames
        self.start, self.count = time.monotonic(), 0

    def __call__(self) -> Camera:
        return self

    def read(self) -> tuple[float, Frame] | None:
        self.count += 1
        if self.frames is not None and self.count > self.frames:
            return None
        time.sleep(max(0.0, self.start + self.count / self.rate_hz - time.monotonic()))
        return time.monotonic(), np.full((480, 640, 3), 90, np.uint8)

    def release(self) -> None: ...


def main() -> None:
    """See the module's documentation."""
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    told: list[int] = []

    def progress(done: int, total: int) -> None:
        if done > 0.1 * total:
            told.append(done)
            if len(told) == 2:  # the first was the warm-up's last; frames are pushed by another thread
                time.sleep(0.1)
                print("measuring", flush=True)

    bundle = Path(sys.argv[1])
    verdict = gate(Healthy(bundle), bundle, progress=progress)
    print(json.dumps(verdict.to_dict()), flush=True)


if __name__ == "__main__":
    main()
